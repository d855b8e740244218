"""Pictures in the form that a file takes them: floats as the host exports them, or bytes as a camera gives them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from made_detector import dense, rows, write_detector

from yolo_distill import Detector
from yolo_distill.errors import RequestError
from yolo_distill.runtime.letterbox import letterbox

BYTES = {"input_layout": "NHWC", "input_range": "0-255"}
SHAPES = [(64, 64), (48, 64), (64, 33), (480, 640), (97, 211), (1, 300), (300, 1), (1, 1)]


def taking_bytes(file: Path, colour: str, **notes: str) -> Path:
    """Write a file beside a float one that takes bytes and begins with what the runtime does for the other."""
    onnx = pytest.importorskip("onnx")
    make = onnx.helper
    model = onnx.load(str(file))
    graph, floats = model.graph, model.graph.input[0]
    kind = floats.type.tensor_type.elem_type
    batch, _, height, width = (one.dim_param or one.dim_value for one in floats.type.tensor_type.shape.dim)
    first = [
        make.make_node("Cast", ["bytes"], ["levels"], to=onnx.TensorProto.FLOAT),
        make.make_node("Div", ["levels", "white"], ["unit"]),
        make.make_node("Cast", ["unit"], ["cast"], to=kind),
        make.make_node("Transpose", ["cast"], ["planes"], perm=[0, 3, 1, 2]),
        make.make_node("Gather", ["planes", "order"], [floats.name], axis=1),
    ]
    order = [2, 1, 0] if colour == "BGR" else [0, 1, 2]
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(255, np.float32), "white"))
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(order, np.int64), "order"))
    nodes = [*first, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    shape = [batch, height, width, 3]
    graph.input[0].CopyFrom(make.make_tensor_value_info("bytes", onnx.TensorProto.UINT8, shape))
    said = {note.key: note.value for note in model.metadata_props}
    del model.metadata_props[:]
    make.set_model_props(model, {**said, **BYTES, "input_colour": colour, **notes})
    path = file.with_name(f"bytes-{colour}-{file.name}")
    onnx.save(model, str(path))
    return path


def noise(shape, seed=0):
    return cv2.GaussianBlur(np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8), (0, 0), 3)


def by_definition(image, size, dtype):
    """The host's preprocessing, step by step; `test_letterbox` has what the letterbox does."""
    planes = letterbox(image, size)[0][..., ::-1].transpose(2, 0, 1)[None]
    return (planes.astype(np.float32) / np.float32(255)).astype(dtype)


@pytest.mark.parametrize("half", [False, True])
def test_floats_are_the_hosts_bit_for_bit(tmp_path, half):
    dtype = np.float16 if half else np.float32
    detector = Detector(write_detector(tmp_path / "a.onnx", dense(), imgsz=(64, 96), half=half))
    for shape in SHAPES:
        for image in (noise(shape), noise(shape)[::-1, ::-1]):
            tensor, transform = detector.preprocess(image)
            assert (tensor.dtype, tensor.flags.c_contiguous, transform.picture) == (dtype, True, shape)
            np.testing.assert_array_equal(tensor, by_definition(image, (64, 96), dtype))


def test_every_brightness(tmp_path):
    detector = Detector(write_detector(tmp_path / "a.onnx", dense(), imgsz=(32, 32)))
    image = np.arange(3072, dtype=np.uint32).astype(np.uint8).reshape(32, 32, 3)
    np.testing.assert_array_equal(detector.preprocess(image)[0], by_definition(image, (32, 32), np.float32))


@pytest.mark.parametrize("colour", ["BGR", "RGB"])
def test_bytes_are_the_letterboxed_picture(tmp_path, colour):
    file = taking_bytes(write_detector(tmp_path / "a.onnx", dense(), imgsz=(64, 96)), colour)
    detector = Detector(file)
    assert (detector.imgsz, detector.batch) == ((64, 96), 1)
    for shape in SHAPES:
        tensor, _ = detector.preprocess(noise(shape))
        bgr = letterbox(noise(shape), (64, 96))[0][None]
        assert (tensor.dtype, tensor.shape, tensor.flags.c_contiguous) == (np.uint8, (1, 64, 96, 3), True)
        np.testing.assert_array_equal(tensor, bgr if colour == "BGR" else bgr[..., ::-1])


def test_bytes_in_no_float_anywhere(tmp_path):
    """What is handed to onnxruntime is what the letterbox wrote."""
    detector = Detector(taking_bytes(write_detector(tmp_path / "a.onnx", dense()), "BGR"))
    given = []
    detector.session = SimpleNamespace(run=lambda outputs, inputs: [given.extend(inputs.values()), dense()[None]][1:])
    tensor, _ = detector.preprocess(noise((48, 64)))
    detector.infer(tensor)
    assert given[0].dtype == np.uint8
    assert np.shares_memory(given[0], tensor)


@pytest.mark.parametrize("colour", ["BGR", "RGB"])
@pytest.mark.parametrize("batch", [1, 2, None])
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("layout", ["dense", "end2end"])
def test_bytes_find_what_floats_find(tmp_path, colour, batch, half, layout):
    """The made network answers with the brightness, here of each picture."""
    raw = dense((16, 32, 8, 8, 0, 0, 0)) if layout == "dense" else rows((12, 28, 20, 36, 0, 0))
    gain = np.zeros_like(raw)
    gain[(4, 0) if layout == "dense" else (0, 4)] = 1
    file = write_detector(tmp_path / "a.onnx", raw, gain=gain, batch=batch, half=half)
    images = [noise(shape, seed) for seed, shape in enumerate(SHAPES[:5])]
    floats, bytes_ = Detector(file), Detector(taking_bytes(file, colour))
    assert bytes_.batch == batch
    for one, other in zip(floats(images, conf=0.1), bytes_(images, conf=0.1), strict=True):
        assert len(one) == len(other) == 1
        np.testing.assert_allclose(one.confidence, other.confidence, rtol=2e-3 if half else 1e-5)
        np.testing.assert_array_equal(one.xyxy, other.xyxy)


@pytest.mark.parametrize(
    ("bytes_in", "notes"),
    [
        *((False, notes) for notes in (BYTES, {"input_layout": "NHWC"}, {"input_range": "0-255"})),
        (False, {"input_colour": "BGR"}),
        *((True, notes) for notes in ({"input_layout": ""}, {"input_range": "0-1"}, {"input_layout": "NCHW"})),
    ],
)
def test_notes_that_say_something_else(tmp_path, bytes_in, notes):
    file = write_detector(tmp_path / "a.onnx", dense(), **({} if bytes_in else notes))
    file = taking_bytes(file, "BGR", **notes) if bytes_in else file
    taken = "tensor(uint8) (1, 64, 64, 3)" if bytes_in else "tensor(float) (1, 3, 64, 64)"
    expected = "NHWC, 0-255 and BGR or RGB" if bytes_in else "NCHW, 0-1 and RGB"
    with pytest.raises(RequestError) as caught:
        Detector(file)
    said = str(caught.value)
    assert said.startswith(f"{file}: the model takes {taken}, but its metadata says input_layout=")
    assert f"expected {expected} for such an input; export it again" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("kind", "shape"), [("UINT8", [1, 3, 64, 64]), ("DOUBLE", [1, 3, 64, 64]), ("INT32", [1, 64, 64, 3])]
)
def test_inputs_of_neither_form(tmp_path, kind, shape):
    onnx = pytest.importorskip("onnx")
    file = write_detector(tmp_path / "a.onnx", dense(), **BYTES)
    model = onnx.load(str(file))
    model.graph.input[0].name = "unused"
    wanted = onnx.helper.make_tensor_value_info("images", getattr(onnx.TensorProto, kind), shape)
    model.graph.input[0].CopyFrom(wanted)
    model.graph.node.insert(0, onnx.helper.make_node("Cast", ["images"], ["cast"], to=onnx.TensorProto.FLOAT))
    model.graph.node[1].input[0] = "cast"
    onnx.save(model, str(file))
    with pytest.raises(
        RequestError, match=r"expected one input of shape \(B, 3, H, W\), float32 or float16, or"
    ) as why:
        Detector(file)
    assert "\n" not in str(why.value)


def test_the_wrong_form_for_infer(tmp_path):
    file = write_detector(tmp_path / "a.onnx", dense())
    with pytest.raises(RequestError, match="got an input of uint8; expected float32, as preprocess"):
        Detector(file).infer(np.zeros((1, 3, 64, 64), np.uint8))
    with pytest.raises(RequestError, match="got an input of float32; expected uint8"):
        Detector(taking_bytes(file, "BGR")).infer(np.zeros((1, 64, 64, 3), np.float32))
