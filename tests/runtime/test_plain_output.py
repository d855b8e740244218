"""What of a run's output gets into a file."""

from __future__ import annotations

import io
import logging
import sys

import pytest

from yolo_distill.runtime.plain_output import plain_output

BLUE, END = "\x1b[34m\x1b[1m", "\x1b[0m"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(stream: io.StringIO, *texts: str) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        with plain_output():
            for text in texts:
                sys.stdout.write(text)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("texts", "written"),
    [
        ([f"{BLUE}train: {END}20 pictures\n", "on ", "and on\n"], "train: 20 pictures\non and on\n"),
        (["\r\x1b[K  1/3: 0%", "\r\x1b[K  1/3: 50%", "\r\x1b[K  1/3: 100%", "\n", "next\n"], "  1/3: 100%\nnext\n"),
        (["\r\x1b[K 0%\r\x1b[K 9%\n\r\x1b[K 0%"], " 9%\n 0%\n"),  # a bar that was left is kept
        (["of Windows\r\n", "é ✅\n"], "of Windows\né ✅\n"),
    ],
)
def test_a_file_gets_what_would_stay_on_a_terminal(texts: list[str], written: str) -> None:
    assert run(io.StringIO(newline=""), *texts) == written
    assert run(Terminal(newline=""), *texts) == "".join(texts)


def test_a_logger_that_was_there_before_is_plain_as_well_and_then_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, logger = io.StringIO(), logging.getLogger("ultralytics")
    handler = logging.StreamHandler(stream)
    monkeypatch.setattr(logger, "handlers", [handler])
    monkeypatch.setattr(sys, "stdout", stream)
    with plain_output():
        logger.warning(f"{BLUE}val: {END}done")
    assert stream.getvalue() == "val: done\n"
    assert handler.stream is stream is sys.stdout
