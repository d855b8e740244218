"""The student starts from the teacher's own channels."""

from typing import Any

import pytest
import torch
from ultralytics.nn.modules.block import Attention
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.initialization.channel_saliency import norm_scores
from yolo_distill.initialization.channel_selection import spaced
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
    "family", ["yolo26{}", *(pytest.param(f"yolo{v}{{}}", marks=pytest.mark.slow) for v in ("11", "12", "v8", "v5"))]
)
def test_every_tensor_of_nano_comes_out_of_small(family):
    student = _model(family.format("n") + ".yaml")
    selected, report = plan_start(student, _model(family.format("s") + ".yaml"))
    assert selected.keys() == student.state_dict().keys()
    assert report.left == []
    assert report.share == 1
    assert report.corresponds
    student.load_state_dict(selected)  # shapes fit


@pytest.mark.parametrize(
    ("larger", "smaller"),
    [
        ("yolo26n", "yolo26p"),
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
    assert len(heads) == (0 if "v8" in larger else 2 if "26" in larger else 1)
    for index in (report.outputs[f"{path}.{part}"] for path in heads for part in ("qkv", "pe")):
        assert len(set(index.tolist())) == len(index)


def test_a_student_out_of_a_finished_checkpoint_corresponds_as_well(large):
    student = _model("yolo26n.yaml").requires_grad_(False)  # as the host leaves its checkpoints
    report = plan_start(student, large)[1]
    require_correspondence(report)
    assert report.share == 1


def test_every_second_channel(small, large):
    selected, _ = plan_start(small, large)
    source = large.state_dict()["model.1.conv.weight"]
    torch.testing.assert_close(selected["model.1.conv.weight"], source[::2, ::2], rtol=0, atol=0)
    torch.testing.assert_close(
        selected["model.1.bn.running_var"], large.state_dict()["model.1.bn.running_var"][::2], rtol=0, atol=0
    )


def test_connected_layers_keep_the_same_channels():
    """A chain whose odd channels are silent must compute the same after selection: nothing it needs was dropped."""
    small, large = _model("yolo26n.yaml"), _model("yolo26s.yaml")
    for layer in (large.model[0], large.model[1]):
        layer.conv.weight.data[1::2] = 0
    small.load_state_dict(plan_start(small, large)[0])
    x = torch.rand(1, 3, 64, 64)
    small.eval(), large.eval()
    with torch.no_grad():
        ours, theirs = small.model[1](small.model[0](x)), large.model[1](large.model[0](x))
    torch.testing.assert_close(ours, theirs[:, ::2], rtol=1e-4, atol=1e-5)


def test_attention_heads_stay_whole(small, large):
    selected, _ = plan_start(small, large)
    path = next(p for p, m in small.named_modules() if type(m).__name__ == "Attention")
    ours, theirs = small.get_submodule(path), large.get_submodule(path)
    assert (ours.head_dim, ours.num_heads * 2) == (theirs.head_dim, theirs.num_heads)
    block = 2 * theirs.key_dim + theirs.head_dim
    source = theirs.qkv.conv.weight
    whole = torch.cat([source[2 * h * block : (2 * h + 1) * block] for h in range(ours.num_heads)])
    torch.testing.assert_close(selected[f"{path}.qkv.conv.weight"], whole[:, ::2].detach(), rtol=0, atol=0)


def test_convolutions_without_norm_are_rescaled(small, large):
    selected, _ = plan_start(small, large)
    name = "model.23.cv2.0.2.weight"
    source = large.state_dict()[name]
    ratio = source.shape[1] / selected[name].shape[1]
    assert ratio > 1
    torch.testing.assert_close(selected[name], source[:, spaced(source.shape[1], selected[name].shape[1])] * ratio)


def test_class_rows_go_by_name():
    student, teacher = _model("yolo26n.yaml", {0: "b", 1: "new"}), _model("yolo26s.yaml", {0: "x", 1: "a", 2: "b"})
    bias = torch.arange(3.0)
    teacher.model[-1].cv3[0][-1].bias.data = bias
    own = student.model[-1].cv3[0][-1].bias.detach().clone()
    selected, _ = plan_start(student, teacher)
    assert selected["model.23.cv3.0.2.bias"].tolist() == [2.0, own[1].item()]


def test_both_models_stay_as_they_are(small, large):
    before = [{k: v.clone() for k, v in m.state_dict().items()} for m in (small, large)]
    plan_start(small, large)
    for model, state in zip((small, large), before, strict=True):
        for key, value in model.state_dict().items():
            assert torch.equal(value, state[key]), key


@pytest.mark.parametrize(
    ("student", "teacher"), [("yolov8n", "yolo11s"), ("yolo26n", "yolo11s"), ("yolo26n", "yolo26l")]
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


def test_pieces_of_a_concatenation_are_thinned_out_each_by_itself():
    """Of m's deepest maps s takes all, of the others half, which then have to count twice beside them."""
    student, teacher = _model("yolo11s.yaml"), _model("yolo11m.yaml")
    selected, _ = plan_start(student, teacher)
    name = "model.22.cv1.conv.weight"  # reads model.20, half of it, and model.10, all of it
    source = teacher.state_dict()[name]
    columns = [*range(0, 512, 2), *range(512, 1024)]
    weights = torch.tensor([1.0] * 256 + [0.5] * 512).view(1, -1, 1, 1)
    torch.testing.assert_close(selected[name], source[:, columns] * weights)


def test_layers_of_another_kind_are_left_out_whole():
    """A Bottleneck where the larger size has a C3k: neither its convolutions nor the batch norms behind them."""
    student = _model("yolo26n.yaml")
    selected, report = plan_start(student, _model("yolo26m.yaml"))
    other = [name for name in student.state_dict() if name.startswith(("model.2.m.0.", "model.4.m.0."))]
    assert report.left == other
    assert report.share > 0.99
    assert "(layers with tensors of their own: 2, 4)" in str(report)
    assert selected.keys() == student.state_dict().keys() - set(other)


def test_the_report_tells_the_channels_of_the_neck(small, large):
    _, report = plan_start(small, large)
    assert {stride: index.tolist() for stride, index in report.chosen.items()} == {
        8: list(range(0, 128, 2)),
        16: list(range(0, 256, 2)),
        32: list(range(0, 512, 2)),
    }
    assert report.outputs["model.16"].tolist() == report.chosen[8].tolist()


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


def test_heads_are_chosen_by_score_as_a_whole(small, large):
    path = next(p for p, m in large.named_modules() if type(m).__name__ == "Attention")
    theirs = large.get_submodule(path)
    size = 2 * theirs.key_dim + theirs.head_dim
    scores = {f"{path}.qkv.conv": torch.arange(theirs.num_heads * size, dtype=torch.float32)}
    selected, _ = plan_start(small, large, scores=scores)
    whole = torch.cat([theirs.qkv.conv.weight[h * size : (h + 1) * size] for h in range(1, theirs.num_heads, 2)])
    torch.testing.assert_close(selected[f"{path}.qkv.conv.weight"], whole[:, ::2].detach(), rtol=0, atol=0)


def test_rows_of_classes_without_a_teacher_stay_as_they_were():
    student, teacher = _model("yolo26n.yaml", {0: "b", 1: "new"}), _model("yolo26s.yaml", {0: "a", 1: "b"})
    name = "model.23.cv3.0.2.weight"
    own = student.state_dict()[name].clone()
    selected, report = plan_start(student, teacher)
    torch.testing.assert_close(selected[name][1], own[1], rtol=0, atol=0)
    assert not torch.equal(selected[name][0], own[0])
    assert name.removesuffix(".weight") not in report.outputs


def test_a_smaller_teacher_has_nothing_to_select(small, large):
    for scores in (None, norm_scores(small)):
        _, report = plan_start(large, small, scores=scores)
        assert report.share < 0.1
