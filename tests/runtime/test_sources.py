"""What `source=` may be."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from made_detector import write_video

from yolo_distill.errors import DistillError, RequestError
from yolo_distill.runtime.capture import open_video
from yolo_distill.runtime.sources import cut_off_jpeg, find, read_picture, why_unread


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "._b.jpg", "a.PNG", "a[1].jpg", "notes.txt", "film.mp4", "below/c.jpg", "empty/x.txt"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "in"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("b.jpg", ["b.jpg"]),
        ("a[1].jpg", ["a[1].jpg"]),  # a name, and no pattern
        ("notes.txt", ["notes.txt"]),  # by name alone one cannot know; it is tried as a picture
        ("", ["a.PNG", "a[1].jpg", "b.jpg", "film.mp4"]),
        ("b*.jpg", ["b.jpg"]),
        ("**/*", ["a.PNG", "a[1].jpg", "b.jpg", "below/c.jpg", "film.mp4"]),
        ("[ab].*", ["a.PNG", "b.jpg"]),
    ],
)
def test_files(folder, source, expected):
    items = find(str(folder / source))
    assert [str(Path(item.name).relative_to(folder)) for item in items] == expected
    assert [item.open is not None for item in items] == [name.endswith(".mp4") for name in expected]


@pytest.mark.parametrize("source", ["0", "12", "rtsp://camera/1", "HTTP://camera/mjpg", "https://host/film.mp4"])
def test_live(source):
    (item,) = find(source)
    assert (item.name, item.live, item.open is not None) == (source, True, True)


def test_a_folder_whose_name_is_a_number_is_no_camera(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / "below").rename("77")
    assert [item.name for item in find("77")] == [str(Path("77/c.jpg"))]


@pytest.mark.parametrize("digits", [11, 5000])
def test_a_number_that_no_camera_has(digits):
    with pytest.raises(RequestError, match=rf"^source=9{{1,20}}: {digits} digits are too many for a camera's number"):
        find("9" * digits)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nothing", "no such file or folder"),
        ("empty", "the folder holds no pictures or videos"),
        ("*.gif", "no picture or video matches"),
        ("notes.*", "no picture or video matches"),
    ],
)
def test_refused(folder, source, said):
    with pytest.raises(RequestError) as caught:
        find(str(folder / source))
    assert str(caught.value).startswith(f"source={folder / source}: {said}")


def test_why_a_picture_cannot_be_read(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "head.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "link.jpg").symlink_to("nothing")
    reasons = {
        "folder.jpg": "is a folder",
        "empty.jpg": "is empty",
        "text.jpg": "cannot be decoded as a picture of at most 179 million pixels",
        "head.png": "cannot be decoded as a picture of at most 179 million pixels",
        "link.jpg": "is a link to what is not there",
        "gone.jpg": "cannot be opened (No such file or directory)",
        "x" * 300: "cannot be opened (File name too long)",
    }
    for name, reason in reasons.items():
        assert read_picture(str(tmp_path / name)) is None
        assert why_unread(str(tmp_path / name)) == reason


def test_a_jpeg_without_its_end():
    """Wherever it is cut off, however it is made, and whatever comes behind it."""
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8), (0, 0), 2)
    for settings in ([], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 1]):
        data = cv2.imencode(".jpg", image, settings)[1].ravel()
        thumbnail = data.tobytes()
        head = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
        nested = np.frombuffer(data[:2].tobytes() + head + data[2:].tobytes(), np.uint8)
        for whole in (data, nested):
            assert not cut_off_jpeg(whole)
            assert not cut_off_jpeg(np.append(whole, np.frombuffer(b"rest\xff\xd8", np.uint8)))
            assert all(cut_off_jpeg(whole[:end]) for end in range(2, len(whole) - 1))
    assert not cut_off_jpeg(cv2.imencode(".png", image)[1].ravel())
    assert not cut_off_jpeg(data[:1])


def levels(capture):
    found = []
    while (image := capture.read()) is not None:
        found.append(round(float(image.mean()) / 10))
    return found


def test_video(tmp_path):
    path = write_video(tmp_path / "a.avi")
    with open_video(path) as capture:
        assert (capture.fps, capture.total, capture.live) == (10, 12, False)
        assert levels(capture) == list(range(12))
    with open_video(path) as capture:
        assert capture.skip(0) == 0
        assert capture.skip(2) == 2  # the first frame, which was read to see whether there is one, is one of them
        assert round(float(capture.read().mean()) / 10) == 2
        assert capture.skip(5) == 5
        assert levels(capture) == [8, 9, 10, 11]
        assert capture.skip(3) == 0


@pytest.mark.parametrize("content", ["nothing", "text", "half", "no frame"])
def test_videos_that_cannot_be_opened(tmp_path, content, capfd):
    path = tmp_path / "a.mp4"
    whole = write_video(path).read_bytes()
    path.write_bytes({"nothing": b"", "text": b"text"}.get(content, whole[: len(whole) // 2]))
    if content == "no frame":
        path = write_video(tmp_path / "a.avi", frames=0)
    capfd.readouterr()
    with pytest.raises(RequestError, match=r"cannot be opened as a video|no frame"):
        open_video(path)
    assert capfd.readouterr() == ("", "")  # the error says it all


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("63", "camera 63 is not there or is in use"),
        ("rtsp://127.0.0.1:9/x", "the stream cannot be reached"),
        ("http://127.0.0.1:9/x.mp4", "the stream cannot be reached"),
    ],
)
def test_live_sources_that_are_not_there(source, said, capfd):
    (item,) = find(source)
    with pytest.raises(DistillError, match=f"source={source}: {said}"):
        item.open()
    assert capfd.readouterr() == ("", "")
