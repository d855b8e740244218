"""Where a detector's channels come from."""

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.initialization.channel_tracing import trace_channels


def _trace(name: str):
    model = DetectionModel(name, nc=2, verbose=False)
    return model, trace_channels(model)


@pytest.mark.parametrize(
    "name",
    [
        *("yolov8n", "yolo12n", "yolo26n"),
        *(pytest.param(f"yolo{v}", marks=pytest.mark.slow) for v in ("v3", "v5n", "v9c", "v10n", "11n", "12l")),
    ],
)
def test_every_convolution_knows_what_it_reads(name):
    """All but those behind an attention's products, and the host's fixed sum over bins, which does not run."""
    model, trace = _trace(f"{name}.yaml")
    for path, module in model.named_modules():
        if not isinstance(module, torch.nn.Conv2d) or path.endswith(("attn.pe.conv", "dfl.conv")):
            continue
        assert len(trace.groups(trace.inputs[path])) == module.in_channels, path
        assert len(trace.groups(trace.outputs[path])) == module.out_channels, path


def test_a_concatenation_keeps_its_pieces_apart():
    _, trace = _trace("yolov8n.yaml")
    widths = {part.source: len(part.channels) for part in trace.inputs["model.4.cv2.conv"]}
    assert widths == {"model.4.cv1#0": 32, "model.4.cv1#1": 32, "model.4.m.0": 32, "model.4.m.1": 32}
    assert [part.source for part in trace.inputs["model.12.cv1.conv"]] == ["model.10", "model.6"]
    pools = [part.source for part in trace.inputs["model.9.cv2.conv"]]
    assert pools == ["model.9.cv1", "model.9.m", "model.9.m@1", "model.9.m@2"]


def test_what_is_added_is_one():
    _, trace = _trace("yolov8n.yaml")
    with_shortcut, without = (trace.inputs[f"model.{layer}.cv2.conv"] for layer in (4, 12))
    halves = [trace.groups([part]) for part in with_shortcut]
    assert halves[1] == halves[2] == halves[3] == trace.groups(trace.outputs["model.4.m.1.cv2"])
    assert not set(halves[0]) & set(halves[1])
    assert not set(trace.groups(without[1:2])) & set(trace.groups(without[2:]))


def test_a_depthwise_convolution_makes_no_new_channels():
    _, trace = _trace("yolo11n.yaml")
    assert trace.groups(trace.outputs["model.23.cv3.0.0.0"]) == trace.groups(trace.outputs["model.16"])


def test_nothing_is_left_behind():
    model = DetectionModel("yolo26n.yaml", nc=2, verbose=False).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    random = torch.get_rng_state()
    trace_channels(model)
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module._forward_hooks or module.training for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
