"""What a caller may give as a picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from yolo_distill.errors import RequestError
from yolo_distill.runtime.pictures import as_picture
from yolo_distill.runtime.sources import read_picture

IMAGE = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
IMAGE_RGB = IMAGE[..., ::-1]


def test_arrays():
    assert as_picture(IMAGE) is IMAGE
    grey = np.arange(48, dtype=np.uint8).reshape(6, 8)
    for given in (grey, grey[..., None]):
        np.testing.assert_array_equal(as_picture(given), np.stack([grey] * 3, -1))
    np.testing.assert_array_equal(as_picture(np.dstack([IMAGE, grey])), IMAGE)


@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["text", "Path"])
def test_paths_are_read_as_predict_reads_them(tmp_path, kind):
    """A TIFF of 16 bits: OpenCV's own imread rounds it."""
    path = tmp_path / "a.tif"
    cv2.imwrite(str(path), IMAGE.astype(np.uint16) * 256 + 200)
    np.testing.assert_array_equal(as_picture(kind(path)), IMAGE)
    np.testing.assert_array_equal(read_picture(str(path)), IMAGE)


def test_pictures_of_pil():
    pil = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    np.testing.assert_array_equal(as_picture(pil.fromarray(IMAGE_RGB)), IMAGE)
    grey = pil.fromarray(IMAGE[..., 0])
    alpha = pil.fromarray(np.dstack([IMAGE_RGB, IMAGE[..., 0]]))
    deep = pil.fromarray(IMAGE[..., 0].astype(np.uint16) * 256 + 200)
    assert (grey.mode, alpha.mode, deep.mode) == ("L", "RGBA", "I;16")
    np.testing.assert_array_equal(as_picture(alpha), IMAGE)
    for one in (grey, deep):
        np.testing.assert_array_equal(as_picture(one), np.stack([IMAGE[..., 0]] * 3, -1))
    palette = grey.convert("P")
    np.testing.assert_array_equal(as_picture(palette), np.stack([IMAGE[..., 0]] * 3, -1))
    turned = pil.fromarray(IMAGE_RGB)
    turned.getexif()[0x0112] = 6  # orientation: to be turned to the right
    np.testing.assert_array_equal(as_picture(turned), np.rot90(IMAGE, -1))


def test_pictures_of_pil_that_cannot_be_read(tmp_path):
    pil = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    path = tmp_path / "a.png"
    pil.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:20_000])
    for given, said in ((pil.open(path), "cannot be read"), (pil.new("F", (4, 4)), "mode F")):
        with pytest.raises(RequestError, match=said) as caught:
            as_picture(given)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "got None in place of a picture, which is what cv2.imread gives"),
        ("gone.jpg", r"gone\.jpg: cannot be opened \(No such file or directory\); expected a picture"),
        (".", r"\.: is a folder; expected a picture \(folders, videos and cameras: yolo-distill predict\)"),
        (object(), "got object; expected a picture: a path, a PIL picture or a numpy array"),
        (b"bytes", "got bytes"),
        (np.zeros((4, 4, 3), np.float32), r"\(4, 4, 3\) of float32"),
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\) of uint8"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
        (np.zeros(4, np.uint8), r"\(4,\)"),
    ],
)
def test_what_is_no_picture(given, said):
    with pytest.raises(RequestError, match=f"^{said}|^got an array {said}") as caught:
        as_picture(given)
    assert "\n" not in str(caught.value)
