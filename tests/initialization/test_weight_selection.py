"""The student starts from the teacher's own channels."""

from typing import Any

import pytest
import torch
from ultralytics.nn.modules.block import Attention
from ultralytics.nn.tasks import DetectionModel, SegmentationModel

from yolo_distill.initialization.channel_selection import norm_scores, spaced
from yolo_distill.initialization.weight_selection import plan_start, require_correspondence
from yolo_distill.models.architecture_files import read_plan
from yolo_distill.models.sizes import resized

NAMES = {0: "a", 1: "b"}


def _model(name: str | dict[str, Any], names: dict[int, str] = NAMES) -> DetectionModel:
    torch.manual_seed(sum(map(ord, str(name))))
    model = DetectionModel(name, nc=len(names), verbose=False)
    model.names = names
    return model


@pytest.fixture(scope="module")
def small():
    return _model("yolo26n.yaml")


@pytest.fixture(scope="module")
def large():
    return _model("yolo26s.yaml")


@pytest.mark.parametrize(
    ("larger", "smaller", "indices"),
    [(4, 2, [0, 2]), (6, 2, [0, 3]), (3, 3, [0, 1, 2]), (8, 5, [0, 1, 3, 4, 6]), (1, 0, [])],
)
def test_spaced(larger, smaller, indices):
    assert spaced(larger, smaller).tolist() == indices


@pytest.mark.parametrize(
    ("larger", "smaller"),
    [
        ("yolo26s", "yolo26n"),
        ("yolo26n", "yolo26p"),
        *(pytest.param(f"yolo{v}s", f"yolo{v}n", marks=pytest.mark.slow) for v in ("11", "12", "v8", "v5")),
        pytest.param("yolo26p", "yolo26f", marks=pytest.mark.slow),
        *(pytest.param("yolo" + a, "yolo" + b, marks=pytest.mark.slow) for a, b in (("11n", "11p"), ("v8s", "v8f"))),
        *(pytest.param(f"yolo{v}s", f"yolo{v}n-w0.19", marks=pytest.mark.slow) for v in ("26", "11", "v8")),
        pytest.param("yolo26s", "yolo26n-w0.3", marks=pytest.mark.slow),  # heads of 78 channels, for the teacher's 64
    ],
)
def test_every_tensor_at_any_ratio(larger, smaller):
    """A head of the student's attention that is wider than the teacher's still has each channel once."""
    stem, _, width = smaller.partition("-w")
    plan = resized(read_plan(f"{stem}.yaml"), float(width) if width else None, None, None, said="")
    student, teacher = (_model(one) for one in (plan, read_plan(f"{larger}.yaml")))
    selected, report = plan_start(student, teacher, scores=norm_scores(teacher))
    assert (report.left, report.share, report.corresponds) == ([], 1, True)
    student.load_state_dict(selected)
    heads = [path for path, module in student.named_modules() if isinstance(module, Attention)]
    assert len(heads) == {"yolo26": 2, "yolo11": 1}.get(larger[:6], 0)
    for index in (report.outputs[f"{path}.{part}"] for path in heads for part in ("qkv", "pe")):
        assert len(set(index.tolist())) == len(index)


def test_what_makes_prototypes_larger_reads_the_channels_that_were_chosen():
    student, teacher = (SegmentationModel(f"yolov8{size}-seg.yaml", nc=2, verbose=False) for size in "ns")
    selected, report = plan_start(student, teacher, scores=norm_scores(teacher))
    theirs = teacher.state_dict()
    read, made, behind = (report.outputs[f"model.22.proto.{layer}"] for layer in ("cv1", "upsample", "cv2"))
    assert read.tolist() != made.tolist()
    weight = theirs["model.22.proto.upsample.weight"]  # a transposed convolution has its inputs first
    assert torch.equal(selected["model.22.proto.upsample.weight"], weight[read][:, made])
    assert torch.equal(selected["model.22.proto.upsample.bias"], theirs["model.22.proto.upsample.bias"][made])
    weight = theirs["model.22.proto.cv2.conv.weight"]
    assert torch.equal(selected["model.22.proto.cv2.conv.weight"], weight[behind][:, made])


def test_a_student_out_of_a_finished_checkpoint_corresponds_as_well(large):
    student = _model("yolo26n.yaml").requires_grad_(False)  # as the host leaves its checkpoints
    report = plan_start(student, large)[1]
    require_correspondence(report)
    assert report.share == 1


@pytest.mark.parametrize(
    ("class_map", "rows"),
    [(None, [2.0, None]), ({"X": "b", "b": "new", "another teacher's": "b"}, [0.0, 2.0])],
)
def test_class_rows_go_by_name(class_map, rows):
    student, teacher = _model("yolo26n.yaml", {0: "b", 1: "new"}), _model("yolo26s.yaml", {0: "x", 1: "a", 2: "b"})
    bias = torch.arange(3.0)
    teacher.model[-1].cv3[0][-1].bias.data = bias
    own = student.model[-1].cv3[0][-1].bias.detach().clone()
    selected, report = plan_start(student, teacher, class_map=class_map)
    wanted = [of_own if row is None else row for row, of_own in zip(rows, own.tolist(), strict=True)]
    assert selected["model.23.cv3.0.2.bias"].tolist() == wanted
    # Where one of its rows has no teacher it has no outputs to be fitted to.
    assert ("model.23.cv3.0.2" in report.outputs) == (None not in rows)
    assert ("1 of 2 classes" in str(report)) == (None in rows)


def test_both_models_stay_as_they_are(small, large):
    before = [{k: v.clone() for k, v in m.state_dict().items()} for m in (small, large)]
    plan_start(small, large)
    for model, state in zip((small, large), before, strict=True):
        for key, value in model.state_dict().items():
            assert torch.equal(value, state[key]), key


@pytest.mark.parametrize(
    ("student", "teacher"),
    [("yolov8n", "yolo11s"), *(pytest.param("yolo26n", one, marks=pytest.mark.slow) for one in ("yolo11s", "yolo26l"))],
)
def test_other_layers_do_not_correspond(student, teacher):
    _, report = plan_start(_model(f"{student}.yaml"), _model(f"{teacher}.yaml"))
    assert not report.corresponds
    assert report.left


def test_a_deeper_teacher_gives_its_first_repeats():
    """What the convolution behind a stage reads of the other repeats is left out."""
    student, teacher = _model("yolov8n.yaml"), _model("yolov8l.yaml")
    selected, report = plan_start(student, teacher)
    assert (report.left, report.share) == ([], 1)
    assert 0.5 < report.used < 0.7
    assert not report.corresponds
    assert "40% of the teacher's tensors have no place in it" in str(report)
    source = teacher.state_dict()
    for repeat in (0, 1):
        name = f"model.4.m.{repeat}.cv1.conv.weight"
        torch.testing.assert_close(selected[name], source[name][::4, ::4], rtol=0, atol=0)
    name = "model.4.cv2.conv.weight"
    width = teacher.model[4].c
    assert source[name].shape[1] == (2 + 6) * width
    torch.testing.assert_close(selected[name], source[name][::4, : (2 + 2) * width : 4], rtol=0, atol=0)


def test_layers_of_another_kind_are_left_out_whole():
    """A Bottleneck where the larger size has a C3k: neither its convolutions nor the batch norms behind them."""
    student = _model("yolo26n.yaml")
    selected, report = plan_start(student, _model("yolo26m.yaml"))
    other = [name for name in student.state_dict() if name.startswith(("model.2.m.0.", "model.4.m.0."))]
    assert report.left == other
    assert report.share > 0.99
    assert "(layers with tensors of their own: 2, 4)" in str(report)
    assert selected.keys() == student.state_dict().keys() - set(other)


def test_scores_choose_between_neighbours(small, large):
    worth = torch.rand(128, generator=torch.Generator().manual_seed(0))
    selected, report = plan_start(small, large, scores={"model.16.cv2.conv": worth})
    best = [2 * at + int(worth[2 * at + 1] > worth[2 * at]) for at in range(64)]
    assert report.chosen[8].tolist() == best
    assert 0 < report.scored < 0.1
    assert "of the channels chosen by score" in str(report)
    source = large.state_dict()
    bias = source["model.16.cv2.bn.bias"]
    torch.testing.assert_close(selected["model.16.cv2.bn.bias"], bias[best], rtol=0, atol=0)
    readers = source["model.17.conv.weight"]
    torch.testing.assert_close(selected["model.17.conv.weight"], readers[::2][:, best], rtol=0, atol=0)


def test_a_smaller_teacher_has_nothing_to_select(small, large):
    for scores in (None, norm_scores(small)):
        _, report = plan_start(large, small, scores=scores)
        assert report.share < 0.1
