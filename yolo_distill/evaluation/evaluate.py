"""How good a detector is, by the host's evaluator for `.pt` and `.onnx` alike, and what one picture costs."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.torch_utils import get_flops

from yolo_distill.data.dataset import check_data
from yolo_distill.data.label_tasks import require_labels_of
from yolo_distill.errors import RequestError, did_you_mean
from yolo_distill.evaluation.validator import AS_ONE, check_names, measure, trained_as_one
from yolo_distill.graphs.input_form import take_floats
from yolo_distill.models.checkpoint import load_detector
from yolo_distill.models.imgsz import channels_of, longest_side, require_channels, require_side, trained_imgsz
from yolo_distill.models.tasks import TASKS, task_of
from yolo_distill.runtime.metadata import read_metadata
from yolo_distill.runtime.session import open_session
from yolo_distill.session_options import host_sessions
from yolo_distill.tables import NO_VALUE, Table
from yolo_distill.temporary import temporary_folder
from yolo_distill.timing import in_turns

#: Of what `evaluate` returns, the shares of 1.
SHARES = frozenset({"map", "map50", "precision", "recall"})


def evaluate(
    model: str | Path | DetectionModel,
    data: str | Path,
    *,
    split: str = "val",
    imgsz: int | None = None,
    batch: int = 16,
    device: str | int | None = None,
    conf: float | None = None,
    iou: float = 0.7,
    nms: bool | None = None,
    rect: bool = False,
    trust: bool = False,
    plots: str | Path | None = None,
    **host_settings: Any,
) -> dict[str, Any]:
    """Measure a detector on one split with the host's evaluator.

    A checkpoint and the ONNX file made from it get the same pictures: every picture is letterboxed to the same
    square. The host would do so for a static file only, and give a checkpoint rectangular batches (`rect=True`, what
    it validates with while training), whose padding differs and with it every box a little: enough to move mAP50 of a
    small set by a point. Ask for `rect=True` to get the number that training printed.

    Args:
        model: a `.pt` or `.onnx` file, or a model that is loaded already; the latter is not changed.
        data: data set file, see `check_data`.
        split: `train`, `val`, `test` or `minival`.
        imgsz: side of the square in pixels; by default what the model was trained at, or what the file was made for.
        batch: pictures at a time; a static file is always run at its own.
        device: as the host has it (`cpu`, `0`, ...).
        conf: detections below are not looked at; the host's 0.001 when not given.
        iou: overlap above which NMS drops a box.
        nms: False takes the one-to-one branch of an end-to-end model, None and True the one-to-many branch and NMS. A
            file has one branch only, which has to be the one asked for.
        rect: rectangular batches for a checkpoint; see above.
        trust: load a checkpoint without the allow-list.
        plots: folder for the host's curves and sample pictures; none are drawn without it.
        **host_settings: further validation settings of the host.

    Returns:
        `map` (mAP50-95), `map50`, `precision`, `recall` (all 0 to 1; of masks, keypoints or turned boxes where that is
        the `task`), `of_boxes` (the same four; of masks and keypoints only), `pictures`, `boxes`, `classes` (one dict
        a class of the model: `name`, `pictures`, `boxes` and the four, None for a class that the split lacks),
        `ms` per picture (`preprocess`, `inference`, `postprocess`), and what was measured: `model`, `data`, `split`,
        `imgsz`, `nms`, `rect`, `device`, `versions`.

    Raises:
        RequestError: something about the model, the data or a setting has to change first.
        DistillError: the host's evaluator failed.
    """
    found = check_data(data, split)
    opened: contextlib.AbstractContextManager[str | DetectionModel]
    if isinstance(model, (str, Path)) and Path(model).suffix.lower() == ".onnx":
        shown = str(model)
        names, size, task, points, channels = _check_onnx(shown, imgsz, nms)
        as_one = names == AS_ONE  # the file does not say how it was trained
        opened, rect = _in_floats(Path(shown).expanduser()), False
    else:
        loaded = load_detector(model, trust=trust) if isinstance(model, (str, Path)) else model
        shown = str(model) if isinstance(model, (str, Path)) else str(getattr(loaded, "pt_path", "model"))
        size = longest_side(imgsz if imgsz is not None else trained_imgsz(loaded) or 640)
        require_side(size, loaded, shown)
        names, task, points = dict(loaded.names), task_of(loaded), getattr(loaded.model[-1], "kpt_shape", None)
        channels, as_one = channels_of(loaded), trained_as_one(loaded)
        # The host folds layers and drops the branch that it does not use.
        opened = contextlib.nullcontext(copy.deepcopy(loaded))
        if nms is False and getattr(loaded.model[-1], "one2one_cv2", None) is None:
            raise RequestError(f"nms=false: {shown} has no one-to-one branch; leave nms= out")
    if host_settings.get("single_cls"):
        names = dict(AS_ONE)
    elif not as_one:
        check_names(names, found["names"], shown, data)
    require_labels_of(task, found, split, f"data={data}", points)
    require_channels(channels, found, shown)
    # The host takes one side; a file of two is noted with both, and the host reads these from it.
    side = size if isinstance(size, int) else max(size)
    own = {"imgsz": side, "batch": batch, "device": device, "conf": conf, "iou": iou, "nms": nms, "rect": rect}
    where = {"task": task, "model": shown, "data": str(found["yaml_file"]), "split": split}
    with opened as source:
        return {**measure(source, data, names, {**host_settings, **where, **own}, plots=plots), "imgsz": size}


def cost(model: str | Path | DetectionModel, imgsz: int | Sequence[int]) -> dict[str, Any]:
    """Return what one picture costs on this CPU.

    The model is counted and timed as it is deployed with NMS outside: conv and batch norm folded and, for an
    end-to-end model, without its one-to-one branch. It is run at batch 1, on as many threads as torch has.

    Args:
        model: a `.pt` file or a model that is loaded already; the latter is not changed.
        imgsz: side of the square, or height and width, in pixels.

    Returns:
        `parameters`, `gflops` (multiply and add count as two), `file_bytes` (None for a model without a file), `ms`
        (the least of the repetitions), `imgsz` (height and width), `threads`.
    """
    loaded = load_detector(model) if isinstance(model, (str, Path)) else model
    file = Path(str(getattr(loaded, "pt_path", None) or ""))
    height, width = (imgsz, imgsz) if isinstance(imgsz, int) else (int(imgsz[0]), int(imgsz[-1]))
    folded: Any = copy.deepcopy(loaded).cpu().float().eval()
    folded.end2end = False
    folded = folded.fuse(verbose=False)
    picture = torch.zeros(1, channels_of(folded), height, width)
    with torch.inference_mode():
        least = in_turns({"ms": lambda: folded(picture)}, most=30)
    return {
        "parameters": sum(parameter.numel() for parameter in folded.parameters()),
        "gflops": round(float(get_flops(folded, [height, width])), 3),
        "file_bytes": file.stat().st_size if file.is_file() else None,
        **least,
        "imgsz": [height, width],
        "threads": torch.get_num_threads(),
    }


def side_by_side(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return models under each other as a plain table.

    Args:
        rows: name of the model to its figures, as `evaluate` (`map`, `map50`, in points) and `cost` (`parameters`,
            `gflops`, `file_bytes`, `ms`) return them; what is missing or None shows as a dash.
    """
    columns = {
        "mAP50-95": ("map", 1.0, ".1f"),
        "mAP50": ("map50", 1.0, ".1f"),
        "parameters": ("parameters", 1, ",d"),
        "GFLOPs": ("gflops", 1.0, ".2f"),
        "file MB": ("file_bytes", 1e-6, ".1f"),
        "ms/image (CPU)": ("ms", 1.0, ".1f"),
    }
    lines = []
    for name, figures in rows.items():
        cells = [(figures.get(key), scale, form) for key, scale, form in columns.values()]
        shown = (NO_VALUE if value is None else format(value * scale, form) for value, scale, form in cells)
        lines.append([name, *shown])
    return Table("", ["", *columns], lines).text().removeprefix("\n")


def in_points(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `evaluate` measured, or a part of it, with its shares of 1 as points of 100, as files hold them."""
    found = {**figures}
    for key in SHARES & found.keys():
        found[key] = None if found[key] is None else round(100 * found[key], 3)
    if "classes" in found:
        found["classes"] = [in_points(row) for row in found["classes"]]
    if "of_boxes" in found:
        found["of_boxes"] = in_points(found["of_boxes"])
    return found


def class_table(figures: Mapping[str, Any]) -> str:
    """Return what `evaluate` measured, in points, as a plain table: one line a class under a line for all of them.

    Behind these stand the boxes around masks or keypoints, which have figures of their own.
    """
    keys = ("precision", "recall", "map50", "map")
    lines = []
    for row in ({"name": "all", **figures}, *figures["classes"]):
        shown = [NO_VALUE if row[key] is None else f"{row[key]:.1f}" for key in keys]
        lines.append([row["name"], str(row["pictures"]), str(row["boxes"]), *shown])
    if boxes := figures.get("of_boxes"):
        shown = [f"{boxes[key]:.1f}" for key in keys]
        lines.append(["boxes around", str(figures["pictures"]), str(figures["boxes"]), *shown])
    header = ["class", "pictures", "boxes", "P", "R", "mAP50", "mAP50-95"]
    about = "" if figures["task"] == "detect" else f"Figures are of {TASKS[figures['task']].finds}.\n"
    return about + Table("", header, lines).text().removeprefix("\n")


def _check_onnx(
    path: str, imgsz: int | None, nms: bool | None
) -> tuple[dict[int, str], Any, str, tuple[int, int] | None, int]:
    """Return what its metadata says: names, input size (the side of a square, or height and width), task, `kpt_shape`
    and channels.
    """
    said = f"model={path}"
    file = Path(path).expanduser()
    if not file.is_file():
        near = [found.name for found in file.parent.glob("*.onnx")] if file.parent.is_dir() else []
        raise RequestError(f"{said}: no such file{did_you_mean(file.name, near)}")
    session = open_session(file, "cpu", None)
    notes = read_metadata(session.get_modelmeta().custom_metadata_map, said)
    height, width = notes.imgsz
    static = all(isinstance(side, int) for side in session.get_inputs()[0].shape)
    if imgsz is not None and static and [imgsz, imgsz] != [height, width]:
        raise RequestError(f"imgsz={imgsz}: {path} was made for {height}x{width}; leave imgsz= out, or export again")
    one_to_one = notes.everything.get("end2end") is True
    if nms is not None and (nms is False) != one_to_one:
        holds = "its one-to-one branch (nms=false)" if one_to_one else "its one-to-many branch (nms=none)"
        raise RequestError(f"nms={str(nms).lower()}: {path} was exported with {holds}; leave nms= out, or export again")
    size: Any = imgsz if imgsz and not static else height if height == width else [height, width]
    return notes.names, size, notes.task, notes.kpt_shape, notes.everything.get("channels") or 3


@contextlib.contextmanager
def _in_floats(file: Path) -> Iterator[str]:
    """Yield a file, or for one that takes pictures as they are a copy that takes the floats of the evaluator."""
    graph = onnx.load(str(file))
    with host_sessions(), temporary_folder() as folder:
        if graph.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8:
            take_floats(graph)
            file = folder / file.name
            onnx.save(graph, str(file))
        yield str(file)
