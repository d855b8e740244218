"""`yolo-distill COMMAND key=value ...`: one command table; everything is parsed before anything heavy is imported."""

from __future__ import annotations

import errno
import gc
import os
import reprlib
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from yolo_distill.errors import DistillError, RequestError, did_you_mean
from yolo_distill.runtime.plain_output import plain_output
from yolo_distill.settings import Setting, explain
from yolo_distill.spelling import TASKS, arguments, read_words, switches, task_given
from yolo_distill.version import __version__

# Each name is a module in yolo_distill/commands that has SUMMARY, SETTINGS, and run(settings), or run(settings, extra)
# where PASSES_HOST_SETTINGS. It returns an exit code, or None for 0, and raises RequestError where the request has to
# change or an extra is not installed, and DistillError where the work failed. What Python has as well is its call, with
# the same arguments, which returns the result that run prints. GROUPS are headings of --help, HOST_SETTINGS what it
# explains of Ultralytics, ALSO what is understood of other programs (spelling.py), and LOOK_FIRST a function that looks
# at the files that were named before it is said what is missing.
COMMANDS = (
    "train", "val", "export", "predict", "benchmark", "webcam", "demo", "compare", "tune", "label", "shrink", "serve",
)  # fmt: skip

HELP = {"help", "-h", "--help"}
_LONGEST_LINE = 1400  # of what the host says, it may hold a whole value
INTERRUPTED = 130  # 128 + SIGINT, what shells expect after Ctrl-C


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0 done, 1 failed, 2 bad request, 130 interrupted."""
    with plain_output():
        return _main(list(sys.argv[1:] if argv is None else argv))


def _main(words: list[str]) -> int:
    debug = False
    before = _end_politely()
    try:
        debug, words = _take_debug(words)
        code = _dispatch(words)
        sys.stdout.flush()  # here, where a reader that went away is expected, and not when Python shuts down
        return code
    except KeyboardInterrupt:
        gc.freeze()  # else Python looks through all that torch made before it ends, which takes seconds
        return _complain("interrupted", INTERRUPTED)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return 128 + signal.SIGPIPE if hasattr(signal, "SIGPIPE") else 1
        if debug:
            traceback.print_exc()
        if isinstance(error, DistillError):
            return _complain(str(error), error.exit_code)
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:  # whichever setting it was given for
            return _complain(f"{reprlib.repr(error.filename)}: the name is too long for the disk; shorten it", 2)
        if isinstance(error, PermissionError) and error.filename:
            return _complain(f"{os.fsdecode(error.filename)}: {error.strerror}; give another, or the right to it", 2)
        text = " ".join(str(error).split()) or "no message"
        return _complain(f"{type(error).__name__}: {text}{'' if debug else ' (debug=true shows where)'}", 1)
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def _end_politely() -> Any:
    """Let SIGTERM, by which service managers and schedulers end a process, do what Ctrl-C does; return what it did."""
    # Python lets the main thread alone handle signals. One that is ignored (nohup) stays ignored.
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        return signal.signal(signal.SIGTERM, signal.default_int_handler)
    return None


def _take_debug(words: list[str]) -> tuple[bool, list[str]]:
    """Return whether tracebacks are wanted, and the words without `debug=`."""
    given = [word for word in words if word.lstrip("-").lower().startswith("debug=")]
    debug = bool(given) and Setting(bool, "tracebacks", False).read("debug", given[-1].partition("=")[2])
    return debug, [word for word in words if word not in given]


def _nobody_reads() -> bool:
    """Return whether the reader of our output (head, less) went away; give Python no cause to complain about it."""
    try:
        print(flush=True)  # a flush alone succeeds where output is not buffered
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False


def _dispatch(words: list[str]) -> int:
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return _run(words)
    from yolo_distill.torchrun import ranks

    place = ranks.take_place()
    if place is None:
        return _run(words)
    if place.rank:
        return ranks.serve(place)
    with ranks.Team(place):
        if words[:1] != ["train"]:
            raise RequestError(f"torchrun starts train, and no {' '.join(words[:1]) or 'other command'}")
        return _run(words)


def _run(words: list[str]) -> int:
    if words[:1] in ([], ["version"], ["--version"], ["-V"]):
        print(__version__ if words else _overview())
        return 0
    if any(word in HELP for word in words):
        names = [word for word in words if word not in HELP]
        print(_explain(names[0]) if names else _overview())
        return 0
    if words[0] in TASKS and words[1:]:
        raise task_given(*words[:2])
    command = _load(words[0])
    pairs = read_words(words[1:], words[0], {**switches(command), **_explained(command)})
    return int(command.run(*arguments(command, pairs)) or 0)


def _load(name: str) -> ModuleType:
    if name == "track":
        raise RequestError("no command 'track'; a tracker takes what a Detector finds: Questions in cfg/README.md")
    if name not in COMMANDS:
        raise RequestError(f"unknown command {name!r}{did_you_mean(name, COMMANDS)} (known: {', '.join(COMMANDS)})")
    return import_module(f"yolo_distill.commands.{name}")


def _overview() -> str:
    rows = "\n".join(f"  {name:<9}  {_load(name).SUMMARY}" for name in COMMANDS)
    return (
        f"yolo-distill {__version__}: teach a nano YOLO what a large one knows\n\n"
        f"usage: yolo-distill COMMAND key=value ...\n\n{rows}\n\n"
        "yolo-distill COMMAND --help lists a command's settings; debug=true shows tracebacks."
    )


def _explain(name: str) -> str:
    command = _load(name)
    table = explain(_explained(command), getattr(command, "GROUPS", None))
    return "\n\n".join(filter(None, [f"yolo-distill {name}: {command.SUMMARY}", table, getattr(command, "NOTES", "")]))


def _explained(command: ModuleType) -> dict[str, Setting]:
    return {**command.SETTINGS, **getattr(command, "HOST_SETTINGS", {})}


def _complain(message: str, code: int) -> int:
    shown = message if len(message) < _LONGEST_LINE else f"{message[:1000]} ... {message[-300:]}"
    print(f"yolo-distill: {shown}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
