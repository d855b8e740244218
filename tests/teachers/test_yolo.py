"""The teacher: frozen, copied, and as good folded as unfolded."""

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.teachers.yolo import YoloTeacher


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return DetectionModel("yolo26n.yaml", nc=3, verbose=False)


def test_the_model_it_was_made_from_stays_as_it_is(model):
    before = {k: v.clone() for k, v in model.state_dict().items()}
    training = model.training
    YoloTeacher(model)(torch.rand(1, 3, 64, 64))
    assert model.training == training
    assert model.state_dict().keys() == before.keys()
    assert all(p.requires_grad for n, p in model.named_parameters() if "dfl" not in n)


def test_it_answers_the_same_twice_and_without_graph(model):
    teacher = YoloTeacher(model)
    images = torch.rand(2, 3, 64, 96)
    first, second = teacher(images), teacher(images)
    assert torch.equal(first.one2many.logits, second.one2many.logits)
    assert first.one2many.logits.grad_fn is None
    assert {s: tuple(m.shape[-2:]) for s, m in first.maps.items()} == {8: (8, 12), 16: (4, 6), 32: (2, 3)}
    assert first.one2many.sides.shape == (2, 8 * 12 + 4 * 6 + 2 * 3, 4, 1)


def test_it_answers_for_any_size_of_batch(model):
    teacher = YoloTeacher(model)
    images = torch.rand(3, 3, 64, 64)
    together = teacher(images).one2one.logits
    alone = torch.cat([teacher(image[None]).one2one.logits for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_its_grid_is_made_once_a_size_and_can_be_learned_with(model):
    teacher = YoloTeacher(model)
    small, large = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        first = teacher.grid(small)
    assert teacher.grid(small) is first
    assert not first[0].is_inference()
    assert teacher.grid(large)[2] == {8: 96, 16: 24, 32: 6}
    assert torch.equal(teacher.grid(small)[0], first[0])


def test_it_does_not_touch_the_random_state(model):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    YoloTeacher(model)(torch.zeros(1, 3, 64, 64))
    assert torch.equal(torch.rand(3), expected)


def test_it_knows_names_strides_and_widths(model):
    teacher = YoloTeacher(model)
    assert teacher.names == {0: "0", 1: "1", 2: "2"}
    assert teacher.strides == [8, 16, 32]
    assert teacher.widths == {8: 64, 16: 128, 32: 256}
