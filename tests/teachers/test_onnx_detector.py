"""ONNX files as teachers: ours and the host's say what they are, those of others are described."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from live_detector import live_detector, save
from made_detector import dense, rows, write_detector
from made_onnx import write_constants, write_means
from made_teachers import drawn
from tiny_rtdetr import live_rtdetr

from yolo_distill.errors import RequestError
from yolo_distill.exporting.onnx_file import annotate, trace
from yolo_distill.graphs.input_form import NOTES, take_pictures
from yolo_distill.models.checkpoint import load_detector, load_ultralytics
from yolo_distill.teachers import onnx_description
from yolo_distill.teachers.answer import DenseAnswer, SetAnswer, as_set
from yolo_distill.teachers.head import Needs
from yolo_distill.teachers.onnx_detector import OnnxTeacher
from yolo_distill.teachers.rtdetr import RtdetrTeacher
from yolo_distill.teachers.yolo import YoloTeacher

SIDE = 64
ANCHORS = 64 + 16 + 4
ALL = (slice(None), slice(None))
NAMES = {0: "disc", 1: "square", 2: "Dreieck grün"}


def pictures(count: int = 3, height: int = SIDE, width: int = SIDE) -> torch.Tensor:
    return drawn(count, height, width)


def describe(folder: Path, **keys: Any) -> Path:
    file = folder / "outputs.yaml"
    file.write_text(yaml.safe_dump(keys))
    return file


def refusal(*args: Any, **options: Any) -> str:
    with pytest.raises(RequestError) as caught:
        OnnxTeacher(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- files that say what they are ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    return live_detector("yolo26n.yaml", NAMES.values())


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory) -> dict[str, Path]:
    """The detector as the host traces it, dense and end to end, and the first as a file of ours that takes pictures."""
    folder = tmp_path_factory.mktemp("exported")
    save(model, folder / "best.pt", SIDE)
    loaded = load_detector(folder / "best.pt")
    found = {
        name: trace(loaded, folder, name, (SIDE, SIDE), nms, 17, True)
        for name, nms in (("dense", None), ("final", False))
    }
    graph = onnx.load(str(found["dense"]))
    take_pictures(graph)
    onnx.save(graph, str(folder / "pictures.onnx"))
    annotate(folder / "pictures.onnx", NOTES)
    return {**found, "pictures": folder / "pictures.onnx"}


@pytest.mark.parametrize("name", ["dense", "pictures"])
def test_a_file_of_ours_says_what_its_checkpoint_says(name, model, exported):
    teacher, images = OnnxTeacher(exported[name]), pictures()
    expected, answer = YoloTeacher(model)(images), teacher(images)
    assert (teacher.names, teacher.strides, teacher.widths) == (NAMES, [8, 16, 32], {})
    assert isinstance(answer, DenseAnswer)
    assert answer.one2one is None
    assert answer.maps == {}
    assert answer.cells == expected.cells
    assert torch.equal(answer.one2many.anchors, expected.one2many.anchors)
    assert torch.equal(answer.one2many.strides, expected.one2many.strides)
    ours, theirs = answer.one2many, expected.one2many
    torch.testing.assert_close(ours.logits.sigmoid(), theirs.logits.sigmoid(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(ours.at(ALL)[2], theirs.at(ALL)[2], rtol=0, atol=0.02)
    torch.testing.assert_close(ours.sides, theirs.sides, rtol=0, atol=0.01)


def test_a_file_that_ends_in_detections_gives_each_box_one_class(model, exported, tmp_path):
    rtdetr = load_ultralytics(save(live_rtdetr(NAMES.values()), tmp_path / "best.pt", SIDE))
    file = trace(rtdetr, tmp_path, "best", (SIDE, SIDE), None, 17, False)
    images = pictures()
    for path, expected in (
        (exported["final"], as_set(YoloTeacher(model)(images))),
        (file, RtdetrTeacher(rtdetr)(images)),
    ):
        teacher = OnnxTeacher(path)
        answer = teacher(images)
        assert isinstance(answer, SetAnswer)
        assert teacher.strides == []
        assert ((answer.scores > 0).sum(-1) <= 1).all()
        for i in range(len(images)):
            # The host's head names an anchor once for each of its classes among the best.
            first = answer.scores[i].amax(-1).argmax()
            torch.testing.assert_close(
                answer.scores[i, first].amax(), expected.scores[i, 0].amax(), rtol=1e-3, atol=1e-4
            )
            torch.testing.assert_close(answer.boxes[i, first], expected.boxes[i, 0], rtol=0, atol=0.05)


@pytest.mark.parametrize("half", [False, True])
def test_boxes_come_back_from_distances_and_scores_from_logits(tmp_path, half):
    raw = dense((20, 30, 16, 24, 0.9, 0.2, 0.0), (40, 10, 8, 4, 0.0, 1.0, 0.3), anchors=ANCHORS)
    answer = OnnxTeacher(write_detector(tmp_path / "made.onnx", raw, half=half))(pictures(2))
    assert isinstance(answer, DenseAnswer)
    branch = answer.one2many
    assert branch.sides.shape == (2, ANCHORS, 4, 1)
    boxes = branch.at(ALL)[2]
    torch.testing.assert_close(boxes[1, [0, 3]], torch.tensor([[12.0, 18, 28, 42], [36.0, 8, 44, 12]]))
    torch.testing.assert_close(
        branch.logits[0].sigmoid(), torch.from_numpy(raw[4:].T), rtol=0, atol=1e-3 if half else 2e-6
    )
    assert branch.logits.isfinite().all()
    assert branch.logits.dtype == boxes.dtype == torch.float32
    assert answer.cells == {8: 64, 16: 16, 32: 4}


@pytest.mark.parametrize(
    ("strides", "size"),
    [([8, 16, 32], (64, 96)), ([4, 8, 16, 32], (64, 64)), ([8, 16, 32, 64], (128, 64)), ([16, 32], (64, 64))],
)
def test_the_grid_is_found_by_its_number_of_anchors(tmp_path, strides, size):
    anchors = sum((size[0] // s) * (size[1] // s) for s in strides)
    teacher = OnnxTeacher(write_detector(tmp_path / "made.onnx", dense(anchors=anchors), imgsz=size))
    assert teacher.strides == strides
    answer = teacher(pictures(1, *size))
    assert list(answer.cells) == strides
    assert answer.one2many.logits.shape == (1, anchors, 3)


def test_what_has_not_the_grid_of_the_pictures_becomes_a_set(tmp_path):
    raw = dense((20, 30, 16, 24, 0.9, 0.2, 0.0), (21, 30, 16, 24, 0.8, 0.2, 0.0), anchors=33)
    teacher = OnnxTeacher(write_detector(tmp_path / "made.onnx", raw))
    answer = teacher(pictures(2))
    assert teacher.strides == []
    assert answer.present.sum(-1).tolist() == [1, 1]  # NMS has taken the two for one
    torch.testing.assert_close(answer.boxes[0, 0], torch.tensor([12.0, 18, 28, 42]))
    torch.testing.assert_close(answer.scores[0, 0], torch.tensor([0.9, 0.2, 0.0]), rtol=0, atol=1e-5)
    # Pictures of another size are resized, and the boxes scaled back.
    teacher = OnnxTeacher(write_detector(tmp_path / "made.onnx", dense((20, 30, 16, 24, 1, 0, 0), anchors=ANCHORS)))
    assert teacher.size == (SIDE, SIDE)
    answer = teacher(pictures(2, 2 * SIDE, 4 * SIDE))
    torch.testing.assert_close(answer.boxes[:, 0], torch.tensor([[48.0, 36, 112, 84]] * 2))
    final = OnnxTeacher(write_detector(tmp_path / "end.onnx", rows((4, 8, 12, 16, 0.7, 2))))
    assert final(pictures(1, SIDE // 2, SIDE)).boxes[0].tolist() == [[4.0, 4.0, 12.0, 8.0]]
    # This one takes any size, and gives as many anchors whatever it is fed.
    teacher = OnnxTeacher(write_detector(tmp_path / "any.onnx", dense(anchors=ANCHORS), dynamic=True, batch=None))
    assert teacher.size is None
    assert isinstance(teacher(pictures(2)), DenseAnswer)
    assert isinstance(teacher(pictures(2, SIDE, 2 * SIDE)), SetAnswer)


@pytest.mark.parametrize("batch", [1, 2, 4, None])
def test_as_many_pictures_at_a_time_as_the_file_takes(tmp_path, batch):
    gain = np.zeros((7, ANCHORS), np.float32)
    gain[4] = 0.5  # scores follow the brightness
    teacher = OnnxTeacher(write_detector(tmp_path / "made.onnx", dense(anchors=ANCHORS), gain=gain, batch=batch))
    levels = torch.tensor([0.1, 0.9, 0.4, 0.2, 0.6])
    answer = teacher(levels.view(-1, 1, 1, 1).expand(5, 3, SIDE, SIDE))
    assert answer.one2many.logits.shape[0] == 5
    torch.testing.assert_close(answer.one2many.logits[:, 7, 0].sigmoid(), levels / 2, rtol=0, atol=1e-5)


def test_a_batch_of_which_one_picture_is_empty(tmp_path):
    gain = np.zeros((20, 6), np.float32)
    gain[0, 4] = 0.5
    teacher = OnnxTeacher(write_detector(tmp_path / "made.onnx", rows((4, 8, 12, 16, 0.0, 2)), gain=gain))
    answer = teacher(torch.stack([torch.zeros(3, SIDE, SIDE), torch.ones(3, SIDE, SIDE)]))
    assert answer.present.tolist() == [[False], [True]]
    assert answer.scores[1].tolist() == [[0.0, 0.0, 0.5]]
    assert teacher(torch.zeros(2, 3, SIDE, SIDE)).boxes.shape == (2, 0, 4)


def test_a_loss_can_use_the_answer(tmp_path):
    teacher = OnnxTeacher(write_detector(tmp_path / "made.onnx", dense(anchors=ANCHORS)), needs=Needs(boxes=False))
    with torch.inference_mode():
        images = pictures(1)
    answer = teacher(images)
    teacher.wait(answer)
    assert answer.one2many.sides is None
    weight = torch.ones(1, requires_grad=True)
    (answer.one2many.logits * weight).sum().backward()
    assert answer.one2many.logits.grad_fn is None


def test_names_of_ones_own(tmp_path):
    file = write_detector(tmp_path / "made.onnx", dense(anchors=ANCHORS), names=None)
    assert OnnxTeacher(file, names={0: "a", 1: "b", 2: "c"}).names[1] == "b"
    assert "names no classes; give teacher_names=" in refusal(file)
    assert "scores 3 classes, and 2 have names" in refusal(file, names={0: "a", 1: "b"})


# --- files that are described ----------------------------------------------------------------------------------------

#: Of made files, whose outputs have these names.
CLASSES = {"names": [*NAMES.values()], "boxes": {"output": "boxes"}}
SOFT = {**CLASSES, "scores": {"output": "scores", "activation": "sigmoid"}}
HARD = {**CLASSES, "score": {"output": "score"}, "labels": {"output": "labels"}}
BOXES = np.array([[4, 8, 12, 16], [30, 20, 50, 60], [31, 20, 50, 60]], np.float32)
LOGITS = np.array([[2, -1, 0], [-9, -9, 3], [-9, -9, 2.5]], np.float32)


@pytest.fixture
def file(tmp_path) -> Path:
    return write_constants(tmp_path / "made.onnx", {"boxes": BOXES, "scores": LOGITS})


def answer_of(file: Path, images: torch.Tensor | None = None, **keys: Any) -> SetAnswer:
    answer = OnnxTeacher(file, outputs=describe(file.parent, **keys))(pictures(2) if images is None else images)
    assert isinstance(answer, SetAnswer)
    return answer


@pytest.mark.parametrize(
    ("form", "box"), [("xyxy", [4, 8, 12, 16]), ("xywh", [4, 8, 16, 24]), ("cxcywh", [-2, 0, 10, 16])]
)
@pytest.mark.parametrize("scale", ["pixels", "normalised"])
def test_boxes_in_all_forms(tmp_path, form, box, scale):
    given = BOXES / ([96, 64, 96, 64] if scale == "normalised" else 1)
    file = write_constants(tmp_path / "made.onnx", {"boxes": given, "scores": LOGITS}, shape=("batch", 3, 64, 96))
    keys = {**SOFT, "boxes": {"output": "boxes", "form": form, "scale": scale}}
    answer = answer_of(file, pictures(2, 64, 96), **keys)
    order = [1, 2, 0]  # the surest first
    torch.testing.assert_close(answer.boxes[1, 2], torch.tensor(box, dtype=torch.float32), rtol=0, atol=1e-4)
    torch.testing.assert_close(answer.scores[0], torch.from_numpy(LOGITS).sigmoid()[order])


@pytest.mark.parametrize("background", ["first", "last", "none"])
def test_a_column_of_nothing_is_left_out(file, background):
    scores = {"output": "scores", "activation": "softmax", "background": background}
    names = ["a", "b", "c"] if background == "none" else ["a", "b"]
    answer = answer_of(file, **{**CLASSES, "names": names, "scores": scores})
    kept = {"first": slice(1, None), "last": slice(2), "none": slice(None)}[background]
    expected = torch.from_numpy(LOGITS).softmax(-1)[:, kept]
    expected = expected[expected.amax(-1).argsort(descending=True)]
    expected = expected[expected.amax(-1) > 0.01]
    torch.testing.assert_close(answer.scores[0], expected)


@pytest.mark.parametrize("one_based", [False, True])
def test_one_class_a_box(tmp_path, one_based):
    outputs = {"boxes": BOXES, "score": np.array([0.5, 0.9, 0.4], np.float32), "labels": np.array([0, 2, 9])}
    file = write_constants(tmp_path / "made.onnx", outputs)
    answer = answer_of(file, **{**HARD, "labels": {"output": "labels", "one_based": one_based}})
    # Class 9 has no name, nor has class 0 where the first is number 1.
    expected = [[0, 0.9, 0]] if one_based else [[0, 0, 0.9], [0.5, 0, 0]]
    torch.testing.assert_close(answer.scores[1], torch.tensor(expected))


def test_nms_takes_repetitions_away_where_it_is_asked_for(file):
    assert answer_of(file, **SOFT).present.sum(-1).tolist() == [3, 3]
    answer = answer_of(file, **SOFT, nms=True)
    assert answer.present.sum(-1).tolist() == [2, 2]
    torch.testing.assert_close(answer.boxes[0, 0], torch.from_numpy(BOXES[1]))


@pytest.mark.parametrize("shape", [(1, 3, 64, 64), ("batch", 3, 64, 64), (3, 64, 64), (3, "height", "width")])
def test_outputs_without_the_dimension_of_the_batch(tmp_path, shape):
    outputs = {"boxes": BOXES, "score": np.array([0.5, 0.9, 0.4], np.float32), "labels": np.array([0, 2, 1])}
    file = write_constants(tmp_path / "made.onnx", outputs, shape=shape, batched=False)
    assert answer_of(file, **HARD).scores.shape == (2, 3, 3)


def test_names_from_a_file_beside_it(file, tmp_path):
    (tmp_path / "data.yaml").write_text("train: a\nnames:\n  0: x\n  1: y\n  2: z\n")
    described = describe(tmp_path, **{**SOFT, "names": "data.yaml"})
    assert OnnxTeacher(file, outputs=described).names == {0: "x", 1: "y", 2: "z"}
    assert OnnxTeacher(file, outputs=described, names=NAMES).names == NAMES


@pytest.mark.parametrize(
    ("form", "shape", "kind", "means"),
    [
        ({}, (1, 3, 32, 32), "FLOAT", [0.2, 0.4, 0.8]),
        ({"order": "bgr"}, (1, 3, 32, 32), "FLOAT", [0.8, 0.4, 0.2]),
        ({"scale": 255}, (1, 3, 32, 32), "FLOAT", [51, 102, 204]),
        ({"mean": [0.1, 0.2, 0.3], "std": [0.5, 1, 2]}, (1, 3, 32, 32), "FLOAT", [0.2, 0.2, 0.25]),
        ({"order": "bgr", "scale": 255, "mean": [4, 2, 1]}, (1, 3, 32, 32), "FLOAT", [200, 100, 50]),
        ({"layout": "nhwc"}, (1, 32, 32, 3), "FLOAT", [0.2, 0.4, 0.8]),
        ({"layout": "nhwc", "order": "bgr", "dtype": "uint8"}, (1, 32, 32, 3), "UINT8", [204, 102, 51]),
        ({"dtype": "float16"}, (1, 3, 32, 32), "FLOAT16", [0.2, 0.4, 0.8]),
    ],
)
def test_pictures_go_in_as_they_are_taken(tmp_path, form, shape, kind, means):
    file = write_means(tmp_path / "made.onnx", shape, kind)
    images = torch.tensor([0.2, 0.4, 0.8]).view(1, 3, 1, 1).expand(2, 3, 32, 32)
    answer = answer_of(file, images, **HARD, input=form)
    torch.testing.assert_close(answer.boxes[1, 0, :3], torch.tensor(means, dtype=torch.float32), rtol=1e-3, atol=1e-3)


def test_a_second_input_for_the_sizes(tmp_path):
    file = write_means(tmp_path / "made.onnx", ("batch", 3, 32, 48), sizes="orig_target_sizes")
    images = torch.zeros(2, 3, 32, 48)
    answer = answer_of(file, images, **HARD, input={"sizes": "orig_target_sizes"})
    assert answer.boxes[1, 0].tolist() == [0, 0, 0, 48]
    assert "takes images" in refusal(file, outputs=describe(tmp_path, **HARD))
    assert "has no input 'sizes'" in refusal(file, outputs=describe(tmp_path, **HARD, input={"sizes": "sizes"}))


# --- what can't be used ----------------------------------------------------------------------------------------------


def test_files_that_can_not_be_used(tmp_path):
    (tmp_path / "best.onnx").write_bytes(b"nothing of the kind")
    assert "is not an ONNX file, or is cut off" in refusal(tmp_path / "best.onnx")
    assert "no such file; did you mean 'best.onnx'?" in refusal(tmp_path / "bets.onnx")
    file = write_constants(tmp_path / "made.onnx", {"dets": np.zeros((9, 5)), "labels": np.zeros(9, np.int64)})
    says = f"teacher={file}: does not say what its outputs mean: dets (1, 9, 5), labels (1, 9); "
    assert refusal(file, names=NAMES).startswith(says)
    file = write_detector(tmp_path / "made.onnx", dense(anchors=ANCHORS), task="segment")
    assert "is a segment model, not a detector; give the checkpoint (.pt)" in refusal(file)
    file = write_detector(tmp_path / "grey.onnx", dense(anchors=ANCHORS), channels=1)
    assert "expected pictures in colour, NCHW" in refusal(file)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"boxs": {}}, "boxs is unknown; did you mean 'boxes'?"),
        ({"boxes": {"form": "xyxy"}}, "it lacks boxes.output"),
        ({"boxes": {"output": "boxes", "fromat": "xyxy"}}, "boxes.fromat is unknown; did you mean 'boxes.form'?"),
        ({"boxes": {"output": "boxes", "form": "yxyx"}}, "boxes.form: input should be 'xyxy', 'xywh' or 'cxcywh', rec"),
        ({"boxes": {"output": "box"}}, "has no output 'box', which teacher_outputs= has for boxes; did you mean 'box"),
        ({"boxes": {"output": "scores"}}, "'scores', which teacher_outputs= has for boxes, is not (B, N, 4)"),
        ({"scores": {"output": "scores", "background": "last"}}, "which teacher_outputs= has for scores, is not"),
        ({"scores": {"output": "scores"}}, "its scores go from -9.00 to 3.00, which are no probabilities"),
        ({"scores": None}, "give scores: for scores of all classes, or score: and labels:"),
        ({"score": {"output": "scores"}}, "give scores: for scores of all classes, or score: and labels:"),
        ({"labels": {"output": "scores"}}, "give scores: for scores of all classes, or score: and labels:"),
        ({"input": {"std": [1, 1, 0]}}, "input.std.2: input should be greater than 0, received 0"),
        ({"input": {"dtype": "uint8"}}, "takes float32, where teacher_outputs= has input.dtype uint8"),
        ({"input": {"layout": "nhwc"}}, "expected pictures in colour, NHWC"),
        ({"names": "data.yaml"}, "names=data.yaml: cannot be read"),
        ({"names": None}, "names no classes"),
    ],
)
def test_descriptions_that_are_wrong(file, tmp_path, keys, says):
    assert says in refusal(file, outputs=describe(tmp_path, **{**SOFT, **keys}))


@pytest.mark.parametrize(
    ("text", "says"), [("[1", "is not YAML"), ("- 1", "it holds a list"), ("1: 2", "its keys are 1")]
)
def test_descriptions_that_are_none(file, tmp_path, text, says):
    (tmp_path / "outputs.yaml").write_text(text)
    message = refusal(file, outputs=tmp_path / "outputs.yaml")
    assert message.startswith(f"teacher_outputs={tmp_path / 'outputs.yaml'}: ")
    assert says in message
    assert "did you mean 'outputs.yaml'?" in refusal(file, outputs=tmp_path / "output.yaml")


def test_the_example_of_the_format_is_one(tmp_path):
    """The example at the top of the module is read as it stands, each of the two ways to name a class."""
    text = onnx_description.__doc__ or ""
    blocks = [part for part in text.split("\n\n") if part.startswith("    ")]
    whole = yaml.safe_load(blocks[0])
    hard = {**whole, **yaml.safe_load(blocks[1])}
    del hard["scores"]
    for number, values in enumerate((whole, hard)):
        file = tmp_path / f"{number}.yaml"
        file.write_text(yaml.safe_dump(values))
        description = onnx_description.read_description(file)
        assert description.names == {0: "disc", 1: "square"}
        # All that the example says, but for the input and the outputs, is what is meant without it.
        assert description.input.model_copy(update={"sizes": None, "dtype": None}) == onnx_description.InputForm()


def test_a_file_that_does_not_run_on_the_pictures(tmp_path, exported):
    shutil.copy(exported["dense"], tmp_path / "static.onnx")
    teacher = OnnxTeacher(tmp_path / "static.onnx")
    teacher.size = None
    with pytest.raises(RequestError, match="does not run on 1 pictures of 96x96"):
        teacher(pictures(1, 96, 96))
