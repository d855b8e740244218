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


def test_nothing_is_left_behind():
    model = DetectionModel("yolo26n.yaml", nc=2, verbose=False).eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    random = torch.get_rng_state()
    trace_channels(model)
    assert torch.equal(torch.get_rng_state(), random)
    assert not any(module._forward_hooks or module.training for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
