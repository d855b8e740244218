"""Notes in an exported file: those that are read, and those that are refused."""

from __future__ import annotations

import pytest

from yolo_distill.errors import RequestError
from yolo_distill.runtime.metadata import read_metadata

NOTES = {"task": "detect", "names": "{0: 'a', 1: 'b'}", "stride": "32", "imgsz": "[192, 256]"}


def test_what_is_read():
    notes = read_metadata({**NOTES, "version": "8.4.190", "args": "{'nms': None}"}, "x.onnx")
    assert (notes.names, notes.stride, notes.imgsz, notes.task) == ({0: "a", 1: "b"}, 32, (192, 256), "detect")
    assert notes.end2end is False
    assert notes.everything["version"] == "8.4.190"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, False),
        ({"end2end": "True"}, True),
        ({"end2end": "False"}, False),
        ({"args": "{'nms': True}"}, True),  # NMS inside the file
        ({"args": "{'nms': False}"}, False),
        ({"args": "no dictionary"}, False),
    ],
)
def test_end2end(change, expected):
    assert read_metadata({**NOTES, **change}, "x.onnx").end2end is expected


@pytest.mark.parametrize(("text", "names"), [("['a', 'b']", {0: "a", 1: "b"}), ("{0: 'a', 1: 7}", {0: "a", 1: "7"})])
def test_names(text, names):
    assert read_metadata({**NOTES, "names": text}, "x.onnx").names == names


@pytest.mark.parametrize(
    ("change", "most"),
    [
        ({}, None),
        ({"batch": "4"}, None),  # the input itself says how many it takes
        ({"args": "{'nms': True}"}, 1),
        ({"args": "{'nms': True}", "batch": "4"}, 4),
    ],
)
def test_pictures_at_a_time(change, most):
    assert read_metadata({**NOTES, **change}, "x.onnx").most == most


def test_the_form_of_the_input():
    notes = read_metadata(NOTES, "x.onnx")
    assert (notes.input_layout, notes.input_colour, notes.input_range) == ("NCHW", "RGB", "0-1")
    said = {"input_layout": "NHWC", "input_colour": "BGR", "input_range": "0-255"}
    notes = read_metadata({**NOTES, **said}, "x.onnx")
    assert (notes.input_layout, notes.input_colour, notes.input_range) == ("NHWC", "BGR", "0-255")


def test_one_side_is_a_square():
    assert read_metadata({**NOTES, "imgsz": "320"}, "x.onnx").imgsz == (320, 320)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict.fromkeys(NOTES, ""), "lacks task, names, stride, imgsz; export it with"),
        ({"names": "", "stride": ""}, "lacks names, stride"),
        ({"task": "segment"}, "task is 'segment'"),
        ({"task": "classify"}, "only detectors"),
        ({"head": "RTDETRDecoder"}, "RTDETRDecoder"),
        ({"names": "[]"}, "names no classes"),
        ({"names": "{0: 'a', 2: 'b'}"}, "names no classes"),
        ({"names": "__import__('os').getcwd()"}, "names no classes"),  # text, never run
        ({"names": "(" * 5000}, "names no classes"),
        ({"imgsz": "[192]"}, "imgsz = [192]"),
        ({"imgsz": "[0, 192]"}, "imgsz = 0"),
        ({"imgsz": "wide"}, "imgsz = 'wide'"),
        ({"stride": "-32"}, "stride = -32"),
        ({"stride": "3.5"}, "stride = 3.5"),
        ({"input_layout": "HWC"}, "input_layout = 'HWC' in the model's metadata; expected NCHW or NHWC"),
        ({"input_colour": "bgr"}, "input_colour = 'bgr' in the model's metadata; expected RGB or BGR"),
        ({"input_range": "0..1"}, "input_range = '0..1' in the model's metadata; expected 0-1 or 0-255"),
    ],
)
def test_refused(change, said):
    with pytest.raises(RequestError) as caught:
        read_metadata({**NOTES, **change}, "x.onnx")
    assert said in str(caught.value)
    assert str(caught.value).startswith("x.onnx: ")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["{{}}", "{[1]: 2}", "(", "{0: 'a'"])
def test_notes_of_others_may_be_anything(text):
    assert read_metadata({**NOTES, "note": text}, "x.onnx").everything["note"] == text
