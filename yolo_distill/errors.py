"""Errors that a user can act on: what was wrong, what was received, what to do, in one line."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager


class DistillError(Exception):
    """Something that was asked for failed. The command line prints the message alone and exits with `exit_code`."""

    exit_code = 1


class RequestError(DistillError):
    """The request itself is wrong: a key, a value or a file that has to change before trying again."""

    exit_code = 2


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return "; did you mean 'x'?" for the known word closest to `word`, or an empty string when none is close."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return f"; did you mean {close[0]!r}?" if close else ""


def missing_extra(module: str, what: str, extra: str = "train") -> RequestError:
    """Return the error for a dependency of an extra that `what` needs and that is not installed."""
    return RequestError(f"{what} needs {module!r}, which is not installed: pip install 'yolo-distill[{extra}]'")


@contextmanager
def importing_for(what: str, *, torch: bool = True) -> Iterator[None]:
    """Say which extra `what` needs, where an import in the block fails for want of a dependency.

    Where `torch` is imported, which takes seconds, a line says so first.

    Raises:
        RequestError: a dependency of the extra for training is missing.
    """
    if torch and "torch" not in sys.modules:
        print(f"{what}: starting torch and Ultralytics ...", file=sys.stderr, flush=True)
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("yolo_distill"):
            raise
        raise missing_extra(str(error.name), what) from error


def one_line(error: BaseException | None) -> str:
    """Return the first line of what `error` says, with no decoration of the host's around it."""
    lines = str(error).strip().splitlines()
    text = " ".join((lines[0] if lines else type(error).__name__).split())
    return text.replace("ERROR ❌️ ", "").replace("❌ ", "")[:300]
