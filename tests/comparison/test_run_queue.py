"""What is begun when, side by side, again and not again; with a worker that trains nothing."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from yolo_distill.comparison import report as report_module
from yolo_distill.comparison import request as request_module
from yolo_distill.comparison.arms import Arm
from yolo_distill.comparison.compare import compare
from yolo_distill.comparison.plan import write_plan
from yolo_distill.comparison.report import Report
from yolo_distill.comparison.request import Request, check
from yolo_distill.comparison.run_queue import RunQueue
from yolo_distill.comparison.runs import run_of, teacher_run
from yolo_distill.errors import DistillError, RequestError
from yolo_distill.lock import lock
from yolo_distill.machine import usable_cores
from yolo_distill.recipe import Recipe

WORKER = [sys.executable, str(Path(__file__).with_name("fake_worker.py"))]
ORDER = ["teacher", "plain-s0", "host-s0", "distilled-s0", "plain-s1", "host-s1", "distilled-s1"]
HOST = {"epochs": 2, "imgsz": 64, "device": "cpu", "amp": False}
TWO = "plain,distilled"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    return tmp_path / "notes.jsonl"


@pytest.fixture
def request_of(untrained: Path, tiny_student: str, tiny_data: Path, out: Path) -> Callable[..., Request]:
    """Return a function that makes a request of two epochs, with two seeds of each arm."""

    def ask(**changes: Any) -> Request:
        usual = {"arms": "plain,host,distilled", "seeds": "0,1", "recipe": "default", "own": {}, "host": HOST}
        files = {"teacher": str(untrained), "student": tiny_student, "data": str(tiny_data), "out": out}
        return Request(**{**usual, **files, "jobs": 1, "equal_time": False, **changes})

    return ask


@pytest.fixture
def do(notes: Path, monkeypatch: pytest.MonkeyPatch, request_of: Callable[..., Request]) -> Callable[..., Any]:
    """Return a function that carries out a request and returns what the workers noted."""
    monkeypatch.setenv("NOTES", str(notes))

    def run(
        behave: dict[str, Any] | None = None, work: float = 0.0, pages: bool = False, **changes: Any
    ) -> list[dict[str, Any]]:
        notes.unlink(missing_ok=True)
        if not pages:  # they are drawn anew behind every run
            monkeypatch.setattr(report_module, "html_report", lambda summary, shown: "")
        monkeypatch.setenv("BEHAVE", json.dumps(behave or {}))
        monkeypatch.setenv("WORK", str(work))
        compare(request_of(**changes), WORKER)
        return noted(notes)

    return run


def noted(notes: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in notes.read_text().splitlines()] if notes.exists() else []


def begun(lines: list[dict[str, Any]]) -> list[str]:
    return [line["begins"] for line in lines if "begins" in line]


def summary(out: Path) -> dict[str, Any]:
    return json.loads((out / "comparison.json").read_text())


def test_a_log_does_not_say_the_same_over_and_over(do: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("yolo_distill.comparison.compare._LOG_SECONDS", 0.0)
    do(arms="plain", seeds="0", work=1.0)
    statuses = [line for line in capsys.readouterr().err.splitlines() if " runs done" in line]
    assert len(set(statuses)) == len(statuses) > 0


def test_the_runs_of_a_comparison_and_their_jobs(do: Any, out: Path, untrained: Path, capsys: Any) -> None:
    lines = do(own={"logit": 0.25}, pages=True)
    assert begun(lines) == ORDER
    jobs = {line["begins"]: line["job"] for line in lines if "begins" in line}
    for name, job in jobs.items():
        assert job["host"]["project"] == str(out)
        assert job["host"].get("name") == (None if name == "teacher" else name)
        assert job["host"]["seed"] == (1 if name.endswith("s1") else 0)
        assert (job["host"]["epochs"], job["imgsz"], job["splits"]) == (2, 64, ["val", "test"])
        assert (job["precision"], job["threads"], job["teacher"]) == ("fp32", usable_cores(), str(untrained))
    assert {line["omp"] for line in lines if "omp" in line} == {str(usable_cores())}
    assert jobs["distilled-s1"]["recipe"]["logit"] == 0.25
    assert jobs["plain-s0"]["recipe"] is None
    assert "at work" in (out / "plain-s0" / "log.txt").read_text()
    said = capsys.readouterr()
    assert "no difference between distilled and plain can be seen with 2 seeds" in said.out.lower()
    assert "[6/6] distilled seed 1: mAP50-95 40.0 on test, 50.0 on val" in said.err
    assert summary(out)["finished"] is True
    assert "teacher" in summary(out)["cost"]
    for name in ("plan.json", "comparison.json", "index.html", "table.md"):
        text = (out / name).read_text()
        assert str(out.parent) not in text
        assert str(untrained.parent) not in text


def test_the_same_again_does_nothing_and_more_is_added(do: Any, out: Path) -> None:
    do(arms=TWO, seeds="0")
    assert do(arms=TWO, seeds="0") == []
    assert begun(do(arms=TWO, seeds="0,3")) == ["plain-s3", "distilled-s3"]
    # Only what is new is asked for; what is there is still reported.
    assert begun(do(arms="distilled@logit=0", seeds="3")) == ["distilled@logit=0-s3"]
    found = summary(out)
    assert list(found["arms"]) == ["plain", "distilled", "distilled@logit=0"]
    assert (found["seeds"], found["missing"]) == ([0, 3], [])
    assert found["plan"]["seeds"] == [0, 3]
    # Other settings are refused, and nothing is lost.
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(RequestError, match=r"other settings \(epochs: 2 there, 3 here\)"):
        do(host={**HOST, "epochs": 3})
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("ends", "says"),
    [
        ("crash", "RuntimeError: no luck"),
        pytest.param("die", "its process was ended by SIGKILL, perhaps for want of memory", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_fails_is_named_and_tried_again(
    ends: str, says: str, do: Any, out: Path, notes: Path, capsys: Any
) -> None:
    with pytest.raises(DistillError) as caught:
        do({"distilled-s0": ends}, arms=TWO)
    assert f"1 of 4 runs failed: distilled seed 0 ({says})" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert begun(noted(notes)) == [name for name in ORDER if "host" not in name]  # the others go on
    assert f"Missing: distilled, seed 0: failed: {says} (log: distilled-s0/log.txt)" in (out / "table.md").read_text()
    assert "distilled  40.0 (50.0)" in capsys.readouterr().out
    # A seed that is not asked for again does not drop out unsaid.
    assert begun(do(arms=TWO, seeds="1")) == []
    assert [(row["arm"], row["seed"], row["error"]) for row in summary(out)["missing"]] == [("distilled", 0, says)]
    assert "(seed 0 missing)" in summary(out)["verdict"]
    assert begun(do(arms=TWO)) == ["distilled-s0"]
    assert summary(out)["missing"] == []
    assert not (out / "distilled-s0" / "error.txt").exists()


@pytest.mark.slow
def test_pictures_stay_until_there_are_new_ones(request_of: Any, do: Any, out: Path) -> None:
    do(arms=TWO, seeds="0", pages=True)
    shown = {"name": "a.jpg", "scores": {"plain": 0.2, "distilled": 0.9}, "panes": {"labels": "QUFB"}}
    (out / "pictures.json").write_text(json.dumps({"arm": "distilled", "seed": 0, "shown": [shown]}))
    plan, _, _ = check(request_of(arms=TWO, seeds="0"))
    Report(out, plan, RunQueue([teacher_run(out)], waits_for_teacher=False), trust=False).interim()
    assert "QUFB" in (out / "index.html").read_text()
    assert summary(out)["pictures"] == [{"name": "a.jpg", "f1": shown["scores"]}]


def test_one_arm_alone_and_its_precision_chosen_anew_until_it_is_trained(do: Any, out: Path) -> None:
    assert begun(do(arms="plain", seeds="0")) == ["teacher", "plain-s0"]
    found = summary(out)
    assert (found["finished"], found["headline"]["arm"], found["pictures"]) == (True, None, [])
    assert found["verdict"] == "nothing to compare: plain is the only arm"
    for record in out.glob("*/*.json*"):
        record.unlink()
    (out / "plan.json").write_text(json.dumps({**found["plan"], "precision": "bf16"}))
    jobs = [line["job"] for line in do(arms="plain", seeds="0") if "begins" in line]
    assert {job["precision"] for job in jobs} == {"fp32"}  # amp=False


def test_without_its_teacher_plain_goes_on(do: Any, out: Path, notes: Path) -> None:
    with pytest.raises(
        DistillError, match=r"the run of the teacher failed: teacher \(.*no luck\); 2 that need it were not begun"
    ):
        do({"teacher": "crash"}, teacher="yolo26n.yaml", arms="plain,host")
    assert begun(noted(notes)) == ["teacher", "plain-s0", "plain-s1"]
    assert [(row["arm"], row["error"]) for row in summary(out)["missing"]][-1] == ("teacher", "RuntimeError: no luck")


def test_side_by_side(do: Any) -> None:
    lines = do(jobs=2, work=0.3, arms=TWO, seeds="0")
    at_once = most = 0
    for line in sorted(lines, key=lambda line: line["at"]):
        at_once += 1 if "begins" in line else -1
        most = max(most, at_once)
    assert most == 2
    assert {line["job"]["threads"] for line in lines if "job" in line} == {max(usable_cores() // 2, 1)}


def test_devices_are_shared_out(request_of: Any) -> None:
    for given, jobs, found in (("0,1", 2, ["0", "1"]), ([0, 1], 3, [0, 1]), (0, 1, [0]), (None, 1, [None])):
        assert request_of(host={"device": given}, jobs=jobs).devices == found
    with pytest.raises(RequestError, match="device=0,1: a run takes one device here; give jobs=2"):
        _ = request_of(host={"device": "0,1"}).devices


def test_equal_time(do: Any, out: Path) -> None:
    lines = do({"distilled-s0": [0.5, 1.5], "distilled-s1": [0.5, 9.0]}, arms=TWO, equal_time=True)
    names = begun(lines)
    longer = [name for name in names if "equal" in name]
    assert names == ["teacher", "plain-s0", "distilled-s0", longer[0], "plain-s1", "distilled-s1", longer[1]]
    jobs = {line["begins"]: line["job"] for line in lines if "begins" in line}
    assert [jobs[name]["host"]["epochs"] for name in longer] == [3, 3]  # the first seed's ratio of 1.5
    assert {jobs[name]["label"] for name in longer} == {"plain (equal time)"}
    assert (summary(out)["equal_time"]["ratio"], summary(out)["equal_time"]["epochs"]) == (1.5, 3)
    assert summary(out)["arms"]["plain (equal time)"]["epochs"] == 3
    # Decided once: one that does not ask for it still reports it.
    assert begun(do(arms="plain", seeds="2")) == ["plain-s2"]
    assert "plain (equal time)" in summary(out)["arms"]
    with pytest.raises(RequestError, match=r"plain was given the time of distilled, not of init; leave it out"):
        do(arms="plain,init", equal_time=True)


@pytest.mark.slow
def test_plain_that_had_as_much_time_is_not_trained_again(do: Any, capsys: pytest.CaptureFixture[str]) -> None:
    names = begun(do({"init-s0": [0.5, 0.9]}, arms="plain,init", seeds="0", equal_time=True))
    assert names == ["teacher", "plain-s0", "init-s0"]
    said = capsys.readouterr().err
    assert "budget=equal-time: an epoch of init took 0.90 times as long as one of plain, so plain has had" in said


@pytest.mark.slow
def test_equal_time_goes_by_the_next_seed_where_the_first_failed(do: Any, out: Path) -> None:
    with pytest.raises(DistillError, match="distilled seed 0"):
        do({"distilled-s0": "crash", "distilled-s1": [0.5, 2.0]}, arms=TWO, equal_time=True)
    assert summary(out)["equal_time"]["seed"] == 1


@pytest.mark.slow
def test_equal_time_goes_by_the_seeds_that_are_there_or_is_not_given(do: Any, out: Path, capsys: Any) -> None:
    do(arms="plain", seeds="0")
    do(arms="distilled", seeds="1", equal_time=True)
    assert "budget=equal-time: plain was given nothing" in capsys.readouterr().err
    do({"distilled-s0": [0.5, 1.5]}, arms="distilled", seeds="0")
    assert len([name for name in begun(do(arms="distilled", seeds="2", equal_time=True)) if "equal" in name]) == 1
    assert summary(out)["equal_time"]["seed"] == 0


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"arms": "host,distilled"}, "arms=host,distilled: lacks plain"),
        ({"arms": "plain,host", "equal_time": True}, "budget=equal-time: no arm of ours"),
        ({"teacher": "nowhere/t.pt"}, "teacher=nowhere/t.pt: no such file"),
        ({"student": "nowhere.yaml"}, "student=nowhere.yaml"),
        ({"data": "nowhere.yaml"}, "data=nowhere.yaml: no such file"),
        ({"recipe": "fast"}, "recipe=fast: no such recipe"),
        ({"arms": "plain,distilled@teacher_folds=2"}, "unknown key 'teacher_folds'"),
        ({"arms": "plain,distilled@unlabeled=/nowhere"}, "unlabeled=/nowhere: no such file or folder"),
        ({"arms": "plain,distilled@teacher_imgsz=100"}, "arm distilled@teacher_imgsz=100: teacher_imgsz=100: has to"),
        ({"arms": "plain,distilled@class_map=map.yaml"}, "arm distilled@class_map=map.yaml: "),
        ({"arms": "plain,distilled@unlabeled=VAL"}, "on which the student is measured"),
        ({"host": {"imgsz": 0}}, "imgsz=0: the model takes multiples of 32"),
        ({"host": {"imgsz": 0}, "arms": "plain,host"}, "imgsz=0: a training takes one side in pixels"),
        ({"host": {"imgsz": [64, 32]}}, "imgsz"),
        ({"host": {"device": "77"}}, "Invalid CUDA 'device=77'"),
    ],
)
def test_bad_requests_write_nothing(
    changes: dict[str, Any], says: str, request_of: Any, out: Path, tiny_data: Path
) -> None:
    Path("map.yaml").write_text("disc: disc\n")  # knows no square
    val = str(tiny_data.parent / "images" / "val")
    changes = {key: value.replace("VAL", val) if key == "arms" else value for key, value in changes.items()}
    with pytest.raises(RequestError) as caught:
        compare(request_of(**changes), WORKER)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not out.exists()


def test_a_teacher_is_measured_before_a_student_with_weights_is_trained(
    request_of: Any, untrained: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(student: str, recipe: Recipe, *_: Any) -> None:
        raise RequestError(f"{Path(recipe.teacher).name} is worse than {Path(student).name}, force={recipe.force}")

    monkeypatch.setattr(request_module, "look_at_both", refuse)
    check(request_of())  # an architecture knows nothing yet
    with pytest.raises(RequestError, match=r"t\.pt is worse than t\.pt, force=True"):
        check(request_of(student=str(untrained), own={"force": True}))
    assert not out.exists()


@pytest.mark.parametrize("begun", [0, 1])
def test_a_start_that_was_chosen_stays_when_the_command_is_given_again(
    begun: int, request_of: Any, untrained: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_module, "look_at_both", lambda *_: None)
    asked = request_of(student=str(untrained), arms=TWO, host={**HOST, "epochs": 40}, own={"force": True})
    plan, arms, _ = check(asked)
    folder = run_of(out, arms[begun], 0).folder
    folder.mkdir(parents=True)
    write_plan(out, plan)
    (folder / "epochs.jsonl").write_text('{"start": 0}\n')
    for one in (plan, check(asked)[0]):
        assert (one.arms["distilled"].recipe or {})["init"] == "try"


def test_a_folder_is_for_one_at_a_time(request_of: Any, out: Path) -> None:
    out.mkdir()
    busy = pytest.raises(RequestError, match="another yolo-distill compare is at work there")
    with lock(out / ".lock", "taken"), busy:
        compare(request_of(), WORKER)
    assert not (out / "plan.json").exists()


def test_ctrl_c_ends_the_runs_and_says_how_to_go_on(do: Any, notes: Path, capsys: Any) -> None:
    def press() -> None:
        while "host-s0" not in begun(noted(notes)):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        do({"host-s0": "hang"}, arms="plain,host")
    assert "stopped: 1 of 4 runs are finished; the same command goes on" in capsys.readouterr().err
    (pid,) = [line["pid"] for line in noted(notes) if line.get("begins") == "host-s0"]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert begun(do(arms="plain,host")) == ["host-s0", "plain-s1", "host-s1"]


def test_settings_in_the_recipe_hold_for_the_teacher_and_say_the_device(request_of: Any) -> None:
    Path("mine.yaml").write_text("epochs: 3\ndevice: cpu\namp: false\n")
    asked = request_of(recipe="mine.yaml", host={"imgsz": 64})
    plan, arms, _ = check(asked)
    assert (plan.settings["epochs"], plan.precision, asked.devices) == (3, "fp32", ["cpu"])
    assert [arm.host for arm in arms] == [plan.settings] * 3


def test_settings_that_do_nothing_and_arms_that_are_the_same_are_said(request_of: Any, caplog: Any) -> None:
    check(request_of(arms=f"{TWO},distilled@share.logit=0.3,distilled@init=student@init_fit=true"))
    first, second = [entry.message for entry in caplog.records if " arm " in entry.message]
    assert "arm distilled@share.logit=0.3: share.logit= has no effect without balance=auto" in first
    assert "arm distilled@init=student@init_fit=true: init_fit= has no effect: the student starts from its" in second
    caplog.clear()
    check(request_of(arms="plain,init,taught,distilled,distilled@init=student"))
    (said,) = [entry.message for entry in caplog.records if "are the same" in entry.message]
    assert "arms init and distilled are the same here" in said


def test_the_status(tmp_path: Path) -> None:
    arms = [Arm("plain", "plain", {"epochs": 10}), Arm("distilled", "distilled", {"epochs": 10})]
    runs = [teacher_run(tmp_path), *(run_of(tmp_path, arm, 0) for arm in arms)]
    queue = RunQueue(runs, waits_for_teacher=True)
    assert queue.status([], 1) == "0 of 2 runs done"
    for run, name, text in (
        (runs[0], "run.json", '{"format": 1}'),
        (runs[1], "epochs.jsonl", '{"start": 0}\n{"epoch": 1, "seconds": 60.0}\n{"epoch": 2, "sec'),  # cut off
    ):
        run.folder.mkdir()
        (run.folder / name).write_text(text)
    queue.settle(runs[0])
    # 9 epochs of plain and 10 of distilled, of which nothing is known yet, at a minute each.
    assert queue.status([(runs[1], 10)], 1) == "0 of 2 runs done, plain seed 0 1/10 epochs, about 19 min left"
    assert queue.status([(runs[1], 10)], 2).endswith("about 10 min left")
    chain = Arm("chain", "distilled", {"epochs": 10}, {"assistant": "yolo26s.yaml", "init": "auto"})
    said = queue.status([(runs[1], 10), (run_of(tmp_path, chain, 0), 10)], 1)
    assert said.endswith("chain seed 0 trains its assistant or tries both starts, at least 19 min left")


def test_runs_that_train_the_same_teachers_are_not_done_side_by_side(tmp_path: Path) -> None:
    chain = {"assistant": "yolo26s.yaml", "init": "auto"}
    arms = [Arm("a", "distilled", {}, chain), Arm("b", "distilled", {}, {**chain, "assistant": None})]
    runs = [run_of(tmp_path, arm, seed) for seed in (0, 1) for arm in arms]
    queue = RunQueue(runs, waits_for_teacher=False)
    assert queue.next([]) is runs[0]
    assert queue.next([runs[0]]) is runs[1]
    assert queue.next([runs[0], runs[1]]) is runs[3]
    assert queue.next([runs[1]]) is runs[0]
