"""The programs in export/programs/ answer what the Python runtime answers, each compiled and run on the golden files.

`tests/export_programs/` has a small main program for each language; what it is asked and answers is lines of numbers.
JavaScript has no program of its own there: the modules of the web app are held to the same files in tests/web/.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compilers import KOTLINC, PROGRAMS, compile_with
from golden.make import picture

from yolo_distill.runtime.nms import nms

HERE = Path(__file__).resolve().parent
MAINS = HERE / "export_programs"

pytestmark = pytest.mark.slow

Ask = Callable[[Iterable[str]], list[str]]


@pytest.fixture(scope="module", params=["cpp", "kt", "swift"])
def ask(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Return what runs a language's main program on lines."""
    built = tmp_path_factory.mktemp(request.param) / "golden"
    if request.param == "cpp":
        warned = ["g++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror"]
        compile_with(warned, "-I", PROGRAMS, MAINS / "golden.cpp", "-o", built)
        run = [str(built)]
    elif request.param == "kt":
        jar = built.with_suffix(".jar")
        compile_with(
            KOTLINC, "-include-runtime", PROGRAMS / "Yolo.kt", PROGRAMS / "Masks.kt", MAINS / "Golden.kt", "-d", jar
        )
        run = ["java", "-Xmx400m", "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8", "-cp", str(jar), "yolo.GoldenKt"]
    else:
        options = ["swiftc", "-O", "-parse-as-library", "-warnings-as-errors"]
        compile_with(options, PROGRAMS / "Yolo.swift", PROGRAMS / "Masks.swift", MAINS / "golden.swift", "-o", built)
        run = [str(built)]

    def answers(questions: Iterable[str]) -> list[str]:
        given = "\n".join(questions) + "\n"
        done = subprocess.run(run, input=given, capture_output=True, encoding="utf-8", timeout=200)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.split("\n")[:-1]

    return answers


def golden(name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads((HERE / "golden" / f"{name}.json").read_text("utf-8"))
    return cases


def line(what: str, *numbers: Any) -> str:
    return " ".join([what, *(str(number) for number in chain.from_iterable(map(np.ravel, numbers)))])


def numbers(text: str) -> list[float]:
    return [float(word) for word in text.split()]


def test_every_brightness_of_the_input_is_pythons(ask: Ask) -> None:
    cases = golden("letterbox")
    lies = [case["transform"] for case in cases]
    questions = [line("letterbox", one["picture"], one["input"], picture(*one["picture"])[..., ::-1]) for one in lies]
    for case, one, text in zip(cases, lies, ask(questions), strict=True):
        said = numbers(text)
        assert said[:4] == [*one["resized"], one["top"], one["left"]]
        canvas = np.frombuffer(base64.b64decode(case["canvas"]), np.uint8).reshape(-1, 3).T.ravel()
        assert np.array_equal(np.array(said[4:], np.float32), canvas / np.float32(255)), one


def test_boxes_come_back_to_the_picture(ask: Ask) -> None:
    cases = golden("transform")
    questions = [
        line("back", case["transform"]["picture"], case["transform"]["input"], [[*box, 1, 0] for box in case["boxes"]])
        for case in cases
    ]
    for case, text in zip(cases, ask(questions), strict=True):
        boxes = np.reshape(numbers(text), (-1, 6))[:, :4]
        np.testing.assert_allclose(boxes, case["back"], atol=1e-4)


def test_answers_hold_the_same_objects(ask: Ask) -> None:
    questions, expected = [], []
    for case in golden("decode"):
        for run in case["runs"]:
            settings = run["settings"]
            if settings["classes"] is None and not settings["agnostic"]:  # apps filter as they like
                known = (settings[key] for key in ("conf", "iou", "max_det"))
                raw = np.array(case["raw"])
                questions.append(line("decode", *known, int(case["layout"] == "end2end"), raw.shape, raw))
                expected.append(run)
    for run, text in zip(expected, ask(questions), strict=True):
        found = np.reshape(numbers(text), (-1, 6))
        assert found[:, 5].tolist() == run["class_id"], run["settings"]
        np.testing.assert_allclose(found[:, :4], np.reshape(run["xyxy"], (-1, 4)), atol=1e-4)
        np.testing.assert_allclose(found[:, 4], run["scores"], atol=1e-6)


def of_tasks(*tasks: str) -> list[tuple[dict[str, Any], dict[str, Any], str]]:
    """Return cases, what they answer under settings that the programs have, and the question."""
    asked = []
    for case in golden("tasks"):
        count, each = case["kpt_shape"] or (0, 0)
        own = len(case["protos"] or ()) or count * each or 1
        form = (int(case["end2end"]), own, each, int(case["task"] == "obb"))
        lies = (case["transform"]["picture"], case["transform"]["input"])
        for run in case["runs"] if case["task"] in tasks else ():
            settings = run["settings"]
            if settings["classes"] is None and not settings["agnostic"]:
                known = (settings[key] for key in ("conf", "iou", "max_det"))
                raw = np.array(case["raw"])
                asked.append((case, run, line("task", *lies, *known, form, raw.shape, raw)))
    return asked


def check_boxes(found: np.ndarray, run: dict[str, Any]) -> None:
    assert found[:, 5].tolist() == run["class_id"], run["settings"]
    np.testing.assert_allclose(found[:, :4], np.reshape(run["xyxy"], (-1, 4)), atol=1e-3)
    np.testing.assert_allclose(found[:, 4], run["scores"], atol=1e-6)


def test_keypoints_and_turned_boxes_are_the_same(ask: Ask) -> None:
    cases = of_tasks("pose", "obb")
    for (_, run, _), text in zip(cases, ask(question for *_, question in cases), strict=True):
        found = np.reshape(numbers(text), (len(run["scores"]), -1))
        check_boxes(found, run)
        own = np.reshape(run["turned" if "turned" in run else "keypoints"], (len(found), -1))
        np.testing.assert_allclose(found[:, 6:], own, atol=1e-3)


def test_masks_are_the_same(ask: Ask) -> None:
    cases = of_tasks("segment")
    for (case, run, _), text in zip(cases, ask(question for *_, question in cases), strict=True):
        found = np.reshape(numbers(text), (-1, 6 + len(case["protos"])))
        lies, protos = (case["transform"]["picture"], case["transform"]["input"]), np.array(case["protos"])
        said = [np.array(numbers(one), int) for one in ask(line("mask", *lies, protos.shape, row[:4], row[6:], protos)
                                                           for row in found)]  # fmt: skip
        shown = [len(one) > 4 for one in said]  # what shows no pixel is nothing
        check_boxes(found[shown], run)
        for mask, expected in zip((one for one in said if len(one) > 4), run["masks"], strict=True):
            assert mask[:4].tolist() == [expected[key] for key in ("top", "left", "height", "width")]
            bits = np.unpackbits(np.frombuffer(base64.b64decode(expected["bits"]), np.uint8), count=len(mask) - 4)
            assert (mask[4:] != bits).sum() <= 1


def test_the_same_boxes_stay(ask: Ask) -> None:
    questions, expected = [], []
    for case in golden("nms"):
        columns = [np.reshape(case["xyxy"], (-1, 4)), case["scores"], case["class_id"]]
        boxes = np.column_stack(columns)
        for run in case["runs"]:
            if not run["settings"]["agnostic"]:
                questions.append(line("nms", run["settings"]["iou"], run["settings"]["limit"], boxes))
                expected.append(run["kept"])
    for kept, text in zip(expected, ask(questions), strict=True):
        assert numbers(text) == kept


def test_overlaps_are_rounded_as_pythons_are(ask: Ask) -> None:
    random = np.random.default_rng(7)
    corner, scores = random.uniform(0, 90, (400, 2)), random.permutation(400) / 400
    boxes = np.hstack([corner, corner + random.uniform(9, 30, (400, 2))]).astype(np.float32)
    questions, kept = [], []
    for class_id in (0, 79):  # Python moves the last classes far away, where float32 has few digits left
        classes = np.full(400, class_id)
        kept.append(nms(boxes, scores.astype(np.float32), classes, iou=0.5, limit=300).tolist())
        questions.append(line("nms", 0.5, 300, np.column_stack([boxes, scores, classes])))
    assert kept[0] != kept[1]
    assert [numbers(text) for text in ask(questions)] == kept


def test_nan_and_infinity_are_refused(ask: Ask) -> None:
    whole, broken = np.full((2, 5, 6), 0.1)
    broken[1, 2] = 1e39  # more than a float32 holds
    questions = [line("decode", 0.5, 0.7, 300, end2end, 5, 6, raw) for end2end in (0, 1) for raw in (whole, broken)]
    assert ask(questions) == ["", "refused"] * 2


def test_class_names_are_read_from_the_notes(ask: Ask, request: pytest.FixtureRequest) -> None:
    if request.node.callspec.params["ask"] == "swift":
        pytest.skip("onnxruntime's Swift API hands out no notes: names come from best.json")
    cases = [case for case in golden("metadata") if "gives" in case and "'" in case["notes"]["names"]]
    cases = [case for case in cases if "True" not in case["notes"]["names"]]  # exported files have texts alone
    # Names that act on a terminal or a page are made harmless there; an app shows them in its own way.
    cases = [case for case in cases if not any("\ufffd" in name or "..." in name for name in case["gives"]["names"])]
    assert len(cases) >= 3
    found = ask(f"names {case['notes']['names']}" for case in cases)
    assert [text.rstrip("\t").split("\t") for text in found] == [case["gives"]["names"] for case in cases]
