"""Channels are chosen alike wherever they appear.

A wide twin of a nano network has every channel twice in a row, each copy at a scale of its own (with ReLU, a scaled
channel stays one), and what reads the two takes half of each: it computes the same as the nano one. So does the network
that has one of each two copies, whichever, as long as what reads a channel, what is added to it and what is parted from
it agree on the copy. Batches are normalised by their own moments here, so that the halves matter nowhere.
"""

import pytest
import torch
from live_detector import live_detector
from torch import Tensor
from ultralytics.nn.modules.block import AAttn, Attention
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from yolo_distill.initialization.channel_selection import norm_scores
from yolo_distill.initialization.weight_selection import plan_start

FAMILIES = ["yolov5", "yolov8", "yolo11", "yolo12", "yolo26"]
PICTURES = torch.rand(4, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
#: Scales of the two copies of a channel, by its place modulo 8; all pieces of all maps begin at multiples of 8.
SCALES = torch.rand(8, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.5


def _model(family: str, size: tuple[float, float, int], seed: int = 0) -> DetectionModel:
    """Return a detector of some depth, width and largest width, in double precision and with ReLU."""
    plan = yaml_model_load(f"{family}n.yaml")
    plan["scales"], plan["activation"], plan["nc"] = {"n": size}, "torch.nn.ReLU()", 2
    torch.manual_seed(seed)
    model = DetectionModel(plan, verbose=False).double()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 1e-20  # which does not scale with what it is added to
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-1, 1)
    return model


def _copies(small: int, wide: int, run: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return, of each channel of a wide map, the small one's that it copies, its scale and its share."""
    if wide == small:
        return torch.arange(small), torch.ones(small), torch.ones(small)
    source = torch.arange(small).view(-1, 1, run).expand(-1, 2, -1).flatten()
    copy = torch.arange(2).view(1, 2, 1).expand(small // run, 2, run).flatten()
    return source, SCALES[source % 8, copy] if run == 1 else torch.ones(2 * small), torch.full((2 * small,), 0.5)


def _twin(small: DetectionModel, large: DetectionModel, pieces: dict[str, list[tuple[int, int]]]) -> None:
    """Make `large` compute what `small` does.

    Args:
        small: as it is.
        large: wider, and perhaps deeper.
        pieces: widths, in both, of the pieces of the maps that some layers read, where not all of them are doubled.
    """
    runs = {}
    for path, module in small.named_modules():
        if isinstance(module, (Attention, AAttn)):  # heads are doubled, not the channels of each
            runs[f"{path}.qkv", 0] = module.qkv.conv.out_channels // module.num_heads
            runs[f"{path}.pe", 0] = runs[f"{path}.proj", 1] = module.head_dim
    state = small.state_dict()
    for key, wide in large.state_dict().items():
        layer, _, kind = key.rpartition(".")
        layer = layer.rpartition(".")[0]
        if key not in state:  # of a repeat more: make it do nothing
            if layer.endswith("bn") or ".bn." in key:
                wide.zero_() if kind in {"weight", "bias"} else None
            continue
        value = state[key]
        for dim in range(min(value.ndim, 2)):
            if wide.shape[dim] == value.shape[dim]:
                continue
            narrow = value.shape[dim]
            before = pieces.get(layer, [(narrow, min(wide.shape[dim], 2 * narrow))]) if dim else [(narrow, 2 * narrow)]
            found = [_copies(a, b, runs.get((layer, dim), 1)) for a, b in before]
            starts = [sum(a for a, _ in before[:n]) for n in range(len(before))]
            source = torch.cat([f[0] + start for f, start in zip(found, starts, strict=True)])
            scale, share = (torch.cat([f[n] for f in found]) for n in (1, 2))
            value = value.index_select(dim, source)
            if dim:
                value = value * (share / scale).view(1, -1, 1, 1)
                extra = wide.shape[1] - value.shape[1]  # pieces that repeats more give
                value = torch.cat([value, value.new_zeros(len(value), extra, *value.shape[2:])], 1)
            elif ".bn." in key and kind in {"weight", "bias"}:
                value = value * scale
        wide.copy_(value)


def _outputs(model: DetectionModel, pictures: Tensor = PICTURES) -> list[Tensor]:
    """Return what the head gives for a batch normalised by its own moments."""
    with torch.no_grad():
        found = model.train()(pictures)
    branches = found.values() if "one2many" in found else [found]
    return [branch[kind] for branch in branches for kind in ("boxes", "scores")]


def _noise(model: DetectionModel, seed: int) -> dict[str, Tensor]:
    """Return scores without any rhyme, so that any channel may be the best."""
    generator = torch.Generator().manual_seed(seed)
    convolutions = {p: m for p, m in model.named_modules() if isinstance(m, torch.nn.Conv2d)}
    return {path: torch.rand(m.out_channels, generator=generator) for path, m in convolutions.items()}


NANO, SMALL = (0.5, 0.25, 1024), (0.5, 0.5, 1024)
PAIRS = {family: (family, SMALL, {}) for family in FAMILIES}
# Deeper: three or six repeats where the nano one has one or two.
PAIRS |= {f"{family}-deep": (family, (1.0, 0.5, 1024), {}) for family in ("yolov8", "yolo26")}
# The deepest maps are as wide as the nano one's, as those of m are beside s: half of a concatenation is doubled.
PAIRS["yolov8-capped"] = (
    "yolov8",
    (0.5, 0.5, 512),
    {"model.12.cv1": [(256, 256), (128, 256)], "model.21.cv1": [(128, 256), (256, 256)]},
)


#: Those of which every run sees whether they still do; the others are of the long one.
SOME = {"yolo26", "yolov8-capped"}


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=() if name in SOME else pytest.mark.slow) for name in PAIRS]
)
def twins(request):
    family, size, pieces = PAIRS[request.param]
    small, large = _model(family, NANO), _model(family, size, seed=1)
    _twin(small, large, pieces)
    return small, large


def test_the_twin_computes_the_same(twins):
    for ours, theirs in zip(*map(_outputs, twins), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("seed", [None, 0])
def test_either_copy_gives_the_small_network_back(twins, seed):
    small, large = twins
    started = _model(small.yaml["yaml_file"].removesuffix("n.yaml"), NANO, seed=2)
    scores = None if seed is None else _noise(large, seed)
    selected, report = plan_start(started, large, scores=scores)
    started.load_state_dict(selected)
    assert report.scored == (0 if seed is None else 1)
    for ours, theirs in zip(_outputs(started), _outputs(small), strict=True):
        torch.testing.assert_close(ours, theirs)


LAYER = "model.4.cv1"


@pytest.fixture
def detector():
    return live_detector("yolov8n.yaml").eval()


def test_norms_grow_with_filter_and_scale(detector):
    before = norm_scores(detector)[f"{LAYER}.conv"]
    layer = detector.get_submodule(LAYER)
    layer.conv.weight.data[3] *= 2
    layer.bn.weight.data[5] *= -3
    after = norm_scores(detector)[f"{LAYER}.conv"]
    growth = after / before / (after[0] / before[0])
    assert [growth[at].item() for at in (3, 5, 7)] == pytest.approx([2, 3, 1], rel=1e-4)
    assert after.mean().item() == pytest.approx(1, rel=1e-4)


def test_it_does_not_matter_where_a_layer_has_its_scale(detector):
    before = norm_scores(detector)[f"{LAYER}.conv"]
    layer = detector.get_submodule(LAYER)
    layer.conv.weight.data[3] *= 10
    layer.bn.running_var[3] *= 100
    torch.testing.assert_close(norm_scores(detector)[f"{LAYER}.conv"], before, rtol=1e-2, atol=0)


def test_a_silent_channel_is_worth_nothing(detector):
    detector.get_submodule(LAYER).bn.weight.data[2] = 0
    assert norm_scores(detector)[f"{LAYER}.conv"][2] == 0
