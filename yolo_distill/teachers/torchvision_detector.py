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
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import detection, mobilenet_v3_large
from torchvision.models.detection import ssdlite
from torchvision.models.detection._utils import retrieve_out_channels
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FasterRCNN
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.keypoint_rcnn import KeypointRCNN
from torchvision.models.detection.mask_rcnn import MaskRCNN
from torchvision.models.detection.retinanet import RetinaNet
from torchvision.models.detection.roi_heads import keypointrcnn_inference, maskrcnn_inference
from torchvision.models.detection.ssd import SSD
from torchvision.ops import batched_nms, clip_boxes_to_image, remove_small_boxes

from yolo_distill.errors import RequestError, did_you_mean
from yolo_distill.teachers.answer import CONF, MOST, SetAnswer, make_set
from yolo_distill.teachers.head import Needs
from yolo_distill.teachers.teacher import Teacher, fastest_order

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
    "maskrcnn_resnet50_fpn_v2",
    "maskrcnn_resnet50_fpn",
    "keypointrcnn_resnet50_fpn",
)
#: Of the maps that a student can be taught.
STRIDES = (8, 16, 32)
#: Proposals a picture that a Faster R-CNN learns from.
SAMPLED = 128
#: Shorter side in pixels of the pictures that torchvision's own anchors are made for.
USUAL_SIDE = 800

# What torchvision says of a keypoint has no upper end; in its own examples one counts from 2 on. That becomes the share
# from which on the runtime counts one, 0.25.
_SEEN = 2.0 + math.log(3)


class TorchvisionTeacher(Teacher):
    """Answers in sets for a batch of pictures.

    Boxes and scores come together; the maps are those of a feature pyramid, at the student's strides. An SSD has none:
    its pictures are resized first. A Mask R-CNN and a Keypoint R-CNN say of each box what their task adds to it, where
    that is needed; of an object it is what they find inside the box of its likeliest class.

    Attributes:
        model: the detector, frozen.
    """

    def __init__(
        self, model: nn.Module, names: dict[int, str], device: torch.device | str = "cpu", needs: Needs | None = None
    ) -> None:
        """Copy `model`, of `make_detector`, whose thresholds stay as they are, and freeze it on `device`.

        `names` are those of its classes without the background.
        """
        self.names, self.needs = dict(names), needs or Needs()
        if isinstance(model, MaskRCNN):
            self.task = "segment"
        elif isinstance(model, KeypointRCNN):
            self.task, self.kpt_shape = "pose", (_keypoints_of(model), 3)
        own: Any = deepcopy(model).to(device)
        self.model: Any = own.to(memory_format=fastest_order(device)).eval().requires_grad_(False)
        self._maps = self._measure_maps(device) if self.needs.maps and not isinstance(model, SSD) else {}
        self.strides = list(self._maps)
        self.widths = {stride: width for stride, (_, width) in self._maps.items()}

    def __call__(self, images: Tensor) -> SetAnswer:
        """Answer for `images`, shape (B, 3, H, W), RGB in 0..1, in single precision."""
        maps: dict[int, Tensor] = {}
        boxes = [images.new_zeros(0, 4)] * len(images)
        scores = [images.new_zeros(0, len(self.names))] * len(images)
        extra: list[Tensor] = []
        with torch.inference_mode(), torch.autocast(images.device.type, enabled=False):
            pictures = self._pictures(images.float())
            features = self._features(pictures)
            for stride, (name, _) in self._maps.items():
                # As many cells as the student's grid has, without those that only padding made.
                rows, columns = (math.ceil(side / stride) for side in images.shape[-2:])
                maps[stride] = features[name][..., :rows, :columns]
            if self.needs.scores or self.needs.boxes:
                found = [{"boxes": b, "scores": s} for b, s in self._found(pictures, features)]
                if self.needs.extra and self.task != "detect":
                    own = [one["boxes"] for one in found], [one["scores"].argmax(-1) + 1 for one in found]
                    extra = list(_inside_boxes(self.model.roi_heads, features, *own, pictures.image_sizes))
                sizes = [tuple(images.shape[-2:])] * len(images)
                found = self.model.transform.postprocess(found, pictures.image_sizes, sizes)
                boxes, scores = [one["boxes"] for one in found], [one["scores"] for one in found]
        # Copied outside of the inference mode, whose tensors no loss could keep for its backward pass.
        return make_set(boxes, scores, len(self.names), {s: m.clone() for s, m in maps.items()}, extra)

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


@contextmanager
def _any_algorithm() -> Iterator[None]:
    """Let torchvision pool by its own kernel on a GPU.

    The host asks for deterministic algorithms, and torchvision then goes a slow way round that kernel, of which only
    the backward pass is not deterministic.
    """
    before, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)


def _read_two_stages(model: Any, pictures: ImageList, features: dict[str, Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield boxes (N, 4) and class probabilities (N, nc) of each picture's proposals, each box as its likeliest class.

    Faster R-CNN corrects a proposal for every class in another way; a box here is one thing with one place.
    """
    heads = model.roi_heads
    proposals, _ = model.rpn(pictures, features)
    with _any_algorithm():
        pooled = heads.box_roi_pool(features, proposals, pictures.image_sizes)
    logits, corrections = heads.box_predictor(heads.box_head(pooled))
    scores = logits.softmax(-1)[:, 1:]
    likeliest = scores.argmax(-1) + 1
    # Of no proposals at all it gives another shape.
    decoded = heads.box_coder.decode(corrections, proposals).reshape(len(logits), logits.shape[-1], 4)
    boxes = decoded[torch.arange(len(decoded), device=decoded.device), likeliest]
    counts = [len(own) for own in proposals]
    for own_boxes, own_scores in zip(boxes.split(counts), scores.split(counts), strict=True):
        sure = own_scores.amax(-1) > heads.score_thresh
        yield own_boxes[sure], own_scores[sure]


def _inside_boxes(
    heads: Any, features: dict[str, Tensor], boxes: list[Tensor], labels: list[Tensor], sizes: list[tuple[int, int]]
) -> Iterator[Tensor]:
    """Yield probabilities of masks (N, S, S), or keypoints (N, K, 3), of each picture's boxes (N, 4) and classes."""
    with _any_algorithm():
        if heads.has_mask():
            logits = heads.mask_predictor(heads.mask_head(heads.mask_roi_pool(features, boxes, sizes)))
            yield from (masks[:, 0] for masks in maskrcnn_inference(logits, labels))
            return
        maps = heads.keypoint_predictor(heads.keypoint_head(heads.keypoint_roi_pool(features, boxes, sizes)))
    for points, scores in zip(*keypointrcnn_inference(maps, boxes), strict=True):
        yield torch.cat([points[..., :2], (scores - _SEEN).sigmoid()[..., None]], -1)


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


def _keypoints_of(model: Any) -> int:
    return int(model.roi_heads.keypoint_predictor.kps_score_lowres.out_channels)


def known_name(name: str) -> str:
    """Return the name of a detector that can be built; raise a RequestError if torchvision has none of that name."""
    if name not in ARCHITECTURES:
        raise RequestError(
            f"teacher=torchvision:{name}: no such detector{did_you_mean(name.lower(), ARCHITECTURES)} (there are "
            f"{', '.join(ARCHITECTURES)})"
        )
    return name


def make_detector(
    name: str,
    classes: int,
    imgsz: int,
    *,
    anchors_for: int | None = None,
    whole_tail: bool = False,
    keypoints: int | None = None,
) -> nn.Module:
    """Build a detector of classes without the background, with random weights, that takes square pictures as they are.

    Where it is not as torchvision builds it by itself: its thresholds let as much through as `as_set` does. Its anchors
    are as large, relative to the picture, as torchvision's are for pictures of 800 px. A Faster R-CNN looks closer at
    300 proposals a picture rather than 1000, and learns from 128 rather than 512: a student's pictures are small, and
    each proposal costs 4 convolutions of its own in `fasterrcnn_resnet50_fpn_v2`.

    Args:
        name: one of `ARCHITECTURES`, or it is refused.
        classes: without the background.
        imgsz: side of the pictures in pixels; the SSDs resize them to 300 or 320 px.
        anchors_for: side of the pictures in pixels that its anchors are made for; `imgsz` when None, `USUAL_SIDE` for
            weights that were trained elsewhere.
        whole_tail: build an SSDlite as torchvision does for a backbone from ImageNet: with last blocks that are twice
            as wide as in one from scratch.
        keypoints: of a Keypoint R-CNN; COCO's 17 when None.
    """
    known_name(name)
    settings = {} if name.startswith("ssd") else {"min_size": imgsz, "max_size": imgsz}
    if "rcnn" in name:
        settings |= {"rpn_post_nms_top_n_test": MOST, "box_batch_size_per_image": SAMPLED}
    if keypoints and name.startswith("keypointrcnn"):
        settings["num_keypoints"] = keypoints
    build = _build_whole_ssdlite if whole_tail and name.startswith("ssdlite") else getattr(detection, name)
    model: Any = build(weights=None, weights_backbone=None, num_classes=classes + 1, **settings)
    head, anchored = (model.roi_heads, model.rpn) if isinstance(model, FasterRCNN) else (model, model)
    head.score_thresh, head.detections_per_img = CONF, MOST
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
