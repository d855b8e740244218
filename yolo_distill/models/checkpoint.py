"""Opening an Ultralytics checkpoint (`.pt`) as a detector, and telling of what kind and task a model is.

A checkpoint is a pickle, and a pickle is a program. The host can load one with an allow-list of its own classes
(`torch_safe_load(..., safe_only=True)`); that is what happens here unless the caller says that the file is trusted.
"""

from __future__ import annotations

import contextlib
import re
import reprlib
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from ultralytics.cfg import check_cfg
from ultralytics.nn.modules import Conv
from ultralytics.nn.tasks import DetectionModel, RTDETRDetectionModel, torch_safe_load
from ultralytics.utils import DEFAULT_CFG_DICT, SETTINGS, checks
from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES, attempt_download_asset

from yolo_distill.errors import RequestError, did_you_mean, one_line
from yolo_distill.files import is_address
from yolo_distill.models.architecture_files import is_architecture, read_plan
from yolo_distill.models.architectures import (
    KINDS,
    Kind,
    require_affordable,
    require_detector,
    require_layers,
    require_plan,
    require_runs,
)
from yolo_distill.models.imgsz import LARGEST_SIDE
from yolo_distill.models.tasks import TASKS, task_of

#: Roles of models that learn, or that others start from.
_WHOLE = {"student", "assistant", "pretrained", "teacher"}
_LARGEST_STRIDE = 256


def kind_of(model: str | Path | DetectionModel) -> Kind:
    """Return what kind of detector a teacher is: one that is loaded, or an architecture, whose plan says it.

    Raises:
        RequestError: an architecture of another kind, or none.
    """
    if isinstance(model, (str, Path)):
        built = require_plan(read_plan(model, "teacher"), KINDS, f"teacher={model}")
        return "rtdetr" if built is RTDETRDetectionModel else "yolo"
    return "rtdetr" if isinstance(model, RTDETRDetectionModel) else "yolo"


def task_of_file(path: str | Path, *, trust: bool = False, role: str = "model") -> str:
    """Return the task of a YOLO in a checkpoint or an architecture; `detect` for an RT-DETR.

    Raises:
        RequestError: it is neither.
    """
    if is_architecture(path):
        built = require_plan(read_plan(path, role), KINDS, f"{role}={path}")
        return next((name for name, task in TASKS.items() if task.model is built), "detect")
    return str(load_detector(path, trust=trust, role=role, kinds=KINDS).task)


def load_detector(
    path: str | Path,
    *,
    trust: bool = False,
    role: str = "model",
    kinds: Sequence[Kind] = ("yolo",),
) -> DetectionModel:
    """Open an Ultralytics checkpoint as a detector on the CPU.

    Args:
        path: a `.pt` file. A bare official name that is in neither the working folder nor the host's weights folder
            is downloaded by the host; a path with a folder in it never is.
        trust: load without the allow-list, which runs whatever code the file brings along.
        role: the setting that named the file, for the messages.
        kinds: of detectors that are welcome.

    Returns:
        the EMA weights where the file has them, else the model: float32, eval mode, with `names`, `args`, `task` and
        `train_args`: those arguments of its training that the file has, ours among them.

    Relies on: the host strips what it does not know from a finished run's `train_args`, but not from its model's
    `args`.

    Raises:
        RequestError: there is no such file, it is not a whole checkpoint, it holds objects that the allow-list
            refuses, or the model in it is no detector of these kinds.
    """
    said = f"{role}={path}"
    file = find_checkpoint(path, said)
    _check_whole(file, said)
    checkpoint = _unpickle(file, trust, said)
    held = checkpoint.get("ema") or checkpoint.get("model")
    if not trust and isinstance(held, torch.nn.Module):
        for layer in held.modules():
            if hasattr(layer, "yaml"):  # the host builds the model anew from it
                plan: Any = layer.yaml
                require_layers(plan, said)
                with _tried_without_memory(said, "its architecture cannot be built"):
                    require_affordable(plan, said)
    model: Any = _student(held)
    if not isinstance(model, torch.nn.Module) or not hasattr(model, "model"):
        keys = ", ".join(map(str, list(checkpoint)[:6])) or "none"
        raise RequestError(f"{said}: holds no Ultralytics model (its keys: {keys}); save one with YOLO(...).save()")
    if checkpoint.get("modelopt"):
        raise RequestError(f"{said}: is a quantization-aware checkpoint, which is not supported; use the float one")
    require_detector(model, kinds, said)
    with _tried_without_memory(said, "its layers do not run on a picture"):
        require_runs(model, said)
    if role in _WHOLE and not isinstance(model, RTDETRDetectionModel) and _is_fused(model):
        raise RequestError(f"{said}: was fused, and has lost what is trained; give the checkpoint it came from")
    model = model.float().eval()
    # The host's own loader attaches the same things; the rest of it reads them.
    own, args = _settings(getattr(model, "args", None), said), _settings(checkpoint.get("train_args"), said)
    model.train_args = {**own, **args}
    model.args = {**DEFAULT_CFG_DICT, **args}
    if role == "resume":
        with _tried_without_memory(said, "the settings in it are none of a training"):
            check_cfg({key: model.args[key] for key in DEFAULT_CFG_DICT})
    model.pt_path = str(file)
    model.task = task_of(model)
    model.names = _names(model, said)
    _require_sizes(model, said)
    return model


def load_ultralytics(path: str | Path, *, trust: bool = False, role: str = "teacher") -> DetectionModel:
    """Open an Ultralytics checkpoint of either kind, which `kind_of` then tells; see `load_detector`."""
    return load_detector(path, trust=trust, role=role, kinds=KINDS)


@contextlib.contextmanager
def no_auto_install() -> Iterator[None]:
    """Keep the host from calling pip on its own, also when it was imported before the environment could say so."""
    before = checks.AUTOINSTALL
    checks.AUTOINSTALL = False
    try:
        yield
    finally:
        checks.AUTOINSTALL = before


def find_checkpoint(path: str | Path, said: str) -> Path:
    """Return the file on disk, after a download when `path` is a bare official name."""
    text = str(path).strip()
    if text.startswith("torchvision:"):
        raise RequestError(f"{said}: torchvision's detectors teach and label; train and compare say how good one is")
    if is_address(text):
        raise RequestError(f"{said}: is an address; download the file and name where it is")
    file = Path(text).expanduser()
    if file.is_dir():
        raise RequestError(f"{said}: is a folder, not a checkpoint")
    if not file.suffix and (file.with_suffix(".pt").is_file() or f"{text}.pt" in GITHUB_ASSETS_NAMES):
        raise RequestError(f"{said}: did you mean '{text}.pt'?")
    if file.suffix.lower() != ".pt":
        what = "exported, and no longer trainable" if file.suffix.lower() == ".onnx" else "not a checkpoint"
        other = ", torchvision's weights are given as torchvision:NAME:FILE" if file.suffix.lower() == ".pth" else ""
        raise RequestError(f"{said}: is {what}; an Ultralytics checkpoint ends in .pt{other}")
    if file.is_file():
        if "'" in str(file.absolute()):
            raise RequestError(f"{said}: Ultralytics opens no checkpoint with ' in its path; rename file or folder")
        return file.absolute()
    if file.name != text:
        near = [f.name for f in file.parent.glob("*.pt")] if file.parent.is_dir() else []
        raise RequestError(f"{said}: no such file{did_you_mean(file.name, near)}")
    kept = Path(SETTINGS["weights_dir"]) / file
    if kept.is_file():
        return kept.absolute()
    if text not in GITHUB_ASSETS_NAMES:
        near = [*GITHUB_ASSETS_NAMES, *(f.name for f in Path().glob("*.pt"))]
        raise RequestError(f"{said}: no such file, and no official model of that name{did_you_mean(text, near)}")
    try:
        got = Path(attempt_download_asset(text))
    except Exception as error:
        raise _no_download(said, text, error) from error
    if not got.is_file():
        raise _no_download(said, text, None)
    return got.absolute()


def _no_download(said: str, name: str, error: Exception | None) -> RequestError:
    why = f" ({one_line(error)})" if error else ""
    where = f"{Path.cwd()} or {Path(SETTINGS['weights_dir']).absolute()}"
    role, plain = said.partition("=")[0], Path(name).with_suffix(".yaml")
    other = "" if role == "model" else f"; give {role}={plain}, which needs no download, or"
    return RequestError(
        f"{said}: not on this machine, and it cannot be downloaded{why}{other or ';'} put {name} into {where}"
    )


def _check_whole(file: Path, said: str) -> None:
    """Tell an empty, cut-off or foreign file from a checkpoint before anything reads it as one."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            start = stream.read(4)
    except OSError as error:
        raise RequestError(f"{said}: cannot be read ({error.strerror})") from error
    if size == 0:
        raise RequestError(f"{said}: is empty (0 bytes); copy or download it again")
    if zipfile.is_zipfile(file):
        try:
            with zipfile.ZipFile(file) as content:
                unfolded, damaged = sum(one.file_size for one in content.infolist()), None
                # torch.serialization.set_crc32_options(False) leaves every checksum 0
                if unfolded <= size and any(one.CRC for one in content.infolist()):
                    damaged = content.testzip()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
            raise RequestError(f"{said}: is damaged ({one_line(error)}); copy or download it again") from error
        if unfolded > size:
            raise RequestError(f"{said}: is packed, as torch packs none, and would unfold to more than its size")
        if damaged:
            raise RequestError(f"{said}: is damaged ({damaged} is not what was written); copy or download it again")
        return
    if start == b"PK\x03\x04":
        # The directory of a zip file is at its end.
        raise RequestError(f"{said}: is cut off in the middle ({size} bytes are there); copy or download it again")
    raise RequestError(f"{said}: is not a PyTorch checkpoint (it starts with {start!r})")


def _unpickle(file: Path, trust: bool, said: str) -> dict[str, Any]:
    """Return the checkpoint's dict."""
    if not trust and not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint"):
        # The host falls back to an unrestricted load there, and says nothing.
        raise RequestError(f"{said}: the restricted loader needs torch 2.6 or newer; this is torch {torch.__version__}")
    try:
        with no_auto_install():
            checkpoint, _ = torch_safe_load(file, safe_only=not trust)
    except Exception as error:
        causes = list(_chain(error))
        if not trust and (refused := _refused(causes)):
            raise RequestError(
                f"{said}: holds objects that the restricted loader refuses ({refused}); they can run code of "
                "their own, so load the file with trust=true only if you know where it comes from"
            ) from error
        raise RequestError(
            f"{said}: cannot be read as an Ultralytics checkpoint ({one_line(causes[-1])}); if it is damaged, copy or "
            "download it again"
        ) from error
    if not isinstance(checkpoint, dict):
        raise RequestError(f"{said}: is not an Ultralytics checkpoint (it holds a {type(checkpoint).__name__})")
    return checkpoint


def _is_fused(model: Any) -> bool:
    """Return whether the host folded batch norms, or took a branch of the head off, which it does for predictions."""
    folded = any(isinstance(layer, Conv) and not hasattr(layer, "bn") for layer in model.modules())
    return folded or getattr(model.model[-1], "cv2", True) is None


def _student(model: Any) -> Any:
    """Return the student of a checkpoint that the host's own distillation saved together with its teacher."""
    student = getattr(model, "student_model", model)
    if student is not model:
        for layer in student.modules():
            layer._forward_hooks.clear()  # they only feed the host's distillation loss
    return student


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and what caused it, outermost first."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


def _refused(causes: list[BaseException]) -> str:
    for cause in causes:
        if found := re.search(r"GLOBAL (\S+) was not an allowed global", str(cause)):
            return found[1]
    return ""


def _settings(values: Any, said: str) -> dict[str, Any]:
    """Return settings of a training that a checkpoint holds.

    Raises:
        RequestError: it holds something else in their place.
    """
    found = values or {}
    found = found if isinstance(found, dict) else getattr(found, "__dict__", found)
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise RequestError(f"{said}: its training settings are {reprlib.repr(found)}, not values by name")
    return found


def _names(model: Any, said: str) -> dict[int, str]:
    names = getattr(model, "names", None)
    count = model.model[-1].nc
    if not names:
        names = [str(i) for i in range(count)]
    pairs = dict(enumerate(names)) if isinstance(names, (list, tuple)) else names
    try:
        found = {int(index): str(name) for index, name in pairs.items()}
    except (AttributeError, TypeError, ValueError):
        found = {}
    if sorted(found) != list(range(count)):
        raise RequestError(
            f"{said}: its head tells {count} classes apart, and its names are {reprlib.repr(names)}; give "
            "model.names one name a class, by number, and save it again"
        )
    return found


@contextlib.contextmanager
def _tried_without_memory(said: str, what: str) -> Iterator[None]:
    """Refuse a checkpoint in one line where the host's code in the block fails, of whatever class its errors are."""
    try:
        yield
    except NotImplementedError:
        pass  # a layer of the user's own that can't be asked without its numbers
    except RequestError:
        raise
    except Exception as error:
        raise RequestError(f"{said}: {what} ({one_line(error)}); save the checkpoint again") from error


def _require_sizes(model: Any, said: str) -> None:
    """Refuse strides and a size of pictures that no detector has."""
    for stride in (model.stride, getattr(model.model[-1], "stride", model.stride)):
        if not isinstance(stride, Tensor) or not ((stride >= 1) & (stride <= _LARGEST_STRIDE)).all():
            raise RequestError(
                f"{said}: its stride is {reprlib.repr(stride)}; expected numbers of 1 to {_LARGEST_STRIDE}"
            )
    size = model.args.get("imgsz", 32)
    sides = size if isinstance(size, (list, tuple)) else [size]
    if len(sides) not in {1, 2} or not all(isinstance(one, int) and 0 < one <= LARGEST_SIDE for one in sides):
        raise RequestError(
            f"{said}: says that it was trained at imgsz={reprlib.repr(size)}; expected pixels of 1 to {LARGEST_SIDE}"
        )
