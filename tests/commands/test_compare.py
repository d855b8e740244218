"""`yolo-distill compare` as a person types it: a whole one of a few steps, a kill, and what bad input gets."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from yolo_distill.cli import main


@pytest.fixture(scope="module", autouse=True)
def _on_one_core() -> Iterator[None]:
    """Give the runs one core, and so one thread each: threads on busy cores wait for each other, minutes here."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.fixture(scope="module")
def words(tiny_data: Path) -> list[str]:
    """Return the settings of a comparison of a few steps."""
    return [
        "compare", "teacher=yolo26n.yaml", "student=yolo26n.yaml", "force=true", f"data={tiny_data}", "imgsz=64",
        "epochs=3", "batch=4", "device=cpu", "amp=false", "teacher_precision=fp32",
    ]  # fmt: skip


@dataclasses.dataclass
class Whole:
    """A comparison that was killed in the middle and then done by the same command.

    Attributes:
        out: its folder.
        before: what was written of the first run when it was killed.
        code: exit code of the second call.
        said: by the second call, on stdout.
    """

    out: Path
    before: list[dict[str, Any]]
    code: int
    said: str


@pytest.fixture(scope="module")
def whole(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """Begin a comparison, kill it without a warning in its first student's training, and give the command again."""
    out = tmp_path_factory.mktemp("whole") / "out"
    words = [*words, "student_act=relu", "seeds=0,1", "arms=plain,distilled", "recipe=taught", f"out={out}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "yolo_distill.cli", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    lines = out / "plain-s0" / "epochs.jsonl"
    wait_until(lambda: lines.is_file() and '"epoch"' in lines.read_text())
    assert len(running(str(out))) == 1
    process.send_signal(signal.SIGKILL)
    process.wait()
    wait_until(lambda: not running(str(out)))
    assert not (out / "plain-s0" / "run.json").exists()
    before = [json.loads(line) for line in lines.read_text().splitlines()]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        code = main(words)
    return Whole(out, before, code, said.getvalue())


def wait_until(true: Callable[[], bool]) -> None:
    """Wait until something is so, but not for ever."""
    give_up = time.monotonic() + 300
    while not true():
        assert time.monotonic() < give_up
        time.sleep(0.02)


@pytest.mark.slow
def test_a_killed_comparison_takes_its_run_along_and_goes_on(whole: Whole) -> None:
    record = json.loads((whole.out / "plain-s0" / "run.json").read_text())
    assert record["parts"] == 2
    assert record["curve"]["epoch"] == [1, 2, 3]
    seen = [line["pictures"] for line in whole.before if "epoch" in line]
    assert record["pictures"][:1] == seen[:1]
    other = json.loads((whole.out / "distilled-s0" / "run.json").read_text())
    assert other["parts"] == 1
    assert other["pictures"] == record["pictures"]


@pytest.mark.slow
def test_a_whole_comparison(whole: Whole) -> None:
    assert whole.code == 0
    assert "No difference between distilled and plain can be seen with 2 seeds: " in whole.said
    assert str(whole.out / "index.html") in whole.said
    found = json.loads((whole.out / "comparison.json").read_text())
    assert (found["finished"], found["missing"], found["seeds"]) == (True, [], [0, 1])
    assert list(found["arms"]) == ["plain", "distilled"]
    assert set(found["cost"]) == {"teacher", "plain", "distilled"}
    assert found["pairing"]["distilled"] == {str(seed): {"pictures": True, "weights": False} for seed in (0, 1)}
    assert len(list(whole.out.glob("teacher-yolo26n-*"))) == 1
    assert "differences in mAP50-95" in whole.said
    assert (whole.out / "table.md").read_text().startswith("**No difference between distilled and plain")


@pytest.mark.slow
def test_an_arm_that_fails_is_added_and_nothing_is_trained_again(whole: Whole, words: list[str], capsys: Any) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.out.rglob("*.pt")}
    assert main([*words, "student_act=relu", "seeds=0", "arms=plain@freeze=99", f"out={whole.out}"]) == 1
    assert {path: path.stat().st_mtime_ns for path in whole.out.rglob("*.pt")} == before
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith(
        "yolo-distill: 1 of 1 runs failed: plain@freeze=99 seed 0 (RuntimeError: 'freeze=99' froze the entire model"
    )
    assert "Traceback" not in captured.err
    assert re.search(r"plain@freeze=99.* missing", captured.out)
    found = json.loads((whole.out / "comparison.json").read_text())
    assert [(row["arm"], row["seed"]) for row in found["missing"]] == [("plain@freeze=99", 0)]
    assert found["arms"]["distilled"]["figures"]["test"]


@pytest.mark.slow
def test_an_arm_with_a_teacher_of_its_own(words: list[str], make_teacher: Any, tmp_path: Path) -> None:
    """An assistant is trained for the arm that asks for it, of a teacher that knew other things."""
    arms = "plain,distilled@assistant=yolo26s.yaml"
    words = [word for word in words if not word.startswith(("epochs=", "teacher="))]
    words += [f"teacher={make_teacher('yolo26n.yaml', {0: 'dog'})}", "teacher_epochs=1"]
    words += ["epochs=1", "seeds=0", "force=true", "recipe=taught"]
    assert main([*words, f"arms={arms}", f"out={tmp_path / 'out'}"]) == 0
    found = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert (found["finished"], found["missing"]) == (True, [])
    records = {record["arm"]: record for record in found["records"]}
    assert records["distilled@assistant=yolo26s.yaml"]["pace"]["teacher"].startswith("yolo26s, ")
    assert len(list((tmp_path / "out").rglob("assistant-yolo26s-*/weights/best.pt"))) == 1
    assert records["teacher"]["weights"].startswith("teacher-yolo26n-dog-")


@pytest.mark.slow
def test_a_record_holds_what_a_reader_needs_and_no_paths(whole: Whole, tiny_data: Path) -> None:
    record = json.loads((whole.out / "distilled-s1" / "run.json").read_text())
    assert (record["arm"], record["seed"], record["kind"], record["parts"]) == ("distilled", 1, "distilled", 1)
    assert record["recipe"]["teacher"] == record["teacher"] == "yolo26n.yaml"
    assert (record["settings"]["imgsz"], record["settings"]["epochs"], record["epochs"]) == (64, 3, 3)
    assert len(record["curve"]["metrics/mAP50-95(B)"]) == len(record["epoch_seconds"]) == 3
    assert set(record["shares"]) == {"logit", "localization", "cwd"}
    for figures in (record, record["one_to_one"]):
        for split in ("val", "test"):
            assert figures[split]["pictures"] == 4
            assert [row["name"] for row in figures[split]["classes"]] == ["disc", "square"]
    assert record["train_seconds"] > 0 < record["cpu_seconds"]
    assert record["machine"]["device"] == "cpu"
    for file in (*whole.out.glob("*/run.json"), whole.out / "plan.json", whole.out / "comparison.json"):
        for path in (whole.out, tiny_data.parent, Path.home(), Path(sys.prefix)):
            assert str(path) not in file.read_text(), file


@pytest.mark.slow
def test_pictures_are_drawn_where_detectors_differ(whole: Whole, tiny_data: Path, monkeypatch: Any) -> None:
    """A detector of one epoch finds nothing it is sure of, so what it is least unsure of has to do."""
    import base64

    import cv2
    import numpy as np

    from yolo_distill.comparison import pictures

    monkeypatch.setattr(pictures, "CONFIDENCE", 1e-5)
    out = whole.out
    weights = {name: out / f"{name}-s0" / "weights" / "best.pt" for name in ("plain", "distilled")}
    monkeypatch.setattr(pictures, "choose", lambda lead: sorted(lead)[:2])
    shown = pictures.most_different(weights, str(tiny_data), "test", imgsz=64, device="cpu", trust=False)
    assert [one.name for one in shown] == ["0.png", "1.png"]
    for one in shown:
        assert list(one.panes) == ["labels", "plain", "distilled"]
        images = [cv2.imdecode(np.frombuffer(base64.b64decode(pane), np.uint8), 1) for pane in one.panes.values()]
        assert {image.shape for image in images} == {(480, 480, 3)}
        assert all(0 <= score <= 1 for score in one.scores.values())


def running(words: str) -> list[str]:
    """Return the command lines of workers that have these words in them, as far as the system tells."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_text().replace("\0", " ")
            if words in line and "comparison.worker" in line and int(folder.name) != os.getpid():
                found.append(line)
        except OSError:  # ended meanwhile
            continue
    return found


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (["arms=plain,distiled"], "unknown arm 'distiled'; did you mean 'distilled'?"),
        (["jobs=0"], "jobs=0: must be between 1 and 256"),
        (["budget=fair"], "budget=fair: not one of equal-epochs, equal-time"),
        (["epocs=3"], "unknown key 'epocs'; did you mean 'epochs'?"),
        (["project=x"], "project= does not belong here"),
        (["teacher="], "teacher= is missing"),
        (["task=segment"], "task= does not belong here: the student's file says it"),
        (["student=yolo26n-seg.yaml"], "arm distilled: data="),
        (["arms=plain,distilled@mask=1"], "arm distilled@mask=1: mask=1: student=yolo26n.yaml is a detect model"),
        (["out=."], "holds something else"),
    ],
)
def test_bad_requests(extra: list[str], says: str, words: list[str], refused: Callable[..., str]) -> None:
    Path("holiday.jpg").touch()
    assert says in refused(*words, *extra)
