"""`yolo-distill predict` on what is really in people's folders: each file is read rightly, or named and skipped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_detector import dense, write_detector
from odd_pictures import encoded, odd_pictures, picture

from yolo_distill.cli import main
from yolo_distill.runtime.sources import read_picture

pytest.importorskip("PIL", reason="some pictures are written with Pillow")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows refuses some of the names")


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Return a folder of odd files, and the list of them."""
    folder = tmp_path_factory.mktemp("odd")
    files = list(odd_pictures())
    assert len({one.name for one in files}) == len(files) > 500
    for one in files:
        one.write(folder / one.name)
    return folder, files


@pytest.fixture
def model(tmp_path):
    return write_detector(tmp_path / "best.onnx", dense((16, 32, 8, 8, 0.9, 0, 0)))


def predict(*words):
    return main(["predict", "model=best.onnx", *map(str, words)])


def test_every_picture_is_read_rightly_and_as_the_hosts_loader_reads_it(odd):
    host = pytest.importorskip("ultralytics.utils.patches").imread
    folder, files = odd
    for name, _, expected, tolerance in files:
        image = read_picture(str(folder / name))
        if expected is None:
            assert image is None, name
            continue
        assert image is not None, name
        assert (image.shape, image.dtype) == (expected.shape, np.uint8), name
        assert np.abs(image.astype(int) - expected).max() <= tolerance, name
        np.testing.assert_array_equal(image, host(folder / name), err_msg=name)


def test_a_run_over_all_of_them(odd, model, capsys):
    folder, files = odd
    assert predict(f"source={folder}", "save=false", "jsonl=found.jsonl") == 1
    said = capsys.readouterr()
    readable = {str(folder / one.name): one.expected.shape[:2] for one in files if one.expected is not None}
    lines = [json.loads(line) for line in Path("found.jsonl").read_text("utf-8").splitlines()]
    assert {line["source"]: (line["height"], line["width"]) for line in lines} == readable
    skipped = [line for line in said.err.splitlines() if line.endswith("; skipped")]
    broken = {str(folder / one.name) for one in files if one.expected is None}
    assert {line.split(": ")[0] for line in skipped} == broken
    assert len(skipped) == len(broken) > 100
    assert f"{len(readable)} pictures, " in said.out
    assert f"{len(broken)} files could not be decoded and were skipped" in said.out


def test_their_results_are_written(tmp_path, model):
    """One of each kind: a picture of the same size, and labels, under a name of its own."""
    files = [one for one in odd_pictures(1) if one.expected is not None]
    (tmp_path / "in").mkdir()
    for one in files:
        one.write(tmp_path / "in" / one.name)
    assert predict("source=in", "save_txt=true") == 0
    written = sorted(path for path in Path("runs/predict").iterdir() if path.is_file())
    assert len(written) == len(files) == len(list(Path("runs/predict/labels").iterdir()))
    shapes = sorted(read_picture(str(path)).shape for path in written)
    assert shapes == sorted(one.expected.shape for one in files)


@pytest.mark.parametrize("name", ["a.gif", "100%d.gif"])
def test_gifs_are_videos(tmp_path, model, name):
    from PIL import Image

    frames = [Image.fromarray(picture(seed)) for seed in range(3)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=100)
    assert predict(f"source={name}", "save=false", "jsonl=found.jsonl") == 0
    lines = [json.loads(line) for line in Path("found.jsonl").read_text().splitlines()]
    assert [(line["frame"], line["width"]) for line in lines] == [(1, 64), (2, 64), (3, 64)]


def test_a_name_that_is_no_text(tmp_path, model):
    """A file's name may be any bytes; what is not UTF-8 is written as JSON can hold it."""
    (tmp_path / "in").mkdir()
    try:
        Path(os.fsdecode(b"in/caf\xe9.png")).write_bytes(encoded(".png", picture(0)))
    except OSError:
        pytest.skip("this disk takes UTF-8 names only")
    assert predict("source=in", "save_txt=true", "jsonl=found.jsonl") == 0
    assert json.loads(Path("found.jsonl").read_text("utf-8"))["source"] == r"in/caf\udce9.png"
    assert [os.fsencode(path.name) for path in Path("runs/predict/labels").iterdir()] == [b"caf\xe9.txt"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_not_waited_for_and_not_replaced(tmp_path, model, capsys, refused):
    """A finished file takes the place of what is there: that must be no pipe and no device."""
    (tmp_path / "in").mkdir()
    os.mkfifo("in/a.jpg")
    assert predict("source=in", "jsonl=found.jsonl") == 1
    assert "in/a.jpg: is no file; skipped" in capsys.readouterr().err
    for name in ("in/a.jpg", os.devnull):
        line = refused("predict", "model=best.onnx", "source=in", f"jsonl={name}")
        assert line == f"jsonl={name}: is a device or a pipe; give the name of a file"


LARGE = """
import sys
from yolo_distill.cli import main

def peak():
    # Not resource.getrusage: that of a new process begins with its parent's.
    return int(next(row for row in open("/proc/self/status") if row.startswith("VmHWM")).split()[1]) / 1024

main(["predict", "model=best.onnx", "source=in/1.png", "save=false"])
before = peak()
code = main(["predict", "model=best.onnx", "source=in", sys.argv[1], "jsonl=found.jsonl"])
print(peak() - before, code)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux says what a process took at most")
@pytest.mark.parametrize("save", [False, True])
def test_posters_do_not_fill_the_memory(tmp_path, save):
    """Twelve of 30,000 px, for a file that takes any number at a time: some are in memory at once, not all."""
    write_detector(tmp_path / "best.onnx", dense((16, 32, 8, 8, 0.9, 0, 0)), batch=None)
    (tmp_path / "in").mkdir()
    large = np.full((500, 30_000, 3), 90, np.uint8)  # 43 MiB
    data = encoded(".png", large)
    for number in range(1, 13):
        (tmp_path / "in" / f"{number}.png").write_bytes(data)
    code = [sys.executable, "-c", textwrap.dedent(LARGE), f"save={save}"]
    run = subprocess.run(code, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    grown, exit_code = run.stdout.splitlines()[-1].split()
    assert exit_code == "0"
    assert float(grown) < 43 * 6


FULL = """
import resource, sys
from yolo_distill.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))  # no file may grow beyond this
sys.exit(main(["predict", "model=best.onnx", "source=in", *sys.argv[2:]]))
"""


@pytest.mark.parametrize(
    ("limit", "words", "left"),
    [
        (10, ["save=false", "save_txt=true"], []),
        (300, ["save=false", "jsonl=found.jsonl"], []),
        # The second picture is larger.
        (3000, ["jsonl=found.jsonl", "save_txt=true"], ["a.png", "labels/a.txt", "labels/b.txt"]),
    ],
)
def test_a_disk_that_is_full(tmp_path, model, limit, words, left):
    """One line, and nothing half-written."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(encoded(".png", np.zeros((64, 64, 3), np.uint8)))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    (tmp_path / "in" / "b.png").write_bytes(encoded(".png", noise))
    (tmp_path / "in" / "c.png").write_bytes(encoded(".png", noise))
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    code = [sys.executable, "-c", textwrap.dedent(FULL), str(limit), *words]
    run = subprocess.run(code, capture_output=True, text=True, timeout=120)
    assert run.returncode == 1, run.stderr
    assert run.stderr.startswith("yolo-distill: ")
    assert "cannot be written (File too large)" in run.stderr
    assert run.stderr.count("\n") == 1
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert sorted(path.relative_to(tmp_path / "runs" / "predict").as_posix() for path in made) == left
    assert all(cv2.imread(str(path)) is not None for path in made if path.suffix == ".png")
