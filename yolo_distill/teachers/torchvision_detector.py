"""One of torchvision's detectors as a teacher: what its head says of each box about every class.

torchvision answers with one label and one score a box. A student learns more from how sure the teacher is of each
class, so the heads are read before that: a box comes with all its class probabilities, and NMS runs once, on the
likeliest class. Column 0 of all these heads is the background, also where a sigmoid leaves it idle; it is dropped.

Relies on the submodules that torchvision's own `forward` calls (`transform`, `backbone`, `rpn`, `roi_heads`, `head`,
`anchor_generator`, `box_coder`) and on its thresholds (`score_thresh`, `nms_thresh`, `detections_per_img`,
`topk_candidates`); `tests/teachers/test_torchvision_detector.py` holds the answers against torchvision's.

Legend: B pictures, N boxes of one picture, nc classes without the background.
"""

from __future__ import annotations

import math
import pickle
import socket
import zipfile
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import detection, get_model_weights, mobilenet_v3_large
from torchvision.models.detection import ssdlite
from torchvision.models.detection._utils import retrieve_out_channels
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FasterRCNN
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNet
from torchvision.models.detection.ssd import SSD
from torchvision.ops import batched_nms, clip_boxes_to_image, remove_small_boxes
from ultralytics.utils import LOGGER, ONLINE

from yolo_distill.errors import RequestError, did_you_mean
from yolo_distill.files import replacing
from yolo_distill.teachers.answer import DenseAnswer, SetAnswer, make_set
from yolo_distill.teachers.head import Needs

#: By torchvision's names of their builders.
ARCHITECTURES = (
    "fasterrcnn_resnet50_fpn_v2",
    "ssd300_vgg16",
    "ssdlite320_mobilenet_v3_large",
    "retinanet_resnet50_fpn_v2",
    "fcos_resnet50_fpn",
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "retinanet_resnet50_fpn",
)
#: Of the maps that a student can be taught.
STRIDES = (8, 16, 32)
#: Boxes surer than this of some class count, and this many a picture: as much as `as_set` takes of a dense teacher.
SURE, MOST = 0.01, 300
#: Proposals a picture that a Faster R-CNN learns from.
SAMPLED = 128
#: Channels at the end of a MobileNetV3 that has not been made narrower.
_WHOLE_TAIL = 960
#: Seconds that a server may stay silent.
_PATIENCE = 10.0
#: Their weights were trained when torchvision's frozen batch norms added nothing to the variance; it says so itself.
_WITHOUT_EPS = ("fasterrcnn_resnet50_fpn", "retinanet_resnet50_fpn")
#: Shorter side in pixels of the pictures that torchvision's own anchors are made for.
USUAL_SIDE = 800


class TorchvisionTeacher:
    """Answers in sets for a batch of pictures; never learns and is no part of the student.

    Attributes:
        names: class names by column of the scores.
        strides: pixels per cell of the maps that it shows, finest first; empty where it shows none.
        widths: channels of the map at each stride.
        needs: what it is asked for.
        model: the detector, frozen.
    """

    def __init__(
        self, model: nn.Module, names: dict[int, str], device: torch.device | str = "cpu", needs: Needs | None = None
    ) -> None:
        """Copy `model` and freeze it on `device`.

        Args:
            model: one of torchvision's Faster R-CNN, RetinaNet, FCOS or SSD; its thresholds stay as they are.
            names: class names by column, without the background.
            device: where it answers.
            needs: of these, boxes and scores come together; the maps are those of a feature pyramid, at the student's
                strides. An SSD has none: its pictures are resized first.

        Raises:
            RequestError: another kind of model, or one with more or fewer classes than names.
        """
        if not isinstance(model, (FasterRCNN, RetinaNet, FCOS, SSD)):
            raise RequestError(
                f"teacher: a {type(model).__name__} is no detector of torchvision's that is known here; give a "
                "FasterRCNN, RetinaNet, FCOS or SSD"
            )
        if (classes := _columns(model) - 1) != len(names):
            raise RequestError(
                f"teacher: the {type(model).__name__} has {classes} classes besides the background, and {len(names)} "
                "are named; name each of them"
            )
        self.names, self.needs = dict(names), needs or Needs()
        # In channels-last order, which is faster for convolutions; Ultralytics found it wrong on MPS.
        order = torch.contiguous_format if torch.device(device).type == "mps" else torch.channels_last
        self.model: Any = deepcopy(model).to(device).to(memory_format=order).eval().requires_grad_(False)
        self._maps = self._measure_maps(device) if self.needs.maps and not isinstance(model, SSD) else {}
        self.strides = list(self._maps)
        self.widths = {stride: width for stride, (_, width) in self._maps.items()}

    def __call__(self, images: Tensor) -> SetAnswer:
        """Answer for `images`, shape (B, 3, H, W), RGB in 0..1, in single precision."""
        maps: dict[int, Tensor] = {}
        boxes = [images.new_zeros(0, 4)] * len(images)
        scores = [images.new_zeros(0, len(self.names))] * len(images)
        with torch.inference_mode(), torch.autocast(images.device.type, enabled=False):
            pictures = self._pictures(images.float())
            features = self._features(pictures)
            for stride, (name, _) in self._maps.items():
                # As many cells as the student's grid has, without those that only padding made.
                rows, columns = (math.ceil(side / stride) for side in images.shape[-2:])
                maps[stride] = features[name][..., :rows, :columns]
            if self.needs.scores or self.needs.boxes:
                found = list(self._found(pictures, features))
                boxes, scores = [b for b, _ in found], [s for _, s in found]
                sizes = [tuple(images.shape[-2:])] * len(images)
                resized = self.model.transform.postprocess([{"boxes": b} for b in boxes], pictures.image_sizes, sizes)
                boxes = [r["boxes"] for r in resized]
        # Copied outside of the inference mode, whose tensors no loss could keep for its backward pass.
        return make_set(boxes, scores, len(self.names), {s: m.clone() for s, m in maps.items()})

    def wait(self, answer: DenseAnswer | SetAnswer) -> None:
        """Do nothing: the answer is computed on the current stream."""

    def _pictures(self, images: Tensor) -> ImageList:
        """Normalise and pad the pictures; resize them only for a model of a fixed size, whose boxes are scaled back."""
        transform = self.model.transform
        if transform.fixed_size is not None:
            return transform(list(images))[0]
        padded = transform.batch_images(list(transform.normalize(images)), size_divisible=transform.size_divisible)
        return ImageList(padded, [tuple(images.shape[-2:])] * len(images))

    def _features(self, pictures: ImageList) -> dict[str, Tensor]:
        features = self.model.backbone(pictures.tensors)
        return {"0": features} if isinstance(features, Tensor) else dict(features)

    def _measure_maps(self, device: torch.device | str) -> dict[int, tuple[str, int]]:
        """Return name and channels of the first map at each of the student's strides."""
        side = 4 * max(STRIDES)
        with torch.inference_mode():
            features = self._features(self._pictures(torch.zeros(1, 3, side, side, device=device)))
        found: dict[int, tuple[str, int]] = {}
        for name, m in features.items():
            if (stride := side // m.shape[-1]) in STRIDES:
                found.setdefault(stride, (name, m.shape[1]))
        return found

    def _found(self, pictures: ImageList, features: dict[str, Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield boxes (N, 4) and scores (N, nc) of each picture after NMS, the surest first."""
        head = self.model.roi_heads if isinstance(self.model, FasterRCNN) else self.model
        read = _read_two_stages if isinstance(self.model, FasterRCNN) else _read_dense
        for (boxes, scores), size in zip(read(self.model, pictures, features), pictures.image_sizes, strict=True):
            boxes = clip_boxes_to_image(boxes, size)
            some = remove_small_boxes(boxes, min_size=1e-2)
            boxes, scores = boxes[some], scores[some]
            best, label = scores.max(-1)
            kept = batched_nms(boxes, best, label, head.nms_thresh)[: head.detections_per_img]
            yield boxes[kept], scores[kept]


def _read_two_stages(model: Any, pictures: ImageList, features: dict[str, Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield boxes (N, 4) and class probabilities (N, nc) of each picture's proposals, each box as its likeliest class.

    Faster R-CNN corrects a proposal for every class in another way; a box here is one thing with one place.
    """
    heads = model.roi_heads
    proposals, _ = model.rpn(pictures, features)
    pooled = heads.box_roi_pool(features, proposals, pictures.image_sizes)
    logits, corrections = heads.box_predictor(heads.box_head(pooled))
    scores = logits.softmax(-1)[:, 1:]
    likeliest = scores.argmax(-1) + 1
    boxes = heads.box_coder.decode(corrections, proposals)[torch.arange(len(scores), device=scores.device), likeliest]
    counts = [len(own) for own in proposals]
    for own_boxes, own_scores in zip(boxes.split(counts), scores.split(counts), strict=True):
        sure = own_scores.amax(-1) > heads.score_thresh
        yield own_boxes[sure], own_scores[sure]


def _read_dense(model: Any, pictures: ImageList, features: dict[str, Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield boxes (N, 4) and class probabilities (N, nc) of each picture's surest anchors."""
    levels = list(features.values())
    raw = model.head(levels)
    logits = raw["cls_logits"]
    if isinstance(model, SSD):
        scores = logits.softmax(-1)
    elif isinstance(model, FCOS):
        scores = (logits.sigmoid() * raw["bbox_ctrness"].sigmoid()).sqrt()
    else:
        scores = logits.sigmoid()
    decode = model.box_coder.decode if isinstance(model, FCOS) else model.box_coder.decode_single
    cells = [m.shape[-2] * m.shape[-1] for m in levels]
    of_level = torch.arange(len(cells), device=logits.device).repeat_interleave(
        torch.tensor(cells, device=logits.device) * (logits.shape[1] // sum(cells))
    )
    anchors = model.anchor_generator(pictures, levels)
    for own, corrections, places in zip(scores[..., 1:], raw["bbox_regression"], anchors, strict=True):
        best, label = own.max(-1)
        # So many candidates of each class in an SSD, of each level in the others.
        group = label if isinstance(model, SSD) else of_level
        sure = (best > model.score_thresh).nonzero().squeeze(-1)
        parts = [sure[group[sure] == one] for one in group[sure].unique()]
        parts = [part[best[part].topk(min(model.topk_candidates, len(part))).indices] for part in parts]
        index = torch.cat(parts) if parts else sure
        yield decode(corrections[index], places[index]), own[index]


def _columns(model: Any) -> int:
    """Return how many classes a detector's head tells apart, with the background."""
    if isinstance(model, FasterRCNN):
        return int(model.roi_heads.box_predictor.cls_score.out_features)
    head = model.head.classification_head
    return int(head.num_columns if isinstance(model, SSD) else head.num_classes)


def known_name(name: str) -> str:
    """Return the name of a detector that can be built.

    Raises:
        RequestError: torchvision has none of that name.
    """
    if name not in ARCHITECTURES:
        raise RequestError(
            f"teacher=torchvision:{name}: no such detector{did_you_mean(name, ARCHITECTURES)} (there are "
            f"{', '.join(ARCHITECTURES)})"
        )
    return name


def make_detector(
    name: str, classes: int, imgsz: int, *, anchors_for: int | None = None, whole_tail: bool = False
) -> nn.Module:
    """Build a detector with random weights, that takes square pictures as they are.

    Where it is not as torchvision builds it by itself: its thresholds let as much through as `as_set` does. Its anchors
    are as large, relative to the picture, as torchvision's are for pictures of 800 px. A Faster R-CNN looks closer at
    300 proposals a picture rather than 1000, and learns from 128 rather than 512: a student's pictures are small, and
    each proposal costs 4 convolutions of its own in `fasterrcnn_resnet50_fpn_v2`.

    Args:
        name: one of `ARCHITECTURES`.
        classes: without the background.
        imgsz: side of the pictures in pixels; the SSDs resize them to 300 or 320 px.
        anchors_for: side of the pictures in pixels that its anchors are made for; `imgsz` when None, `USUAL_SIDE` for
            weights that were trained elsewhere.
        whole_tail: build an SSDlite as torchvision does for a backbone from ImageNet: with last blocks that are twice
            as wide as in one from scratch.

    Raises:
        RequestError: no such architecture.
    """
    known_name(name)
    sizes = {} if name.startswith("ssd") else {"min_size": imgsz, "max_size": imgsz}
    two_stages = name.startswith("fasterrcnn")
    proposals = {"rpn_post_nms_top_n_test": MOST, "box_batch_size_per_image": SAMPLED} if two_stages else {}
    build = _build_whole_ssdlite if whole_tail and name.startswith("ssdlite") else getattr(detection, name)
    model: Any = build(weights=None, weights_backbone=None, num_classes=classes + 1, **sizes, **proposals)
    head = model.roi_heads if isinstance(model, FasterRCNN) else model
    head.score_thresh, head.detections_per_img = SURE, MOST
    anchored = model.rpn if isinstance(model, FasterRCNN) else model
    if isinstance(model, (FasterRCNN, RetinaNet)):  # the others' are relative to the picture, or to the stride
        scale = min(1.0, (anchors_for or imgsz) / USUAL_SIDE)
        usual = anchored.anchor_generator
        scaled = tuple(tuple(size * scale for size in level) for level in usual.sizes)
        anchored.anchor_generator = AnchorGenerator(scaled, usual.aspect_ratios)
    return model.eval()


def _build_whole_ssdlite(num_classes: int, **_: Any) -> Any:
    """Build what torchvision builds around a MobileNet from ImageNet, which it does not do without its weights."""
    reduced: Any = detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=num_classes)
    norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.03)
    mobile_net = mobilenet_v3_large(weights=None, norm_layer=norm)
    backbone = ssdlite._mobilenet_extractor(mobile_net, 6, norm)
    widths = retrieve_out_channels(backbone, (320, 320))
    anchors = reduced.anchor_generator.num_anchors_per_location()
    reduced.backbone, reduced.head = backbone, ssdlite.SSDLiteHead(widths, anchors, num_classes, norm)
    return reduced


def save_detector(file: Path, model: nn.Module, name: str, names: Mapping[int, str], imgsz: int, **more: Any) -> None:
    """Save a detector that `make_detector` built; the file is there as a whole or not at all.

    Args:
        file: to write.
        model: the detector.
        name: its architecture.
        names: class names by column, without the background.
        imgsz: side of the pictures in pixels that it was built for.
        **more: what else the file holds; tensors and plain Python alone.
    """
    content = {"torchvision": name, "names": dict(names), "imgsz": imgsz, "state": model.state_dict(), **more}
    with replacing(file) as partial:
        torch.save(content, partial)


def load_detector_file(
    file: str | Path, name: str | None, names: Mapping[int, str] | None, imgsz: int
) -> tuple[nn.Module, str, dict[int, str]]:
    """Open a detector's weights, as `save_detector` writes them or as `torch.save(model.state_dict())` does.

    Only weights are read; a file that holds anything that could run code is refused.

    Args:
        file: the weights.
        name: the architecture; None takes what the file says.
        names: class names by column; only for a file that does not say them.
        imgsz: side of the pictures in pixels that it will be asked about.

    Returns:
        the detector, its architecture and its class names.

    Raises:
        RequestError: no such file, not a file of weights, or weights of another architecture or other classes.
    """
    said = f"teacher_weights={file}"
    found = read_weights(Path(file).expanduser(), said)
    anchors_for = USUAL_SIDE
    if isinstance(found.get("torchvision"), str):
        if name not in (None, found["torchvision"]):
            raise RequestError(
                f"{said}: holds a {found['torchvision']}, not a {name}; name what it holds, "
                f"teacher=torchvision:{found['torchvision']}"
            )
        name, names, anchors_for = found["torchvision"], found["names"], found["imgsz"]
        found = found["state"]
    elif not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise RequestError(
            f"{said}: holds no weights by name (its keys: {', '.join(map(str, list(found)[:6])) or 'none'}); write "
            "them with torch.save(model.state_dict(), file)"
        )
    if name is None:
        raise RequestError(f"{said}: does not say which detector its weights are of; name it, teacher=torchvision:NAME")
    if names is None:
        raise RequestError(f"{said}: does not say what its classes are called; give teacher_names=")
    names = {int(column): str(word) for column, word in names.items()}
    tail = found.get("head.classification_head.module_list.1.0.0.weight")
    whole = tail is not None and len(tail) == _WHOLE_TAIL
    model = make_detector(name, len(names), imgsz, anchors_for=anchors_for, whole_tail=whole)
    try:
        model.load_state_dict(found)
    except RuntimeError as error:
        raise RequestError(f"{said}: {_misfit(model, found, name, names)}") from error
    return model, name, names


def read_weights(file: Path, said: str) -> dict[str, Any]:
    """Return the dict that a file of torch holds, opened without running anything that is in it.

    Args:
        file: to read.
        said: the setting that named it, for the messages.

    Raises:
        RequestError: there is none, it is damaged, or it holds more than weights.
    """
    if not file.is_file():
        near = [other.name for other in file.parent.glob("*.pt*")] if file.parent.is_dir() else []
        raise RequestError(
            f"{said}: {'is a folder' if file.is_dir() else 'no such file'}{did_you_mean(file.name, near)}"
        )
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        if isinstance(error, pickle.UnpicklingError) and zipfile.is_zipfile(file):
            raise RequestError(
                f"{said}: holds more than weights, which could run code of its own; write the weights alone with "
                "torch.save(model.state_dict(), file)"
            ) from error
        raise RequestError(f"{said}: is no file of torch's, or is cut off or damaged; copy it again") from error
    return found if isinstance(found, dict) else {}


def _misfit(model: nn.Module, state: Mapping[str, Tensor], name: str, names: Mapping[int, str]) -> str:
    """Say why weights do not fit a detector."""
    own = {key: value.shape for key, value in model.state_dict().items()}
    if _same_keys(own, state):
        other = {key: (shape, state[key].shape) for key, shape in own.items() if key in state}
        other = {key: (mine, theirs) for key, (mine, theirs) in other.items() if mine != theirs}
        # Layers that say something of each class, and no others, grow with the number of classes.
        grown = all(mine and mine[1:] == theirs[1:] for mine, theirs in other.values())
        shares = {theirs[0] / mine[0] for mine, theirs in other.values()} if grown else set()
        if len(shares) == 1:
            classes = round(shares.pop() * (len(names) + 1)) - 1
            return (
                f"is a {name} for {classes} classes besides the background, and {len(names)} are named "
                f"({', '.join(list(names.values())[:4])}{', ...' if len(names) > 4 else ''}); give weights for these"
            )
        return f"is a {name} with layers of other sizes than torchvision's; give one that its builder made"
    for candidate in ARCHITECTURES:
        with torch.device("meta"):
            keys = make_detector(candidate, 1, USUAL_SIDE).state_dict()
        if _same_keys(keys, state):
            return f"holds the weights of a {candidate}, not of a {name}; name it, teacher=torchvision:{candidate}"
    return f"holds no weights of a {name} (its keys: {', '.join(list(state)[:3])}, ...)"


def _same_keys(own: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two state dicts are of one architecture; frozen batch norms count no batches."""
    first, second = ({key for key in keys if "num_batches" not in key} for keys in (own, other))
    return first == second


def pretrained(name: str, imgsz: int = 640) -> tuple[nn.Module, dict[int, str]]:
    """Return torchvision's own detector for COCO, and its 80 class names by column.

    torchvision's has 91 columns: of the background, and of ten classes that COCO's boxes never use ("N/A"). Their rows
    are left out of its last layers, so that columns and names stay in step.

    Args:
        name: one of `ARCHITECTURES`.
        imgsz: side of the pictures in pixels that it will be asked about.

    Raises:
        RequestError: no such architecture, or the weights are neither on this machine nor to be had.
    """
    weights = get_model_weights(known_name(name)).DEFAULT
    state = fetch_weights(weights)
    if state is None:
        raise RequestError(
            f"teacher=torchvision:{name}: its weights are not on this machine and cannot be had ({weights.url}); "
            "give teacher_weights=file.pth, or train it first with teacher_epochs=100"
        )
    words = weights.meta["categories"]
    kept = [column for column, word in enumerate(words) if column and word != "N/A"]
    model = make_detector(name, len(kept), imgsz, anchors_for=USUAL_SIDE)
    own = model.state_dict()
    model.load_state_dict({key: _keep_rows(key, value, own, len(words), [0, *kept]) for key, value in state.items()})
    if name in _WITHOUT_EPS:
        for norm in (layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)):
            norm.eps = 0.0
    return model, {place: words[column] for place, column in enumerate(kept)}


def _keep_rows(key: str, value: Tensor, own: Mapping[str, Tensor], columns: int, rows: list[int]) -> Tensor:
    """Return a tensor of a last layer without the rows of classes that are left out, any other as it is."""
    if key not in own or value.shape == own[key].shape:
        return value
    if "bbox_pred" in key:  # four numbers for each class
        return value.view(columns, 4, *value.shape[1:])[rows].flatten(0, 1)
    return value.view(-1, columns, *value.shape[1:])[:, rows].flatten(0, 1)  # every class, for each anchor


def fetch_weights(weights: Any) -> dict[str, Tensor] | None:
    """Return weights of torchvision's from torch hub's folder, downloaded where they are not there yet.

    Args:
        weights: a member of one of torchvision's enumerations of weights.

    Returns:
        None where they can be neither found nor downloaded.
    """
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    if not cached.is_file() and not ONLINE:
        return None
    patience = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE)
    try:
        return weights.get_state_dict(progress=True, check_hash=True, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a network or a disk may do
        LOGGER.warning(f"{cached}: cannot be had ({' '.join(str(error).split())[:200]})")
        return None
    finally:
        socket.setdefaulttimeout(patience)
