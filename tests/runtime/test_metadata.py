"""Notes in an exported file: those that are read, and those that are refused."""

from __future__ import annotations

import pytest

from yolo_distill.errors import RequestError
from yolo_distill.runtime.metadata import read_metadata

NOTES = {"task": "detect", "names": "{0: 'a', 1: 'b'}", "stride": "32", "imgsz": "[192, 256]"}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, {"names": {0: "a", 1: "b"}, "stride": 32, "imgsz": (192, 256), "task": "detect", "end2end": False}),
        ({}, {"most": None, "input_layout": "NCHW", "input_colour": "RGB", "input_range": "0-1"}),
        ({"end2end": "True"}, {"end2end": True}),
        ({"end2end": "False"}, {"end2end": False}),
        ({"args": "{'nms': True}"}, {"end2end": True, "most": 1}),  # NMS inside the file
        ({"args": "{'nms': True}", "batch": "4"}, {"end2end": True, "most": 4}),
        ({"args": "{'nms': False}"}, {"end2end": False, "most": None}),
        ({"args": "no dictionary"}, {"end2end": False}),
        ({"batch": "4"}, {"most": None}),  # the input itself says how many it takes
        ({"names": "['a', 'b']"}, {"names": {0: "a", 1: "b"}}),
        ({"names": "{0: 'a', 1: 7}"}, {"names": {0: "a", 1: "7"}}),
        ({"imgsz": "320"}, {"imgsz": (320, 320)}),
        ({"input_layout": "NHWC", "input_colour": "BGR"}, {"input_layout": "NHWC", "input_colour": "BGR"}),
        ({"input_range": "0-255"}, {"input_range": "0-255"}),
    ],
)
def test_what_is_read(change, expected):
    notes = read_metadata({**NOTES, **change}, "x.onnx")
    assert {name: getattr(notes, name) for name in expected} == expected


@pytest.mark.parametrize("text", ["8.4.190", "{{}}", "{[1]: 2}", "(", "{0: 'a'"])
def test_notes_of_others_may_be_anything(text):
    assert read_metadata({**NOTES, "note": text}, "x.onnx").everything["note"] == text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict.fromkeys(NOTES, ""), "lacks task, names, stride, imgsz; export it with"),
        ({"names": "", "stride": ""}, "lacks names, stride"),
        ({"task": "classify"}, "task is 'classify'; detect, segment, pose and obb can be run"),
        ({"task": "pose"}, "does not say how many keypoints there are (kpt_shape = None)"),
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
