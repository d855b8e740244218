"""`yolo-distill demo`: a real one of a few steps without a network, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from yolo_distill.commands import demo as command
from yolo_distill.errors import DistillError

REPOSITORY = Path(__file__).resolve().parents[2]

# Loaded by every Python process of the demo at its start; notes each attempt to reach another machine, and refuses it.
BLOCKER = """
import os, socket

def refuse(*args, **kwargs):
    with open(os.environ["NETWORK_NOTES"], "a") as notes:
        notes.write(repr(args[:2]) + "\\n")
    raise OSError("no network in this test")

connect = socket.socket.connect

def connect_here(self, address):
    return connect(self, address) if self.family == socket.AF_UNIX else refuse(address)

socket.getaddrinfo = refuse
socket.socket.connect = connect_here
"""


def environment(tmp_path: Path) -> dict[str, str]:
    """Return the environment of a user with a new host that has no font and no network."""
    blocker = tmp_path / "blocker"
    blocker.mkdir(exist_ok=True)
    (blocker / "sitecustomize.py").write_text(BLOCKER)
    unset = ("YOLO_OFFLINE", "YOLO_AUTOINSTALL", "OMP_NUM_THREADS")
    (tmp_path / "host").mkdir(exist_ok=True)
    return {key: value for key, value in os.environ.items() if key not in unset} | {
        "PYTHONPATH": os.pathsep.join([str(blocker), str(REPOSITORY)]),
        "NETWORK_NOTES": str(tmp_path / "network.txt"),
        "YOLO_CONFIG_DIR": str(tmp_path / "host"),
    }


def start(tmp_path: Path, *words: str) -> subprocess.Popen[str]:
    """Start the command as a user would, in a group of processes of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "yolo_distill.cli", "demo", *words],
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the folder and the output of a quick demo."""
    folder = tmp_path_factory.mktemp("quick")
    process = start(folder, "quick=true", "seed=3", "out=told")
    said, complained = process.communicate(timeout=500)
    assert process.returncode == 0, said + complained
    return folder, said


@pytest.mark.slow
def test_a_quick_demo_leaves_what_it_says(quick: tuple[Path, str]) -> None:
    from yolo_distill.demo.demo import QUICK

    folder, said = quick
    out = folder / "told"
    assert set(command._OURS) == {path.name for path in out.iterdir()}
    places = said.split("Where everything is:")[1].split("Next")[0]
    for line in filter(str.strip, places.split("\n")):
        place = re.split(r"\s{2,}", line.strip())[-1]
        assert list(out.glob(str(Path(place).relative_to(out)))), place
    proof = json.loads((out / "distilled.json").read_text())
    assert proof["score"] <= proof["tolerances"]["score"]
    assert len(list((out / "pictures").glob("*.jpg"))) == QUICK.pictures["test"]
    result = json.loads((out / "demo.json").read_text())
    rows = result["rows"]
    assert list(rows) == ["teacher", "plain", "distilled", "distilled.onnx"]
    assert rows["teacher"]["parameters"] > 3 * rows["plain"]["parameters"]
    assert rows["plain"]["parameters"] == rows["distilled"]["parameters"]
    for row in rows.values():
        assert (row["split"], row["pictures"]) == ("test", 8)
        assert row["ms"] > 0
        assert row["file_bytes"] > 1e6
        assert 0 <= row["map"] <= row["map50"] <= 100
    # The file and the checkpoint are the same detector to the evaluator.
    assert rows["distilled.onnx"]["map"] == pytest.approx(rows["distilled"]["map"], abs=0.5)
    assert result["distilled_minus_plain"] == rows["distilled"]["map"] - rows["plain"]["map"]
    assert (result["finished"], result["seed"]) == (True, 3)
    assert "figures mean nothing" in said


@pytest.mark.slow
def test_plain_and_distilled_differ_in_the_teacher_alone(quick: tuple[Path, str]) -> None:
    import yaml

    out = quick[0] / "told"
    plain, distilled = (yaml.safe_load((out / name / "args.yaml").read_text()) for name in ("plain", "distilled"))
    for key in ("name", "save_dir"):
        assert plain.pop(key) != distilled.pop(key)
    distilled.pop("distill", None)
    assert plain == distilled
    recipe = yaml.safe_load((out / "distilled" / "recipe.yaml").read_text())
    assert Path(recipe.pop("teacher")) == out / "teacher" / "weights" / "best.pt"
    from yolo_distill.recipe import make_recipe

    default = make_recipe({"teacher": "any"}).settled(inside=True, steps=1).model_dump()
    assert recipe == {key: value for key, value in default.items() if key != "teacher"}


@pytest.mark.slow
def test_progress_is_ours_and_the_host_is_in_the_logs(quick: tuple[Path, str]) -> None:
    folder, said = quick
    for name in ("teacher", "plain", "distilled"):
        assert len(re.findall(rf"\[ *\d+ s\]   {name} +epoch  1/1 +loss", said)) == 1
        assert "Starting training" in (folder / "told" / "logs" / f"{name}.log").read_text()
    assert "Starting training" not in said
    assert "the student is cut out of your teacher" in (folder / "told" / "logs" / "distilled.log").read_text()


@pytest.mark.slow
def test_a_demo_reaches_for_no_other_machine(quick: tuple[Path, str], tmp_path: Path) -> None:
    notes = quick[0] / "network.txt"
    assert not notes.exists(), notes.read_text()
    # What would have noticed does notice.
    code = "import socket, urllib.request as u\ntry: u.urlopen('http://192.0.2.1/', timeout=1)\nexcept OSError: pass"
    subprocess.run([sys.executable, "-c", code], env=environment(tmp_path), check=True, timeout=60)
    assert (tmp_path / "network.txt").exists()


def running_in_group(group: int) -> list[str]:
    """Return the command lines of a group's processes, as far as the system tells; not of those that have ended."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, owner = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            if int(owner) == group and state != "Z":
                found.append((folder / "cmdline").read_text().replace("\0", " "))
        except OSError:  # ended meanwhile
            continue
    return found


@pytest.mark.slow
def test_ctrl_c_ends_all_of_it_in_one_line(tmp_path: Path) -> None:
    process = start(tmp_path, "quick=true", "out=told")
    assert process.stdout is not None
    for line in process.stdout:
        if "training teacher" in line:
            break
    time.sleep(1)  # the trainings' processes are starting
    os.killpg(process.pid, signal.SIGINT)
    said, complained = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complained.strip().splitlines()[-1] == "yolo-distill: interrupted"
    assert "Traceback" not in said + complained
    give_up = time.monotonic() + 10
    while left := running_in_group(process.pid):
        assert time.monotonic() < give_up, left
        time.sleep(0.1)
    # The next demo may have the folder.
    assert command._check(tmp_path / "told", "told")


@pytest.mark.parametrize(
    ("there", "words", "says"),
    [
        ({"taken": ""}, ["out=taken"], "is a file"),
        ({"out/data/holiday.jpg": ""}, ["out=out"], "holds something else (data)"),
        # An earlier demo, into which somebody put a file of their own.
        (
            {"out/demo.json": '{"finished": true}', "out/thesis.txt": ""},
            ["out=out"],
            "holds something else (thesis.txt)",
        ),
        ({"file": ""}, ["out=file/demo"], "cannot be written"),
        ({}, ["seed=-1"], "seed=-1: must be between"),
        ({}, ["epochs=3"], "unknown key 'epochs'"),
    ],
)
def test_bad_requests(refused: Callable[..., str], there: dict[str, str], words: list[str], says: str) -> None:
    pytest.importorskip("ultralytics")
    for name, text in there.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    assert says in refused("demo", *words)


@pytest.mark.parametrize("finished", ["true", "false"])
def test_an_earlier_demo_is_replaced(tmp_path: Path, finished: str) -> None:
    out = tmp_path / "demo"
    (out / "data" / "images").mkdir(parents=True)
    (out / "demo.json").write_text(f'{{"finished": {finished}}}')
    (out / "distilled.onnx").write_bytes(b"old")
    (out / ".distilled-export-k1ll3d").mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept.txt").write_text("x")
    (out / "pictures").symlink_to(elsewhere)
    command._claim(out, "demo", command._check(out, "demo"))
    assert command._check(tmp_path / "new" / "deep", "x") == []
    assert [path.name for path in out.iterdir()] == ["demo.json"]
    assert json.loads((out / "demo.json").read_text()) == {"finished": False}
    assert (elsewhere / "kept.txt").exists()


@pytest.mark.parametrize(("distilled", "says"), [(32.0, "2.0 mAP50-95 ahead"), (30.0, "NOT ahead"), (28.0, "-2.0")])
def test_the_verdict_is_what_the_table_says(distilled: float, says: str) -> None:
    from yolo_distill.demo.demo import verdict

    words = verdict({"plain": {"map": 30.0}, "distilled": {"map": distilled}}, quick=False)
    assert says in words
    assert "One seed on drawn scenes proves nothing" in words
    assert ("NOT ahead" in words) == (distilled <= 30.0)


def test_a_contact_sheet_holds_the_first_pictures_row_by_row() -> None:
    from yolo_distill.demo.pictures import contact_sheet

    pictures = [np.full((4, 6, 3), number, np.uint8) for number in range(1, 6)]
    sheet = contact_sheet(pictures, 2, 2)
    assert sheet.shape == (8, 12, 3)
    assert [int(sheet[y, x, 0]) for y in (0, 4) for x in (0, 6)] == [1, 2, 3, 4]
    few = contact_sheet(pictures[:3], 2, 2)
    assert [int(few[y, x, 0]) for y in (0, 4) for x in (0, 6)] == [1, 2, 3, 0]


@pytest.mark.slow
def test_a_training_that_fails_or_dies_is_said_with_its_log(tmp_path: Path) -> None:
    from yolo_distill.demo.trainings import Trainings
    from yolo_distill.runtime.progress import Progress

    wrong = {"data": str(tmp_path / "missing.yaml"), "device": "cpu"}
    with Trainings(tmp_path, wrong, print, Progress()) as trainings:
        trainings.start("plain")
        with pytest.raises(DistillError, match=r"training plain failed: .*missing\.yaml.*plain\.log"):
            trainings.wait_for("plain")
        trainings.start("teacher")
        (process,) = [process for _, process, _ in trainings._running.values()]
        process.kill()
        with pytest.raises(DistillError, match="training teacher failed: its process ended with exit code -9"):
            trainings.wait_for("teacher")
        trainings.start("plain")
        (process,) = [process for _, process, _ in trainings._running.values()]
    assert not process.is_alive()
