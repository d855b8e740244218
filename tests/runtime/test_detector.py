"""The detector as a person calls it, on files whose answer is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from made_detector import NAMES, dense, rows, write_detector

import yolo_distill
from yolo_distill import Detector
from yolo_distill.errors import DistillError, RequestError
from yolo_distill.runtime.detector import Detections

# In a 64 x 64 input; a 64 x 128 picture lies in its middle half, at half its size.
DISC = (16, 32, 8, 8, 0.9, 0, 0)
SQUARE = (48, 32, 16, 16, 0, 0.6, 0)
PICTURE = np.full((64, 128, 3), 50, np.uint8)


@pytest.fixture
def file(tmp_path):
    return write_detector(tmp_path / "made.onnx", dense(DISC, SQUARE))


class Spy:
    """A session that notes the shapes it was given."""

    def __init__(self, session):
        self.session, self.shapes = session, []

    def run(self, outputs, inputs):
        self.shapes.append(next(iter(inputs.values())).shape)
        return self.session.run(outputs, inputs)


def test_public_names():
    assert yolo_distill.Detections is Detections
    assert yolo_distill.Detector is Detector


def test_what_it_says_about_the_file(file):
    detector = Detector(str(file))
    assert (detector.names, detector.imgsz, detector.stride, detector.task) == (NAMES, (64, 64), 32, "detect")
    assert (detector.end2end, detector.batch) == (False, 1)
    assert detector.metadata["names"] == NAMES
    assert detector.session.get_inputs()[0].name == "images"


@pytest.mark.parametrize("layout", ["dense", "end2end"])
def test_one_picture(tmp_path, layout):
    raw = dense(DISC, SQUARE) if layout == "dense" else rows((12, 28, 20, 36, 0.9, 0), (40, 24, 56, 40, 0.6, 1))
    detector = Detector(write_detector(tmp_path / "made.onnx", raw))
    assert detector.end2end is (layout == "end2end")
    found = detector(PICTURE)
    assert len(found) == 2
    np.testing.assert_allclose(found.xyxy, [[24, 24, 40, 40], [80, 16, 112, 48]], atol=1e-4)
    np.testing.assert_allclose(found.confidence, [0.9, 0.6], rtol=1e-6)
    assert found.class_id.tolist() == [0, 1]
    assert found.names == NAMES
    assert (found.xyxy.dtype, found.confidence.dtype, found.class_id.dtype) == (np.float32, np.float32, np.int64)
    assert json.loads(json.dumps(found.to_dicts())) == [
        {"class_id": 0, "name": "disc", "confidence": 0.9, "xyxy": [24.0, 24.0, 40.0, 40.0]},
        {"class_id": 1, "name": "square", "confidence": 0.6, "xyxy": [80.0, 16.0, 112.0, 48.0]},
    ]


@pytest.mark.parametrize("raw", [dense(), rows()], ids=["dense", "end2end"])
def test_nothing_found(tmp_path, raw):
    found = Detector(write_detector(tmp_path / "made.onnx", raw))(PICTURE)
    assert (len(found), found.xyxy.shape, found.confidence.shape, found.class_id.shape) == (0, (0, 4), (0,), (0,))
    assert found.to_dicts() == []


def test_settings_reach_the_decoder(file):
    detector = Detector(file)
    assert detector(PICTURE, conf=0.7).class_id.tolist() == [0]
    assert detector(PICTURE, max_det=1).class_id.tolist() == [0]
    assert detector(PICTURE, classes=[1]).class_id.tolist() == [1]
    assert detector(PICTURE, classes=["square", "0"]).class_id.tolist() == [0, 1]


def test_iou_and_agnostic_reach_the_decoder(tmp_path):
    detector = Detector(
        write_detector(tmp_path / "made.onnx", dense(DISC, (*DISC[:4], 0.5, 0, 0), (*DISC[:4], 0, 0.4, 0)))
    )
    assert detector(PICTURE).class_id.tolist() == [0, 1]
    assert detector(PICTURE, iou=1.0).class_id.tolist() == [0, 0, 1]
    assert detector(PICTURE, agnostic=True).class_id.tolist() == [0]


def test_input_is_red_green_blue_between_0_and_1(file):
    image = np.zeros((64, 64, 3), np.uint8)
    image[..., 0], image[..., 2] = 255, 51  # blue, red
    tensor, _ = Detector(file).preprocess(image)
    assert (tensor.shape, tensor.dtype, tensor.flags.c_contiguous) == ((1, 3, 64, 64), np.float32, True)
    assert [set(channel.ravel()) for channel in tensor[0]] == [{np.float32(0.2)}, {0.0}, {1.0}]


@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 1), (64, 64, 4)], ids=["grey", "grey1", "alpha"])
def test_other_pictures(file, shape):
    tensor, _ = Detector(file).preprocess(np.full(shape, 51, np.uint8))
    np.testing.assert_array_equal(tensor, np.full((1, 3, 64, 64), 0.2, np.float32))


def test_a_view_of_a_picture_is_taken(file):
    tensor, _ = Detector(file).preprocess(PICTURE[::2, ::-2])
    assert tensor.shape == (1, 3, 64, 64)


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
    found = detector(pictures)
    np.testing.assert_allclose([one.confidence for one in found], [[1.0], [0.4], [0.8]], rtol=1e-5)
    assert spy.shapes == shapes
    stacked = detector(np.stack(pictures))
    np.testing.assert_allclose([one.confidence for one in stacked], [[1.0], [0.4], [0.8]], rtol=1e-5)


def test_lists_of_different_pictures(file):
    found = Detector(file)([PICTURE, PICTURE[:, :64], PICTURE[..., 0]])
    np.testing.assert_allclose(found[0].xyxy, found[2].xyxy)
    np.testing.assert_allclose(found[1].xyxy[0], [12, 28, 20, 36], atol=1e-4)


def test_empty_list(file):
    assert Detector(file)([]) == []


def test_steps_are_the_whole(file):
    detector = Detector(file)
    tensor, transform = detector.preprocess(PICTURE)
    raw = detector.infer(tensor)
    assert (raw.shape, raw.dtype) == ((1, 7, 40), np.float32)
    (found,) = detector.postprocess(raw, [transform], conf=0.25, iou=0.7, max_det=300)
    np.testing.assert_array_equal(found.xyxy, detector(PICTURE).xyxy)


def test_half_precision(tmp_path):
    detector = Detector(write_detector(tmp_path / "made.onnx", dense(DISC), half=True))
    found = detector(PICTURE)
    assert found.confidence.dtype == np.float32
    np.testing.assert_allclose(found.confidence, [0.9], atol=1e-3)


def test_dynamic_size(tmp_path):
    file = write_detector(tmp_path / "made.onnx", dense(DISC), dynamic=True, batch=None)
    assert Detector(file).imgsz == (64, 64)
    assert Detector(file, imgsz=96).imgsz == (96, 96)
    detector = Detector(file, imgsz=(32, 96))
    assert detector.preprocess(PICTURE)[0].shape == (1, 3, 32, 96)
    assert len(detector(PICTURE)) == 1
    with pytest.raises(RequestError, match=r"imgsz=100,100: .* multiples of 32"):
        Detector(file, imgsz=100)


@pytest.mark.parametrize(
    ("change", "end2end"),
    [
        ({}, True),
        ({"end2end": None}, True),
        ({"end2end": False}, True),
        ({"end2end": None, "args": "{'nms': True}"}, True),
    ],
)
def test_a_fixed_shape_says_the_layout(tmp_path, change, end2end):
    """Older exports of v10 do not say that they are end to end."""
    raw = rows((12, 28, 20, 36, 0.9, 0), count=300)
    assert Detector(write_detector(tmp_path / "made.onnx", raw, **change)).end2end is end2end


def test_two_classes_are_not_mistaken_for_end_to_end(tmp_path):
    raw = dense((*DISC[:4], 0.9, 0))
    assert raw.shape[0] == 6
    detector = Detector(write_detector(tmp_path / "made.onnx", raw, names={0: "a", 1: "b"}, end2end=None))
    assert detector.end2end is False
    assert len(detector(PICTURE)) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file"),
        (b"", "is empty"),
        (b"just some text", "is not an ONNX model"),
        (b"PK\x03\x04 a zip", "is not an ONNX model"),
        (b"\x08\x08 begins well", "damaged or cut off (14 bytes)"),
    ],
)
def test_files_that_are_none(tmp_path, content, said):
    path = tmp_path / "best.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RequestError) as caught:
        Detector(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)


@pytest.mark.parametrize("share", [0.02, 0.2, 0.5, 0.8, 0.99])
def test_a_file_cut_off_in_the_middle(file, share):
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DistillError) as caught:
        Detector(file)
    assert "\n" not in str(caught.value)


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
@pytest.mark.parametrize("broken", [np.nan, np.inf])
@pytest.mark.parametrize("layout", ["dense", "end2end"])
def test_an_answer_that_is_no_number(tmp_path, half, broken, layout):
    """As a half-precision file answers that overflows: said, not passed over as nothing found."""
    raw = dense(DISC) if layout == "dense" else rows((12, 28, 20, 36, 0.9, 0))
    raw[(4, 1) if layout == "dense" else (1, 4)] = broken
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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"names": None, "task": None}, "metadata lacks task, names"),
        ({"task": "segment"}, "task is 'segment'"),
        ({"names": {0: "one"}}, r"answers (1, 7, 40); expected (B, 5, A) for 1 classes"),
        ({"outputs": 2}, "expected (B, 7, A) for 3 classes, or (B, N, 6)"),
        ({"channels": 1}, "takes (1, 1, 64, 64); expected one input of shape (B, 3, H, W)"),
    ],
)
def test_models_that_are_no_detectors(tmp_path, change, said):
    file = write_detector(tmp_path / "made.onnx", dense(DISC), **change)
    with pytest.raises(RequestError) as caught:
        Detector(file)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"imgsz": 640}, "imgsz=640,640: .* takes 64,64"),
        ({"imgsz": (64, 32)}, "imgsz=64,32: .* takes 64,64"),
        ({"threads": 0}, "threads=0: must be at least 1"),
        ({"providers": "cpuu"}, "providers=cpuu: .*did you mean 'cpu'"),
        ({"providers": ["NoneExecutionProvider"]}, "this onnxruntime has"),
    ],
)
def test_bad_ways_to_open(file, setting, said):
    with pytest.raises(RequestError, match=said):
        Detector(file, **setting)


@pytest.mark.parametrize("providers", [None, "cpu", ["CPUExecutionProvider"], "CPUExecutionProvider"])
def test_providers(file, providers):
    assert "CPUExecutionProvider" in Detector(file, providers=providers, threads=1).session.get_providers()


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("bus.jpg", "cv2.imread"),
        (np.zeros((4, 4, 3), np.float32), r"\(4, 4, 3\) of float32"),
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\) of uint8"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
        (np.zeros(4, np.uint8), r"\(4,\)"),
        ([None], "got NoneType"),
    ],
)
def test_what_is_no_picture(file, image, said):
    with pytest.raises(RequestError, match=said):
        Detector(file)(image)


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
@pytest.mark.parametrize("image", [PICTURE, []], ids=["picture", "empty"])
def test_settings_out_of_range(file, setting, said, image):
    with pytest.raises(RequestError, match=said):
        Detector(file)(image, **setting)


def test_a_model_that_fails_while_running(file):
    detector = Detector(file)
    with pytest.raises(DistillError, match="running the model failed"):
        detector.infer(np.zeros((1, 3, 32, 32), np.float32))
