"""`yolo-distill predict` as a person types it."""

from __future__ import annotations

import json
import os
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import cv2
import numpy as np
import pytest
from made_detector import dense, write_detector, write_video

from yolo_distill.cli import main
from yolo_distill.runtime.capture import open_video

DISC = (16, 32, 8, 8, 0.9, 0, 0)
SQUARE = (48, 32, 16, 16, 0, 0.6, 0)


@pytest.fixture(autouse=True)
def _files(tmp_path):
    """Put a model, pictures and a video into the working folder."""
    write_detector(tmp_path / "best.onnx", dense(DISC, SQUARE))
    (tmp_path / "in").mkdir()
    for number, name in enumerate(("a.jpg", "b.png", "c.bmp")):
        cv2.imwrite(str(tmp_path / "in" / name), np.full((64 + number, 128, 3), 90, np.uint8))
    write_video(tmp_path / "film.avi")


def predict(*words):
    return main(["predict", "model=best.onnx", *words])


def files(folder="."):
    """Return every file below a folder, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def lines(path):
    return [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]


def test_folder(capsys):
    assert predict("source=in") == 0
    assert files("runs") == ["predict/a.jpg", "predict/b.png", "predict/c.bmp"]
    picture = cv2.imread("runs/predict/b.png")
    assert picture.shape == (65, 128, 3)
    assert (picture != 90).any()
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "3 pictures, 6 detections (3 disc, 3 square)"
    assert "ms each: read" in out[1]
    assert "inference" in out[1]
    assert out[2] == f"results: {Path('runs/predict')}"


def test_runs_are_numbered_unless_the_folder_may_be_used_again():
    for _ in range(2):
        assert predict("source=in/a.jpg") == 0
    assert predict("source=in/b.png", "exist_ok=true") == 0
    assert files("runs") == ["predict/a.jpg", "predict/b.png", "predict2/a.jpg"]


def test_labels_and_lines():
    assert predict("source=in/a.jpg", "save=false", "save_txt=true", "save_conf=true", "jsonl=found.jsonl") == 0
    assert files("runs") == ["predict/labels/a.txt"]
    assert Path("runs/predict/labels/a.txt").read_text() == "0 0.25 0.5 0.125 0.25 0.9\n1 0.75 0.5 0.25 0.5 0.6\n"
    (line,) = lines("found.jsonl")
    assert (line["source"], line["width"], line["height"]) == (str(Path("in/a.jpg")), 128, 64)
    assert "frame" not in line
    assert line["detections"][0] == {"class_id": 0, "name": "disc", "confidence": 0.9, "xyxy": [24.0, 24.0, 40.0, 40.0]}


def test_nothing_to_write_makes_no_folder():
    assert predict("source=in", "save=false") == 0
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["classes=square, 0"], ["disc", "square"]),
        (["classes=square"], ["square"]),
        (["max_det=1"], ["disc"]),
        (["conf=0.95"], []),
        (["imgsz=96", "threads=1", "providers=cpu"], ["disc", "square"]),
    ],
)
def test_settings_reach_the_detector(words, names):
    write_detector(Path("best.onnx"), dense(DISC, SQUARE), dynamic=True, batch=None)
    assert predict("source=in/a.jpg", "save=false", "save_txt=true", "jsonl=found.jsonl", *words) == 0
    assert [one["name"] for one in lines("found.jsonl")[0]["detections"]] == names
    assert len(Path("runs/predict/labels/a.txt").read_text().splitlines()) == len(names)


@pytest.mark.parametrize("batch", [1, 2, None])
def test_batches(tmp_path, batch):
    """Every picture is there once and in order, however many the file takes at a time."""
    gain = np.zeros_like(dense((16, 32, 8, 8, 0, 0, 0)))
    gain[4, 0] = 1
    write_detector(tmp_path / "best.onnx", dense((16, 32, 8, 8, 0, 0, 0)), gain=gain, batch=batch)
    (tmp_path / "many").mkdir()
    levels = [60 + 9 * number for number in range(11)]
    for level in levels:
        cv2.imwrite(f"many/{level:03d}.png", np.full((64, 64, 3), level, np.uint8))
    assert predict("source=many", "save=false", "conf=0.01", "jsonl=found.jsonl") == 0
    found = lines("found.jsonl")
    assert [Path(line["source"]).stem for line in found] == [f"{level:03d}" for level in levels]
    scores = [line["detections"][0]["confidence"] for line in found]
    np.testing.assert_allclose(scores, np.array(levels) / 255, atol=1e-4)


def test_a_video_and_every_fifth_of_its_frames():
    assert predict("source=film.avi", "save_txt=true", "jsonl=found.jsonl") == 0
    assert files("runs") == ["predict/film.mp4", *sorted(f"predict/labels/film_{n}.txt" for n in range(1, 13))]
    with open_video(Path("runs/predict/film.mp4")) as capture:
        assert (capture.total, capture.fps) == (12, 10)
    assert [line["frame"] for line in lines("found.jsonl")] == list(range(1, 13))
    assert predict("source=film.avi", "vid_stride=5", "jsonl=found.jsonl", "out=fifth") == 0
    assert [line["frame"] for line in lines("found.jsonl")] == [1, 6, 11]
    with open_video(Path("fifth/film.mp4")) as capture:
        assert (capture.total, capture.fps) == (3, 2)  # as long as the original


def test_pictures_and_videos_of_the_same_name(tmp_path):
    for name in ("x/film.jpg", "x/film.png", "y/film.jpg"):
        Path(name).parent.mkdir(exist_ok=True)
        cv2.imwrite(name, np.zeros((64, 64, 3), np.uint8))
    write_video(tmp_path / "x" / "film.avi", frames=2)
    assert predict("source=[xy]/*", "save_txt=true") == 0
    made = files("runs/predict")
    pictures = ["film-2.jpg", "film-3.png", "film-4.jpg", "film.mp4"]
    assert made == sorted(
        [*pictures, *(f"labels/film-{n}.txt" for n in (2, 3, 4)), "labels/film_1.txt", "labels/film_2.txt"]
    )


def test_a_picture_named_as_a_frame_of_a_video(tmp_path):
    Path("x").mkdir()
    cv2.imwrite("x/film_1.jpg", np.zeros((64, 64, 3), np.uint8))
    write_video(tmp_path / "x" / "film.avi", frames=1)
    assert predict("source=x", "save=false", "save_txt=true") == 0
    assert files("runs/predict") == ["labels/film-2_1.txt", "labels/film_1.txt"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take no such name")
def test_a_video_whose_name_is_no_text(tmp_path):
    name = os.fsdecode(b"film\xff")
    write_video(tmp_path / "film.avi", frames=1)
    Path("film.avi").rename(f"{name}.avi")
    assert predict(f"source={name}.avi", "save_txt=true") == 0
    assert files("runs") == [f"predict/{name}.mp4", f"predict/labels/{name}_1.txt"]


def test_files_that_cannot_be_decoded(capsys):
    Path("in/b.png").write_bytes(b"no picture")
    Path("in/d.mp4").write_bytes(b"no video")
    assert predict("source=in") == 1
    assert files("runs") == ["predict/a.jpg", "predict/c.bmp"]
    said = capsys.readouterr()
    assert f"{Path('in/b.png')}: cannot be decoded as a picture of at most 179 million pixels; skipped" in said.err
    assert f"{Path('in/d.mp4')}: cannot be opened as a video" in said.err
    assert "2 files could not be decoded and were skipped" in said.out


def test_progress_of_a_long_run(monkeypatch, capsys):
    monkeypatch.setattr("yolo_distill.runtime.progress._FILE_SECONDS", 0.0)
    assert predict("source=in") == 0
    assert f"2/3 {Path('in/b.png')}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=none.onnx"], "none.onnx: no such file"),
        (["source=nowhere"], "source=nowhere: no such file or folder"),
        (["source=bad.mp4"], "bad.mp4: cannot be opened as a video"),
        (["imgsz=640"], "imgsz=640,640: best.onnx takes 64,64 (height, width) only"),
        (["imgsz=64,64,64"], "imgsz=64,64,64: expected"),
        (["classes=disk"], "classes=disk: the model knows no such class; did you mean 'disc'?"),
        (["classes=,"], "classes=,: expected numbers or names"),
        (["out=best.onnx/x"], "is a file; give the name of a folder"),
        (["out=in", "exist_ok=true"], "out=in: is where source= lies"),
        (["jsonl=none/found.jsonl"], "jsonl=none/found.jsonl: there is no folder none"),
        (["jsonl=best.onnx"], "jsonl=best.onnx: is model= itself"),
        (["jsonl=in/a.jpg"], "jsonl=in/a.jpg: is one of the files of source="),
        (["show=true"], "show=true: there is no screen"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_requests(monkeypatch, refused, words, said):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    Path("bad.mp4").write_bytes(b"no video")
    if words == ["show=true"] and not sys.platform.startswith("linux"):
        pytest.skip("other systems always have a screen")
    assert said in refused("predict", "model=best.onnx", "source=in", "jsonl=found.jsonl", *words)


@pytest.mark.parametrize(("pictures", "labels"), [("gt/images", "gt/labels"), ("gt/labels", "gt/labels")])
def test_labels_of_a_source_are_not_replaced(refused, pictures, labels):
    for folder in (pictures, labels):
        Path(folder).mkdir(parents=True, exist_ok=True)
    Path("in/a.jpg").rename(f"{pictures}/a.jpg")
    Path(labels, "a.txt").write_text("by hand")
    words = [f"source={pictures}", "save=false", "save_txt=true", "exist_ok=true"]
    said = refused("predict", "model=best.onnx", *words, "out=gt")
    assert said == "out=gt: holds the labels of source=, which would be replaced; give another folder"
    assert predict(*words, "out=gt/found") == 0
    assert (files("gt/found"), Path(labels, "a.txt").read_text()) == (["labels/a.txt"], "by hand")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C in another way")
def test_ctrl_c_finishes_what_is_open(interrupted):
    write_video(Path("long.avi"), frames=4000)
    words = ["predict", "model=best.onnx", "source=long.avi", "save_txt=true", "jsonl=found.jsonl"]
    out = interrupted(*words, once=Path("runs/predict/labels/long_3.txt").exists)
    done = len(lines("found.jsonl"))
    assert 3 <= done < 4000
    assert f"{done} frames" in out
    with open_video(Path("runs/predict/long.mp4")) as capture:
        assert capture.total == done


def test_a_camera_that_breaks_off_is_no_success(monkeypatch, capsys):
    write_video(Path("clip.avi"), frames=3)
    capture = open_video(Path("clip.avi"))
    capture.live = True
    monkeypatch.setattr("yolo_distill.runtime.sources.open_camera", lambda number: capture)
    assert main(["predict", "model=best.onnx", "source=0", "save=false"]) == 1
    assert "0: gave no more frames after 3" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["film.avi", "film.avi?token=1", "film.gif?token=1", "in/b.png?token=1"])
def test_a_file_behind_an_address_has_an_end(name, capsys):
    """Be it named in the address, or counted by what opens it, or both."""
    if "gif" in name:
        image = pytest.importorskip("PIL.Image")
        image.new("RGB", (64, 48)).save("film.gif", save_all=True, append_images=[image.new("RGB", (64, 48), "red")])
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            assert predict(f"source=http://127.0.0.1:{server.server_port}/{name}", "save=false") == 0
        finally:
            server.shutdown()
    assert "gave no more frames" not in capsys.readouterr().err


def test_real_pictures(shared_data):
    folder = shared_data / "bccd" / "images" / "test"
    assert predict(f"source={folder}", "save_txt=true") == 0
    names = sorted(path.stem for path in folder.iterdir())
    assert [Path(name).stem for name in files("runs/predict/labels")] == names


@pytest.mark.parametrize(
    ("task", "own", "label", "keys"),
    [
        ("segment", (1, 0), "0 0.1875 0.375 0.1875 0.609375 0.304688 0.609375 0.304688 0.375 0.9\n", {"polygon"}),
        ("pose", (16, 32, 0.9, 20, 32, 0.1), "0 0.25 0.5 0.125 0.25 0.25 0.5 0.9 0.3125 0.5 0.1 0.9\n", {"keypoints"}),
        ("obb", (0,), "0 0.3125 0.625 0.3125 0.375 0.1875 0.375 0.1875 0.625 0.9\n", {"xywhr", "xyxyxyxy"}),
    ],
)
def test_other_tasks_need_not_be_named(task, own, label, keys):
    protos = np.stack([np.ones((16, 16)), np.zeros((16, 16))]) if task == "segment" else None
    notes = {"task": task, "kpt_shape": [2, 3]} if task == "pose" else {"task": task}
    write_detector(Path("best.onnx"), dense((*DISC, *own)), protos=protos, **notes)
    assert predict("source=in/a.jpg", "save_txt=true", "save_conf=true", "jsonl=found.jsonl") == 0
    assert Path("runs/predict/labels/a.txt").read_text() == label
    (found,) = lines("found.jsonl")[0]["detections"]
    assert found.keys() - {"class_id", "name", "confidence", "xyxy"} == keys
    assert (cv2.imread("runs/predict/a.jpg") != 90).any()
