"""Notes in an exported file that nobody has to understand, or should; `tests/golden/metadata.json` has the others."""

from __future__ import annotations

import pytest

from yolo_distill.errors import RequestError
from yolo_distill.runtime.metadata import read_metadata

NOTES = {"task": "detect", "names": "{0: 'a', 1: 'b'}", "stride": "32", "imgsz": "[192, 256]"}


@pytest.mark.parametrize("text", ["8.4.190", "{{}}", "{[1]: 2}", "(", "{0: 'a'"])
def test_notes_of_others_may_be_anything(text):
    assert read_metadata({**NOTES, "note": text}, "x.onnx").everything["note"] == text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict.fromkeys(NOTES, ""), "lacks task, names, stride, imgsz; export it with"),
        ({"task": "classify"}, "task is 'classify'; detect, segment, pose and obb can be run"),
        ({"task": "pose"}, "does not say how many keypoints there are (kpt_shape = None)"),
        ({"names": "__import__('os').getcwd()"}, "names no classes"),  # text, never run
        ({"names": "(" * 5000}, "names no classes"),
        ({"imgsz": "wide"}, "imgsz = 'wide'"),
        ({"input_range": "0..1"}, "input_range = '0..1' in the model's metadata; expected 0-1 or 0-255"),
    ],
)
def test_refused(change, said):
    with pytest.raises(RequestError) as caught:
        read_metadata({**NOTES, **change}, "x.onnx")
    assert said in str(caught.value)
    assert str(caught.value).startswith("x.onnx: ")
    assert len(str(caught.value)) < 200
