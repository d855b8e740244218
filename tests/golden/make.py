"""Writes what the Python runtime answers to small questions, so that its twin in the browser can be held to it.

`python tests/golden/make.py` writes the `.json` files beside this one anew; `tests/web/test_golden.py` asserts that the
runtime still gives what they say, and `tests/web/*.test.mjs` that the web app in `export/web/` does.
"""

from __future__ import annotations

import base64
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # for made_detector, when run by hand

from made_detector import rows, write_detector  # noqa: E402

from yolo_distill import Detector  # noqa: E402
from yolo_distill.errors import DistillError  # noqa: E402
from yolo_distill.runtime.decode import decode_dense, decode_end2end  # noqa: E402
from yolo_distill.runtime.drawing import colour_of  # noqa: E402
from yolo_distill.runtime.inputs import InputForm  # noqa: E402
from yolo_distill.runtime.letterbox import Transform, fit, letterbox  # noqa: E402
from yolo_distill.runtime.metadata import read_metadata  # noqa: E402
from yolo_distill.runtime.nms import nms  # noqa: E402
from yolo_distill.runtime.postprocess import Postprocess  # noqa: E402

# Picture and input, both (height, width): enlarged, halved, reduced by whole and odd factors, thin, and as they are.
_SIZES = [
    ((48, 64), (32, 32)), ((64, 48), (32, 32)), ((64, 64), (32, 32)), ((32, 32), (32, 32)), ((33, 64), (64, 64)),
    ((10, 7), (32, 48)), ((1, 300), (32, 32)), ((300, 1), (32, 48)), ((1, 1), (16, 16)), ((2, 3), (48, 32)),
    ((97, 211), (32, 64)), ((480, 640), (32, 32)), ((427, 640), (32, 64)), ((90, 60), (30, 40)),
]  # fmt: skip
_TRANSFORMS = [((1080, 1920), (320, 320)), ((1333, 800), (320, 640)), ((333, 500), (256, 256)), ((3000, 1), (64, 64))]
_NOTES = {"task": "detect", "names": "{0: 'a', 1: 'b'}", "stride": "32", "imgsz": "[192, 256]"}


def picture(height: int, width: int) -> np.ndarray:
    """Return a picture (height, width, 3), blue, green, red, that JavaScript can make as well: slopes and noise."""
    y, x, channel = np.mgrid[:height, :width, :3].astype(np.int64)
    noise = (x * 7919 + y * 104729 + channel * 1299709) * 48271 % 2147483647 % 97  # below 2^53 on the way
    return ((x * 3 + y * 5 + channel * 40 + noise) % 256).astype(np.uint8)


def letterboxes() -> list[dict[str, Any]]:
    """Return pictures in inputs, byte for byte: red, green, blue."""
    cases = []
    for shape, size in _SIZES:
        canvas, transform = letterbox(picture(*shape), size)
        cases.append({"transform": _transform(transform), "canvas": _base64(canvas[..., ::-1])})
    return cases


def transforms() -> list[dict[str, Any]]:
    """Return where pictures lie, and boxes taken back to them."""
    random = np.random.default_rng(0)
    cases = []
    for shape, size in [*_SIZES, *_TRANSFORMS]:
        boxes = random.uniform(-10, 1.1 * max(size), (6, 4)).astype(np.float32).round(3)
        transform = fit(shape, size)
        back = transform.to_picture(boxes)
        cases.append({"transform": _transform(transform), "boxes": _plain(boxes), "back": _plain(back)})
    return cases


def tensors() -> list[dict[str, Any]]:
    """Return one picture in each form of input, float16 as bits."""
    cases = []
    for dtype, blue_first in [(np.float32, False), (np.float16, False), (np.uint8, True), (np.uint8, False)]:
        form = InputForm("images", dtype, blue_first, 1, (8, 12))
        tensor = form.empty(1, (8, 12))
        form.fill(tensor[0], picture(5, 7))
        numbers = tensor.view(np.uint16) if dtype is np.float16 else tensor
        data = _plain(numbers.ravel()) if dtype is np.float32 else numbers.ravel().tolist()
        form_of = {"dtype": np.dtype(dtype).name, "blue_first": blue_first, "dims": list(tensor.shape)}
        cases.append({**form_of, "data": data})
    return cases


def decoding() -> list[dict[str, Any]]:
    """Return what answers hold: two layouts, and several settings of each."""
    random = np.random.default_rng(1)
    boxes, scores = random.uniform(4, 60, (4, 60)), random.uniform(0, 1, (3, 60)) ** 3
    dense = np.concatenate([boxes, scores]).round(2)  # equal scores, and scores at the threshold
    single = np.concatenate([boxes[:, :30], scores[:1, :30]]).round(1)
    final = random.uniform(0, 1, (15, 6)) * [60, 60, 60, 60, 1, 3]
    final[:, 5] = np.trunc(final[:, 5])
    changes: list[dict[str, Any]] = [
        {}, {"conf": 0.5}, {"conf": 0.0, "iou": 0.3}, {"iou": 0.0}, {"iou": 1.0}, {"classes": [1]}, {"classes": []},
        {"classes": [0, 2], "max_det": 2}, {"max_det": 3}, {"agnostic": True},
    ]  # fmt: skip
    cases = []
    for layout, numbers in (("dense", dense), ("dense", single), ("end2end", rows(*map(tuple, final.round(2))))):
        raw = numbers.astype(np.float32)
        runs = []
        for change in changes:
            given = _settings(change)
            runs.append({"settings": given, **_decoded(layout, raw, **given)})
        cases.append({"layout": layout, "raw": _plain(raw), "runs": runs})
    return cases


def tasks() -> list[dict[str, Any]]:
    """Return what answers of other tasks hold, in pixels of a picture: both layouts, and several settings of each.

    Pictures are such that prototypes are enlarged by 4, 2 and 1 before they are cut.
    """
    random = np.random.default_rng(3)
    changes: list[dict[str, Any]] = [
        {}, {"conf": 0.5, "iou": 0.3}, {"iou": 0.9}, {"classes": [0, 2], "max_det": 4}, {"agnostic": True, "iou": 0.4},
    ]  # fmt: skip
    cases = []
    for task, own, shape in (
        ("segment", 3, (97, 211)), ("segment", 3, (60, 80)), ("segment", 3, (50, 25)), ("pose", 12, (97, 211)),
        ("pose", 4, (60, 80)), ("obb", 1, (97, 211)),
    ):  # fmt: skip
        # Eight objects, each told of five times.
        boxes = np.repeat(random.uniform([8, 20, 6, 6], [56, 44, 36, 26], (8, 4)), 5, 0)
        boxes += random.uniform(-1, 1, (40, 4))
        scores, numbers = random.uniform(0, 1, (40, 3)) ** 2, random.normal(0, 1, (40, own))
        if task == "pose":
            numbers = random.uniform(0, 64, (40, own))
            numbers[:, 2 :: own // 4] = random.uniform(0, 1, (40, 4)) if own == 12 else 0  # (0, 0): not there
        elif task == "obb":
            numbers = np.repeat(random.uniform(-0.7, 2.3, (8, 1)), 5, 0) + random.uniform(-0.1, 0.1, (40, 1))
        corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
        best = np.stack([scores.max(1), scores.argmax(1)], 1)
        final = np.concatenate([boxes if task == "obb" else corners, best, numbers], 1)[np.argsort(-best[:, 0])][:12]
        protos = random.normal(0, 1, (own, 16, 16)).round(2).astype(np.float32) if task == "segment" else None
        kpt_shape = (own // 3, 3) if own == 12 else (own // 2, 2)
        for raw in (np.concatenate([boxes, scores, numbers], 1).T, final):
            rounded = raw.round(2).astype(np.float32)
            meaning = Postprocess({0: "a", 1: "b", 2: "c"}, task, kpt_shape if task == "pose" else None, raw is final)
            transform = fit(shape, (64, 64))
            answer = rounded[None] if protos is None else (rounded[None], protos[None])
            runs = [{"settings": one, **_found(meaning, answer, transform, **one)} for one in map(_settings, changes)]
            said = {"task": task, "kpt_shape": meaning.kpt_shape, "end2end": meaning.end2end}
            held = {"protos": None if protos is None else _plain(protos), "raw": _plain(rounded)}
            cases.append({**said, "transform": _transform(transform), **held, "runs": runs})
    return cases


def suppression() -> list[dict[str, Any]]:
    """Return what stays of boxes: ties, boxes without area, many of one place, and classes far apart."""
    random = np.random.default_rng(2)
    corner, side = random.uniform(0, 50, (120, 2)), random.uniform(5, 40, (120, 2))
    spread = np.concatenate([corner, corner + side], 1)
    line = [[0, 0, 10, 10], [0, 0, 10, 6], [0, 0, 10, 6], [5, 5, 5, 5], [5, 5, 5, 5], [0, 4, 10, 10]]
    given: list[tuple[Any, Any, Any]] = [
        (line, [0.9, 0.9, 0.8, 0.7, 0.7, 0.9], [0] * 6),
        (line, [0.5] * 6, [0, 1, 0, 1, 0, 1]),
        (spread.round(1), random.uniform(0, 1, 120).round(1), random.integers(0, 3, 120)),
        (spread, random.uniform(0, 1, 120).round(4), random.integers(0, 80, 120)),
        ([], [], []),
    ]
    cases = []
    for boxes, sure, classes in given:
        xyxy, scores = np.array(boxes, np.float32).reshape(-1, 4), np.array(sure, np.float32)
        class_id = np.array(classes, np.int64)
        runs = []
        for iou, limit, agnostic in ((0.7, 300, False), (0.6, 300, True), (0.45, 5, False), (0.0, 300, False)):
            kept = nms(xyxy, scores, class_id, iou=iou, limit=limit, agnostic=agnostic)
            runs.append({"settings": {"iou": iou, "limit": limit, "agnostic": agnostic}, "kept": kept.tolist()})
        boxes_of = {"xyxy": _plain(xyxy), "scores": _plain(scores), "class_id": class_id.tolist()}
        cases.append({**boxes_of, "runs": runs})
    return cases


def metadata() -> list[dict[str, Any]]:
    """Return what notes say, or why they are refused."""
    changes: list[dict[str, str | None]] = [
        {},
        {"names": "['a', 'b']"},
        {"names": "('disc', 'square',)"},
        {"names": "{0: 'Dreieck gr\u00fcn', 1: \"it's\", 2: 'say \"x\"', 3: 'a\\\\b\\'c'}"},
        {"names": "{'0': 'a', 1: 7, 2: 1.5, 3: True}"},
        {"names": "['a\\nb\\x1b[31m', 'a\\ud800b', '\\ud83d\\ude00', '\\u202eab', '\u3000\u4eba\u200d\U0001f9d1']"},
        {"names": f"['{'a' * 300}', '{chr(0x1F9D1) * 200}', '{chr(0x1F9D1) * 201}']"},
        {"imgsz": "320"},
        {"imgsz": "(192, 256)"},
        {"end2end": "True"},
        {"end2end": "true"},
        {"args": "{'nms': True, 'half': False, 'conf': 0.25}", "batch": "4"},
        {"args": "no dictionary", "version": "8.4.190", "date": "2026-01-02T03:04:05", "stride": "0x20"},
        {"input_layout": "NHWC", "input_colour": "BGR", "input_range": "0-255"},
        {"head": "Detect", "kept_fp32": "['decoding', 'model.0']"},
        {"names": None},
        {"task": "", "stride": None},
        {"head": "RTDETRDecoder"},
        {"head": "RTDETR\x1b[31m\n"},
        {"names": "{}"},
        {"names": "a, b"},
        {"names": "{1: 'a', 2: 'b'}"},
        {"names": "{'x': 'a'}"},
        {"names": "{1e999: 'a'}"},
        {"names": "['a', 'b'"},
        {"names": "12.50"},
        {"stride": "32.0"},
        {"stride": "0"},
        {"stride": "-1"},
        {"stride": "'32'"},
        {"stride": "None"},
        {"imgsz": "[192]"},
        {"imgsz": "[192, 1e-7]"},
        {"imgsz": "[192, '256']"},
        {"imgsz": "(5,)"},
        {"imgsz": "{'height': 192, 'width': [256, 256], 'and': 'much more than fits into a line of this kind'}"},
        {"input_layout": "NCWH"},
        {"input_colour": "it's grey"},
        {"args": "{'nms': True}", "batch": "many\n"},
        {"task": "pose", "kpt_shape": "[17, 3]"},
        {"task": "pose", "kpt_shape": "(4, 2)"},
        {"task": "pose"},
        {"task": "pose", "kpt_shape": "[0, 3]"},
        {"task": "pose", "kpt_shape": "[17, 4]"},
        {"task": "pose", "kpt_shape": "[9, [3]]"},
        {"task": "pose", "kpt_shape": "[9, {}]"},
        {"task": "obb", "kpt_shape": "[17, 4]"},
        {"task": "classify"},
        {"task": "classify" * 9},
    ]
    cases = []
    for change in changes:
        notes = {key: text for key, text in {**_NOTES, **change}.items() if text is not None}
        cases.append({"notes": notes, **_outcome(lambda notes=notes: _said(notes))})
    return cases


def models() -> list[dict[str, Any]]:
    """Return whole files, and what the runtime makes of them."""
    names = {0: "disc", 1: "square", 2: "Dreieck gr\u00fcn"}
    dense, final, other = (np.zeros(shape, np.float32) for shape in ((7, 3), (3, 6), (5, 3)))
    given: list[tuple[np.ndarray, dict[str, Any]]] = [
        (dense, {}),
        (final, {}),
        (dense, {"half": True, "precision": "fp16"}),
        (dense, {"batch": None, "dynamic": True}),
        (dense, {"dynamic": True, "imgsz": (64, 100)}),
        (final, {"batch": 2, "end2end": None}),
        (dense, {"end2end": True}),
        (other, {}),
        (dense, {"channels": 1}),
        (dense, {"outputs": 2}),
        (dense, {"names": None}),
        (dense, {"input_layout": "NHWC", "input_range": "0-255"}),
        (dense, {"input_colour": "BGR"}),
        (dense, {"task": "segment"}),
        (np.zeros((9, 3), np.float32), {"task": "segment", "protos": np.zeros((2, 4, 4), np.float32)}),
        (np.zeros((9, 3), np.float32), {"task": "segment", "protos": np.zeros((3, 4, 4), np.float32)}),
        (np.zeros((3, 12), np.float32), {"task": "pose", "kpt_shape": [2, 3], "end2end": None}),
        (dense, {"task": "pose", "kpt_shape": [2, 3]}),
        (np.zeros((8, 3), np.float32), {"task": "obb"}),
    ]
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        for raw, settings in given:
            path = write_detector(Path(folder) / "best.onnx", raw, **{"names": names, **settings})
            cases.append({"file": _base64(path.read_bytes()), **_outcome(lambda path=path: _opened(path))})
        whole = path.read_bytes()
        for damaged in (b"", b"<!doctype html>", whole[: len(whole) // 2]):
            path.write_bytes(damaged)
            cases.append({"file": _base64(damaged), **_outcome(lambda path=path: _opened(path))})
    return cases


def colours() -> list[dict[str, Any]]:
    """Return the colours of classes: red, green, blue."""
    return [{"class_id": class_id, "colour": list(reversed(colour_of(class_id)))} for class_id in range(40)]


FILES: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "letterbox": letterboxes, "transform": transforms, "tensor": tensors, "decode": decoding, "tasks": tasks,
    "nms": suppression, "metadata": metadata, "model": models, "colour": colours,
}  # fmt: skip


def _transform(transform: Transform) -> dict[str, Any]:
    return {key: getattr(transform, key) for key in ("picture", "input", "resized", "top", "left")}


def _settings(change: dict[str, Any]) -> dict[str, Any]:
    return {"conf": 0.25, "iou": 0.7, "max_det": 300, "classes": None, "agnostic": False, **change}


def _found(meaning: Postprocess, answer: Any, transform: Transform, classes: list[int] | None, **rest: Any) -> Any:
    wanted = None if classes is None else np.array(classes, np.int64)
    (found,) = meaning(answer, [transform], classes=wanted, **rest)
    own: dict[str, Any] = {}
    if found.masks is not None:
        own["masks"] = [
            {"top": top, "left": left, "height": len(bits), "width": bits.shape[1], "bits": _base64(np.packbits(bits))}
            for top, left, bits in found.masks.pieces
        ]
    if found.keypoints is not None:
        own |= {"keypoints": _plain(found.keypoints.data), "seen": found.keypoints.seen.tolist()}
    if found.turned is not None:
        own |= {"turned": _plain(found.turned), "corners": _plain(found.xyxyxyxy)}
    boxes = {"xyxy": _plain(found.xyxy), "scores": _plain(found.confidence), "class_id": found.class_id.tolist()}
    return {**boxes, **own}


def _decoded(layout: str, raw: np.ndarray, classes: list[int] | None, **settings: Any) -> dict[str, Any]:
    wanted = None if classes is None else np.array(classes, np.int64)
    if layout == "dense":
        found = decode_dense(raw, classes=wanted, **settings)
    else:
        found = decode_end2end(raw, classes=wanted, conf=settings["conf"], max_det=settings["max_det"])
    return {"xyxy": _plain(found.xyxy), "scores": _plain(found.scores), "class_id": found.class_id.tolist()}


def _plain(numbers: np.ndarray) -> list[Any]:
    """Return float32 numbers as lists, with no more digits than tell them apart."""
    return np.array([float(str(one)) for one in numbers.ravel()]).reshape(numbers.shape).tolist()


def _said(notes: dict[str, str]) -> dict[str, Any]:
    read = read_metadata(notes, "best.onnx")
    return {
        "names": [read.names[index] for index in range(len(read.names))],
        "stride": int(read.stride),
        "imgsz": list(read.imgsz),
        "task": read.task,
        "kpt_shape": read.kpt_shape,
        "end2end": read.end2end,
        "most": read.most,
        "input": [read.input_layout, read.input_colour, read.input_range],
    }


def _opened(path: Path) -> dict[str, Any]:
    detector = Detector(path)
    one = detector.session.get_inputs()[0]
    return {
        "names": list(detector.names.values()),
        "imgsz": list(detector.imgsz),
        "end2end": detector.end2end,
        "batch": detector.batch or 1,
        "input": [one.name, one.type],
    }


def _outcome(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what came of it: `gives`, or the message of the error, in which the file has its name alone."""
    try:
        return {"gives": run()}
    except DistillError as error:
        folder, _, _ = str(error).partition("best.onnx")
        return {"refuses": str(error).replace(folder, "") if folder else str(error)}


def _base64(data: np.ndarray | bytes) -> str:
    return base64.b64encode(data if isinstance(data, bytes) else np.ascontiguousarray(data).tobytes()).decode()


def text(cases: list[dict[str, Any]]) -> str:
    """Return cases as JSON, one a line: a change is seen where it is."""
    lines = ",\n".join(json.dumps(case, ensure_ascii=False, allow_nan=False) for case in cases)
    return f"[\n{lines}\n]\n"


if __name__ == "__main__":
    for name, make in FILES.items():
        (HERE / f"{name}.json").write_text(text(make()), encoding="utf-8")
