"""The detector as a person calls it, on files whose answer is known."""

from __future__ import annotations

import os
import sys

import cv2
import numpy as np
import pytest
from made_detector import NAMES, dense, rows, write_detector

from yolo_distill import Detector
from yolo_distill.errors import DistillError, RequestError
from yolo_distill.runtime.detector import precision_of

# In a 64 x 64 input; a 64 x 128 picture lies in its middle half, at half its size.
DISC = (16, 32, 8, 8, 0.9, 0, 0)
SQUARE = (48, 32, 16, 16, 0, 0.6, 0)
ROW = (12, 28, 20, 36, 0.9, 0)  # the disc, end to end
PICTURE = np.full((64, 128, 3), 50, np.uint8)


@pytest.fixture
def file(tmp_path):
    return write_detector(tmp_path / "made.onnx", dense(DISC, SQUARE))


@pytest.fixture
def detector(file):
    return Detector(file)


class Spy:
    """A session that notes the shapes it was given."""

    def __init__(self, session):
        self.session, self.shapes = session, []

    def run(self, outputs, inputs):
        self.shapes.append(next(iter(inputs.values())).shape)
        return self.session.run(outputs, inputs)


def test_what_it_says_about_the_file(file):
    detector = Detector(str(file))
    assert (detector.names, detector.imgsz, detector.stride, detector.task) == (NAMES, (64, 64), 32, "detect")
    assert (detector.end2end, detector.batch) == (False, 1)
    assert detector.metadata["names"] == NAMES
    assert detector.session.get_inputs()[0].name == "images"


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("raw", [dense(DISC, SQUARE), rows(ROW, (40, 24, 56, 40, 0.6, 1))], ids=["dense", "end2end"])
def test_one_picture(tmp_path, raw, half):
    detector = Detector(write_detector(tmp_path / "made.onnx", raw, half=half))
    assert detector.end2end is (raw.shape[1] == 6)
    found = detector(PICTURE)
    assert len(found) == 2
    np.testing.assert_allclose(found.xyxy, [[24, 24, 40, 40], [80, 16, 112, 48]], atol=1e-4)
    np.testing.assert_allclose(found.confidence, [0.9, 0.6], rtol=1e-3 if half else 1e-6)
    assert (found.class_id.tolist(), found.names) == ([0, 1], NAMES)
    assert (found.xyxy.dtype, found.confidence.dtype, found.class_id.dtype) == (np.float32, np.float32, np.int64)


@pytest.mark.parametrize("raw", [dense(), rows()], ids=["dense", "end2end"])
def test_nothing_found(tmp_path, raw):
    found = Detector(write_detector(tmp_path / "made.onnx", raw))(PICTURE)
    assert (len(found), found.xyxy.shape, found.confidence.shape, found.class_id.shape) == (0, (0, 4), (0,), (0,))


@pytest.mark.parametrize(
    ("settings", "classes"),
    [
        ({}, [0, 2, 1]),
        ({"conf": 0.85}, [0]),
        ({"max_det": 1}, [0]),
        ({"classes": [1]}, [1]),
        ({"classes": ["square", "0"]}, [0, 1]),
        ({"classes": 0}, [0]),
        ({"classes": np.int64(1)}, [1]),
        ({"classes": "square"}, [1]),
        ({"iou": 1.0}, [0, 0, 2, 1]),
        ({"agnostic": True}, [0, 1]),
    ],
)
def test_settings(tmp_path, settings, classes):
    raw = dense(DISC, (*DISC[:4], 0.8, 0, 0), (*DISC[:4], 0, 0, 0.65), SQUARE)
    detector = Detector(write_detector(tmp_path / "made.onnx", raw))
    assert detector(PICTURE, **settings).class_id.tolist() == classes
    tensor, transform = detector.preprocess(PICTURE)
    answer = detector.infer(tensor)
    assert (answer.shape, answer.dtype) == ((1, 7, 40), np.float32)
    assert (
        detector.postprocess(answer, [transform], **settings)[0].class_id.tolist() == classes
    )  # the same in three steps


def test_a_name_of_several_classes_stands_for_all(tmp_path):
    names = {0: "disc", 1: "square", 2: "disc"}
    detector = Detector(write_detector(tmp_path / "made.onnx", dense(DISC, SQUARE), names=names))
    assert detector.class_ids("disc") == [0, 2]
    assert detector(PICTURE, classes="disc").class_id.tolist() == [0]


@pytest.mark.parametrize(
    ("batch", "shapes"),
    [(1, [(1, 3, 64, 64)] * 3), (2, [(2, 3, 64, 64)] * 2), (4, [(4, 3, 64, 64)]), (None, [(3, 3, 64, 64)])],
)
def test_lists(tmp_path, batch, shapes):
    """Each picture gets its own answer, in order, however the file takes them."""
    gain = np.zeros_like(dense(DISC))
    gain[4, 0] = 1  # the score is the picture's brightness
    raw = dense((*DISC[:4], 0, 0, 0))
    detector = Detector(write_detector(tmp_path / "made.onnx", raw, gain=gain, batch=batch))
    assert detector.batch == batch
    detector.session = spy = Spy(detector.session)
    pictures = [np.full((64, 64, 3), level, np.uint8) for level in (255, 102, 204)]
    for given in (pictures, np.stack(pictures)):
        np.testing.assert_allclose([one.confidence for one in detector(given)], [[1.0], [0.4], [0.8]], rtol=1e-5)
    assert spy.shapes == shapes * 2
    assert detector([]) == []


def test_a_long_list_is_taken_some_at_a_time(tmp_path):
    """Though the file takes any number: each is decoded when its turn comes."""
    detector = Detector(write_detector(tmp_path / "made.onnx", dense(DISC, SQUARE), batch=None))
    detector.session = spy = Spy(detector.session)
    with pytest.raises(RequestError, match=r"^picture 11 of 11: gone\.jpg"):
        detector([PICTURE] * 10 + ["gone.jpg"])
    assert [len(one) for one in detector([PICTURE] * 11)] == [2] * 11
    assert detector.infer(np.zeros((11, 3, 64, 64), np.float32)).shape == (11, 7, 40)
    assert [shape[0] for shape in spy.shapes] == [8, 8, 3, 8, 3]


def test_lists_of_different_pictures(tmp_path, detector):
    cv2.imwrite(str(tmp_path / "a.png"), PICTURE)
    given = [PICTURE, PICTURE[:, :64], PICTURE[..., 0], tmp_path / "a.png", "a.png"]
    for images in (given, tuple(given)):
        found = detector(images)
        for same in (0, 2, 3, 4):
            np.testing.assert_allclose(found[same].xyxy[0], [24, 24, 40, 40], atol=1e-4)
        np.testing.assert_allclose(found[1].xyxy[0], [12, 28, 20, 36], atol=1e-4)
    assert len(detector("a.png")) == 2


def test_dynamic_size(tmp_path):
    file = write_detector(tmp_path / "made.onnx", dense(DISC), dynamic=True, batch=None)
    assert Detector(file).imgsz == (64, 64)
    assert Detector(file, imgsz=96).imgsz == (96, 96)
    detector = Detector(file, imgsz=(32, 96))
    assert detector.preprocess(PICTURE)[0].shape == (1, 3, 32, 96)
    detector.session = spy = Spy(detector.session)
    for imgsz in (None, 64, (64, 128), np.int64(96)):
        assert len(detector(PICTURE, imgsz=imgsz)) == 1
    assert [shape[2:] for shape in spy.shapes] == [(32, 96), (64, 64), (64, 128), (96, 96)]
    assert detector.imgsz == (32, 96)


@pytest.mark.parametrize(
    ("imgsz", "said"),
    [
        (100, "imgsz=100,100: .* multiples of 32"),
        (0, "imgsz=0,0: .* multiples of 32"),
        ("640", "imgsz='640': expected a whole number of pixels, or .height, width."),
        ((64,), r"imgsz=\(64,\): expected"),
        (64.0, "imgsz=64.0: expected"),
    ],
)
def test_sizes_that_are_none(tmp_path, imgsz, said):
    file = write_detector(tmp_path / "made.onnx", dense(DISC), dynamic=True)
    for call in (lambda: Detector(file, imgsz=imgsz), lambda: Detector(file)(PICTURE, imgsz=imgsz)):
        with pytest.raises(RequestError, match=said):
            call()


def test_a_size_for_a_file_of_a_fixed_one(detector):
    assert len(detector(PICTURE, imgsz=64)) == 2
    with pytest.raises(RequestError, match=r"imgsz=96,96: .* takes 64,64 .* only; leave imgsz= out"):
        detector(PICTURE, imgsz=96)


@pytest.mark.parametrize("change", [{"end2end": None}, {"end2end": False}, {"end2end": None, "args": "{'nms': True}"}])
def test_a_fixed_shape_says_the_layout(tmp_path, change):
    """Older exports of v10 do not say that they are end to end."""
    assert Detector(write_detector(tmp_path / "made.onnx", rows(ROW, count=300), **change)).end2end


def test_two_classes_are_not_mistaken_for_end_to_end(tmp_path):
    raw = dense((*DISC[:4], 0.9, 0))
    assert raw.shape[0] == 6
    detector = Detector(write_detector(tmp_path / "made.onnx", raw, names={0: "a", 1: "b"}, end2end=None))
    assert detector.end2end is False
    assert len(detector(PICTURE)) == 1


@pytest.mark.parametrize(
    ("half", "notes", "expected"),
    [
        (False, {}, "fp32"),
        (True, {}, "fp16"),
        (False, {"precision": "int8"}, "int8"),
        (True, {"precision": "fp32"}, "fp32"),  # the note stands above the type of the input
    ],
)
def test_precision(tmp_path, half, notes, expected):
    assert precision_of(Detector(write_detector(tmp_path / "a.onnx", dense(), half=half, **notes))) == expected


def test_a_file_cut_off_anywhere(file):
    """It is refused in one line; unless all that it lost are notes that nobody needs, and it answers as before."""
    whole = file.read_bytes()
    expected = Detector(file)(PICTURE).to_dicts()
    errors = []
    ends = [*range(0, len(whole) - 200, 9), *range(len(whole) - 200, len(whole))]  # the last bytes are the notes
    for end in ends:
        file.write_bytes(whole[:end])
        try:
            detector = Detector(file)
        except DistillError as error:
            errors.append(str(error))
        else:
            assert detector(PICTURE).to_dicts() == expected
    assert len(errors) > len(ends) - 5
    assert all(error.startswith(f"{file}: ") and "\n" not in error for error in errors)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(("raw", "place"), [(dense(DISC), (4, 1)), (rows(ROW), (1, 4))], ids=["dense", "end2end"])
def test_an_answer_that_is_no_number(tmp_path, half, raw, place):
    """As a half-precision file answers that overflows: said, not passed over as nothing found."""
    raw = raw.copy()
    raw[place] = np.inf
    file = write_detector(tmp_path / "made.onnx", raw, half=half)
    with pytest.raises(DistillError) as caught:
        Detector(file)(PICTURE)
    assert str(caught.value).startswith(f"{file}: nan or infinity in the network's answer; ")
    assert str(caught.value).endswith("export it again, in full precision")


def test_folders_and_checkpoints(tmp_path):
    with pytest.raises(RequestError, match="is a folder"):
        Detector(tmp_path)
    with pytest.raises(RequestError, match=r"yolo-distill export model=.*best\.pt"):
        Detector(tmp_path / "best.pt")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take no such name")
def test_a_name_that_is_no_text(file, tmp_path):
    odd = file.rename(tmp_path / os.fsdecode(b"made\xff.onnx"))
    with pytest.raises(RequestError, match="its name is no UTF-8, which onnxruntime cannot open; rename it"):
        Detector(odd)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"imgsz": (64, 32)}, "imgsz=64,32: .* takes 64,64"),
        ({"threads": 0}, "threads=0: must be at least 1"),
        ({"providers": "cpuu"}, "providers=cpuu: .*did you mean 'cpu'"),
    ],
)
def test_bad_ways_to_open(file, setting, said):
    with pytest.raises(RequestError, match=said):
        Detector(file, **setting)


@pytest.mark.parametrize("providers", [None, "cpu", ["CPUExecutionProvider"], "CPUExecutionProvider"])
def test_providers(file, providers):
    assert "CPUExecutionProvider" in Detector(file, providers=providers, threads=1).session.get_providers()


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (None, "^got None in place of a picture"),
        ([PICTURE, None], "^picture 2 of 2: got None in place of a picture"),
        ((PICTURE, PICTURE, "gone.jpg"), r"^picture 3 of 3: gone\.jpg: cannot be opened"),
        (np.zeros((2, 4, 4, 3), np.float32), r"^picture 1 of 2: got an array \(4, 4, 3\) of float32"),
        (np.zeros((1, 2, 4, 4, 3), np.uint8), r"^got an array \(1, 2, 4, 4, 3\)"),
    ],
)
def test_what_is_no_picture(detector, images, said):
    with pytest.raises(RequestError, match=said):
        detector(images)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"conf": 1.5}, "conf=1.5: must be between 0 and 1"),
        ({"conf": float("nan")}, "conf=nan"),
        ({"iou": -0.1}, "iou=-0.1"),
        ({"max_det": 0}, "max_det=0"),
        ({"classes": [3]}, "classes=3: the model knows no such class"),
        ({"classes": ["sqare"]}, "did you mean 'square'"),
    ],
)
def test_settings_out_of_range(detector, setting, said):
    for call in (lambda: detector([], **setting), lambda: detector.postprocess(dense()[None], [], **setting)):
        with pytest.raises(RequestError, match=said):
            call()


def test_a_model_that_fails_while_running(detector):
    with pytest.raises(DistillError, match="running the model failed"):
        detector.infer(np.zeros((1, 3, 32, 32), np.float32))
