"""The host's evaluator as it is run here: quietly, with errors that say what to do, its numbers as plain Python."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from ultralytics import __version__ as host_version
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils import LOGGER

from yolo_distill.errors import DistillError, RequestError, one_line
from yolo_distill.files import cannot_write, move_into_place
from yolo_distill.models.checkpoint import no_auto_install
from yolo_distill.models.tasks import TASKS
from yolo_distill.runtime.metadata import shown as shown_name
from yolo_distill.temporary import temporary_folder
from yolo_distill.version import __version__

#: Names of a model that was trained with `single_cls`, as the host calls the one class, whatever the data's are.
AS_ONE = {0: "item"}


def trained_as_one(model: DetectionModel) -> bool:
    """Return whether a model of the host was trained with `single_cls`: all labels are then measured as one class."""
    args: Any = getattr(model, "args", {})  # a model that was only built has none
    args = args if isinstance(args, Mapping) else vars(args)
    return dict(model.names) == AS_ONE and bool(args.get("single_cls"))


@contextlib.contextmanager
def warnings_only(*, single_cls: bool = False) -> Iterator[None]:
    """Keep the host's tables and hints out of ours; its warnings, such as a damaged picture, still come through.

    Its progress bar goes with the level of its log, so on a terminal the records are dropped one by one instead.

    With `single_cls` the host warns that it skips labels of all classes but one, and then skips none: all are that one.
    """
    before, handlers = LOGGER.level, [*LOGGER.handlers]
    watched = sys.stdout.isatty()

    def is_warning(record: logging.LogRecord) -> bool:
        untrue = single_cls and "Skipping labels of classes" in record.getMessage()
        return record.levelno >= logging.WARNING and not untrue

    if not watched:
        LOGGER.setLevel(max(before, logging.WARNING))
    for handler in handlers:
        handler.addFilter(is_warning)
    try:
        yield
    finally:
        LOGGER.setLevel(before)
        for handler in handlers:
            handler.removeFilter(is_warning)


def say_figures(validator: Any) -> None:
    """Print what a validator of the host found while training, in place of the host's line, which does not say what.

    Points of 100 for its shares of 1. Of a head with two branches it is the one that the model in training runs with.

    Relies on: `metrics`, `seen` and `end2end` of the validator.
    """
    metrics = validator.metrics
    points = "".join(f"{100 * share:11.1f}" for share in metrics.mean_results())
    name = "one-to-one, 0 to 100" if validator.end2end else "0 to 100"
    LOGGER.info(f"{name:>22}{validator.seen:11}{metrics.nt_per_class.sum():11}{points}")


def check_names(names: Mapping[int, str], wanted: Mapping[int, str], shown: str, data: str | Path) -> None:
    """Refuse to measure class 0 of one list against class 0 of another.

    Raises:
        RequestError: the lists differ, and the model's is not just numbers.
    """
    if len(names) != len(wanted):
        raise RequestError(
            f"{shown} has {len(names)} classes ({_some(names.values())}), "
            f"{data} has {len(wanted)} ({_some(wanted.values())}); "
            "measure a model on the classes that it was trained on"
        )
    placeholder = all(name in {str(index), f"class{index}", f"class_{index}"} for index, name in names.items())
    differ = [
        f"{index} is {names.get(index)!r} there and {name!r} here"
        for index, name in wanted.items()
        if names.get(index) not in {name, shown_name(name)}  # the latter is what an exported file says
    ]
    if differ and not placeholder:
        raise RequestError(f"the classes of {shown} and {data} differ: {_some(differ)}; they are compared by number")


def _some(words: Any) -> str:
    words = list(words)
    return ", ".join(words[:4]) + (f", and {len(words) - 4} more" if len(words) > 4 else "")


def measure(
    source: str | torch.nn.Module,
    data: str | Path,
    names: Mapping[int, str],
    settings: Mapping[str, Any],
    plots: str | Path | None = None,
    validator: type[Any] | None = None,
) -> dict[str, Any]:
    """Run the host's evaluator, and return its numbers with what they were measured on; see `evaluate`.

    Args:
        source: a file, a model of the host, or a module that answers as one.
        data: as the user named it.
        names: of the classes that are measured.
        settings: of the host; `model` is what it is called, `data` the file, `task` the model's.
        plots: folder for the host's curves and sample pictures.
        validator: in place of the task's.

    Raises:
        RequestError: about the settings or the data.
        DistillError: the evaluator failed.
    """
    fixed = {"mode": "val", "plots": plots is not None, "save_json": False}
    if names == AS_ONE:  # the host has it from the checkpoint
        fixed["single_cls"] = True
    quietly = warnings_only(single_cls=bool({**settings, **fixed}.get("single_cls")))
    with no_auto_install(), quietly, _drawn_whole(plots) as folder:
        done = _run(validator or TASKS[settings["task"]].validator, source, {**settings, **fixed}, folder, data)
    if done.device.type == "cuda":
        torch.cuda.empty_cache()  # for the workers of several devices, which take what is free
    return {
        **_figures(done, names),
        "task": settings["task"],
        "model": settings["model"],
        "data": str(data),
        "split": settings["split"],
        "imgsz": settings["imgsz"],
        "nms": settings.get("nms"),
        "rect": settings["rect"],
        "device": str(done.device),
        "versions": {"yolo_distill": __version__, "ultralytics": host_version, "torch": torch.__version__},
    }


@contextlib.contextmanager
def _drawn_whole(plots: str | Path | None) -> Iterator[Path]:
    """Give a folder to draw into, and move what is drawn to where it was asked for once all of it is there.

    Relies on: the host draws pictures of samples in threads whose function is called `plot_images`, and waits for none;
    of another picture that the disk does not take it makes a warning.

    Raises:
        RequestError: the folder cannot be made.
        DistillError: the disk cannot be written.
    """
    if plots is None:
        try:
            with temporary_folder() as folder:
                yield folder
        except OSError as error:
            raise cannot_write(Path(tempfile.gettempdir()), error) from error
        return
    wanted = Path(plots)
    try:
        wanted.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"plots={plots}: cannot be written to ({error.strerror})") from error
    failed: list[BaseException | None] = []
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def note(record: logging.LogRecord) -> bool:
        if str(full.strerror) in record.getMessage():
            failed.append(full)
        return True

    LOGGER.addFilter(note)
    usual, threading.excepthook = threading.excepthook, lambda thread: failed.append(thread.exc_value)
    try:
        with temporary_folder(wanted, ".drawing-") as folder:
            yield folder
            for thread in threading.enumerate():
                if "plot_images" in thread.name:
                    thread.join()
            for why in failed:
                if isinstance(why, OSError):
                    raise cannot_write(wanted / "*.png", why) from why
                LOGGER.warning(f"plots={plots}: a picture could not be drawn: {type(why).__name__}: {why}")
            for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"):
                place = wanted / file.relative_to(folder)
                place.parent.mkdir(exist_ok=True)
                move_into_place(file, place)
    except OSError as error:
        raise cannot_write(wanted, error) from error
    finally:
        threading.excepthook = usual
        LOGGER.removeFilter(note)


def _run(
    kind: type[Any], source: str | torch.nn.Module, settings: dict[str, Any], folder: Path, data: str | Path
) -> Any:
    """Run the host's evaluator, which writes into a folder, and return it."""
    try:
        validator = kind(save_dir=folder, args=settings)
        validator(model=source)
    except DistillError:
        raise
    except (ValueError, SyntaxError) as error:
        # What the host raises about a setting: an unknown one, a wrong value, a device that is not there.
        raise RequestError(f"the host refuses these settings: {one_line(error)}") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise DistillError(f"validation on {data} failed: {type(error).__name__}: {one_line(error)}") from error
    if not int(validator.metrics.nt_per_class.sum()):
        raise RequestError(f"data={data}: the split {settings['split']} has no boxes; nothing can be measured on it")
    return validator


def _figures(validator: Any, names: Mapping[int, str]) -> dict[str, Any]:
    """Return the numbers of a finished run as plain Python; see `evaluate`.

    Relies on: of a task with two kinds of figures, the host gives the four of boxes first, and then the task's own.
    """
    metrics = validator.metrics
    row_of = {int(index): row for row, index in enumerate(metrics.ap_class_index)}
    keys = ("precision", "recall", "map50", "map")
    classes = []
    for index, name in sorted(names.items()):
        values = map(float, metrics.class_result(row_of[index])[-4:]) if index in row_of else (None,) * len(keys)
        counts = {"pictures": int(metrics.nt_per_image[index]), "boxes": int(metrics.nt_per_class[index])}
        classes.append({"name": name, **counts, **dict(zip(keys, values, strict=True))})
    means = [float(value) for value in metrics.mean_results()]
    return {
        **dict(zip(keys, means[-4:], strict=True)),
        **({"of_boxes": dict(zip(keys, means[:4], strict=True))} if len(means) > len(keys) else {}),
        "pictures": int(validator.seen),
        "boxes": int(metrics.nt_per_class.sum()),
        "classes": classes,
        "ms": {key: round(float(validator.speed[key]), 3) for key in ("preprocess", "inference", "postprocess")},
    }
