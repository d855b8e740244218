"""Weights of torchvision's detectors: files of ours, bare state dicts, and torchvision's own for COCO."""

from __future__ import annotations

import pickle
import socket
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights
from ultralytics.utils import LOGGER, ONLINE

from yolo_distill.errors import RequestError, did_you_mean
from yolo_distill.files import replacing
from yolo_distill.models.tasks import MOST_KEYPOINTS
from yolo_distill.teachers.torchvision_detector import ARCHITECTURES, USUAL_SIDE, known_name, make_detector

#: Channels at the end of a MobileNetV3 that has not been made narrower.
_WHOLE_TAIL = 960
#: Seconds that a server may stay silent.
_PATIENCE = 10.0
#: Has a number for each keypoint. A file that claims too many does not fit the detector that is built, and is refused.
_KEYPOINTS = "roi_heads.keypoint_predictor.kps_score_lowres.bias"
#: Their weights were trained when torchvision's frozen batch norms added nothing to the variance; it says so itself.
_WITHOUT_EPS = tuple(f"{kind}_resnet50_fpn" for kind in ("fasterrcnn", "retinanet", "maskrcnn", "keypointrcnn"))


def save_detector(file: Path, model: nn.Module, name: str, names: Mapping[int, str], imgsz: int, **more: Any) -> None:
    """Save a detector that `make_detector` built, and `more`, tensors and plain Python; whole or not at all."""
    content = {"torchvision": name, "names": dict(names), "imgsz": imgsz, "state": model.state_dict(), **more}
    with replacing(file) as partial:
        torch.save(content, partial)


def load_detector_file(
    file: str | Path,
    name: str | None,
    names: Mapping[int, str] | None,
    imgsz: int,
    content: dict[str, Any] | None = None,
) -> tuple[nn.Module, str, dict[int, str]]:
    """Open a detector's weights, as `save_detector` writes them or as `torch.save(model.state_dict())` does.

    Only weights are read; a file that holds anything that could run code is refused.

    Args:
        file: the weights.
        name: the architecture; None takes what the file says.
        names: class names by column; only for a file that does not say them.
        imgsz: side of the pictures in pixels that it will be asked about.
        content: of the file, where it has been read already; it stays as it is.

    Raises:
        RequestError: no such file, not a file of weights, or weights of another architecture or other classes.
    """
    said = f"teacher_weights={file}"
    found = content or read_weights(Path(file).expanduser(), said)
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
    points = found.get(_KEYPOINTS)
    model = make_detector(
        name,
        len(names),
        imgsz,
        anchors_for=anchors_for,
        whole_tail=whole,
        keypoints=None if points is None or points.numel() > MOST_KEYPOINTS else points.numel(),
    )
    try:
        model.load_state_dict(found)
    except RuntimeError as error:
        raise RequestError(f"{said}: {_misfit(model, found, name, names)}") from error
    return model, name, names


def read_weights(file: Path, said: str) -> dict[str, Any]:
    """Return the dict that a file of torch holds, opened without running anything that is in it.

    Raises:
        RequestError: there is none, it is damaged, or it holds more than weights; `said` is the setting that named it.
    """
    if not file.is_file():
        near = (other.name for other in file.parent.glob("*.pt*"))
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
    """Return weights of torchvision's from torch hub's folder, downloaded if need be; None if they can't be had."""
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
