"""`yolo-distill COMMAND key=value ...`: one command table; everything is parsed before anything heavy is imported."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from yolo_distill import __version__
from yolo_distill.errors import DistillError, RequestError, did_you_mean
from yolo_distill.settings import explain, resolve, split_pairs

# Each name is a module in yolo_distill/commands that has SUMMARY, SETTINGS and run(settings, extra).
COMMANDS = ("train", "val", "export", "predict", "webcam", "demo")

INTERRUPTED = 130  # 128 + SIGINT, what shells expect after Ctrl-C


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0 done, 1 failed, 2 bad request, 130 interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = any(word.lower() in {"debug=true", "debug=1"} for word in words)
    words = [word for word in words if not word.lower().startswith("debug=")]
    try:
        return _dispatch(words)
    except DistillError as error:
        if debug:
            raise
        return _complain(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output (head, less) went away; give Python no chance to complain about the flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE if hasattr(signal, "SIGPIPE") else 1
    except Exception as error:
        if debug:
            raise
        text = " ".join(str(error).split()) or "no message"
        return _complain(f"{type(error).__name__}: {text} (debug=true shows where)", 1)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in {"help", "-h", "--help"}:
        print(_overview())
        return 0
    if words[0] in {"version", "--version", "-V"}:
        print(__version__)
        return 0
    command = _load(words[0])
    if any(word in {"help", "-h", "--help"} for word in words[1:]):
        print(f"yolo-distill {words[0]}: {command.SUMMARY}\n\n{explain(command.SETTINGS)}")
        if notes := getattr(command, "NOTES", ""):
            print(f"\n{notes}")
        return 0
    pairs = split_pairs(words[1:])
    if getattr(command, "PASSES_HOST_SETTINGS", False):
        own = {key: value for key, value in pairs.items() if key in command.SETTINGS}
        rest = {key: value for key, value in pairs.items() if key not in command.SETTINGS}
        return int(command.run(resolve(own, command.SETTINGS), rest) or 0)
    return int(command.run(resolve(pairs, command.SETTINGS)) or 0)


def _load(name: str) -> ModuleType:
    if name not in COMMANDS:
        raise RequestError(f"unknown command {name!r}{did_you_mean(name, COMMANDS)} (known: {', '.join(COMMANDS)})")
    return import_module(f"yolo_distill.commands.{name}")


def _overview() -> str:
    rows = "\n".join(f"  {name:<8}  {_load(name).SUMMARY}" for name in COMMANDS)
    return (
        f"yolo-distill {__version__}: teach a nano YOLO what a large one knows\n\n"
        f"usage: yolo-distill COMMAND key=value ...\n\n{rows}\n\n"
        "yolo-distill COMMAND --help lists a command's settings; debug=true shows tracebacks."
    )


def _complain(message: str, code: int) -> int:
    print(f"yolo-distill: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
