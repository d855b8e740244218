"""Two looks at a teacher before it teaches: does it know its training pictures by heart, and is it worth listening to?

A detector that was trained on a few pictures answers about them what their labels say, and surer than it is about
anything new. A student that is taught on these same pictures then learns little that the labels do not say already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ultralytics.data.utils import img2label_paths
from ultralytics.utils import LOGGER, colorstr

from yolo_distill.data.dataset import pictures_of
from yolo_distill.errors import RequestError
from yolo_distill.evaluation.evaluate import evaluate
from yolo_distill.files import link
from yolo_distill.temporary import temporary_folder

PREFIX = colorstr("teacher: ")
#: Pictures of each split that are looked at: enough to see a gap of this size, and half a minute for a small teacher.
PICTURES = 128
#: mAP50-95 on train above that on val, from where on a teacher is said to know its pictures by heart.
BY_HEART = 0.15
#: mAP50-95 on val below which a teacher has nothing to teach.
NOTHING = 0.01


def look(measure: Callable[[Path, str], float], data: Mapping[str, Any]) -> dict[str, float]:
    """Return mAP50-95, 0..1, of a teacher on up to `PICTURES` pictures of `train` and of `val`.

    `measure` returns it of a split of a data set file.

    Raises:
        RequestError: the teacher knows other classes.
    """
    with few_pictures(data, PICTURES) as file:
        try:
            return {split: measure(file, split) for split in ("train", "val")}
        except RequestError as error:
            raise RequestError(str(error).replace(str(file), "the data")) from None


def look_at_teacher(
    measure: Callable[[Path, str], float], data: Mapping[str, Any], *, teaches: bool = True
) -> float | None:
    """Measure a teacher as `look` does, and warn where it is far better on train.

    That is no matter where it is not asked (`teaches`), as a student only starts inside it.

    Returns:
        mAP50-95 on the pictures of val, 0..1; None for a teacher of other classes, which can't be measured here.
    """
    LOGGER.info(f"{PREFIX}measuring it on up to {PICTURES} pictures of train and of val each")
    try:
        found = look(measure, data)
    except RequestError as error:  # other classes, say; who teaches what is checked elsewhere
        LOGGER.info(f"{PREFIX}not measured before the run: {error}")
        return None
    LOGGER.info(f"{PREFIX}mAP50-95 {100 * found['train']:.1f} on train, {100 * found['val']:.1f} on val")
    if found["val"] < NOTHING:
        LOGGER.warning(
            f"{PREFIX}finds next to nothing on val, and a student can learn no more from it; train it longer "
            "(teacher_epochs=), or look at imgsz= and at the classes' names"
        )
    if found["train"] - found["val"] > BY_HEART and teaches:
        LOGGER.warning(
            f"{PREFIX}far better on train than on val: it knows its training pictures by heart, and its answers there "
            "say little more than the labels; unlabeled= has it teach pictures that it has not seen"
        )
    return found["val"]


def require_better(
    teacher_map: float,
    student: Any,
    data: Mapping[str, Any],
    *,
    by_boxes: bool = False,
    force: bool = False,
    **where: Any,
) -> None:
    """Refuse a teacher that is worse than the student already is.

    With `by_boxes` its figure is of boxes, and the student finds masks or keypoints.

    Raises:
        RequestError: the student is better on the same pictures of val, and not `force`.
    """
    with few_pictures(data, PICTURES) as file:
        try:
            figures = evaluate(student, file, split="val", **where)
            own = float((figures.get("of_boxes", figures) if by_boxes else figures)["map"])
        except RequestError:
            return  # a student of other classes starts from nothing here
    if own <= teacher_map:
        return
    text = (
        f"the teacher is worse than the student already is: mAP50-95 {100 * teacher_map:.1f} and {100 * own:.1f} on val"
        + (", both by their boxes" if by_boxes else "")
    )
    if not force:
        raise RequestError(f"{text}; take a better teacher, or force=true to go on all the same")
    LOGGER.warning(f"{PREFIX}{text}; going on, as force=true says")


@contextmanager
def few_pictures(data: Mapping[str, Any], most: int) -> Iterator[Path]:
    """Make a data set of up to `most` pictures of train and val each, evenly spaced, and yield its data.yaml.

    The host keeps a list of labels beside them, one a folder: in a folder of links, so that the one beside the real
    pictures stays as it is.
    """
    with temporary_folder() as root:
        for split in ("train", "val"):
            pictures = pictures_of(dict(data), split)
            chosen = [pictures[round(at)] for at in np.linspace(0, len(pictures) - 1, min(len(pictures), most))]
            for kind, files in (("images", chosen), ("labels", img2label_paths(chosen))):
                (root / kind / split).mkdir(parents=True)
                for number, file in enumerate(map(Path, files)):
                    if file.is_file():  # a picture without objects may have no label file
                        link(file, root / kind / split / f"{number}{file.suffix}")
        plan: dict[str, Any] = {
            "path": str(root),
            "train": "images/train",
            "val": "images/val",
            "names": dict(data["names"]),
        }
        plan["channels"] = int(data.get("channels", 3))
        plan |= {key: data[key] for key in ("kpt_shape", "flip_idx", "kpt_oks_sigmas") if key in data}
        (root / "data.yaml").write_text(yaml.safe_dump(plan), encoding="utf-8")
        yield root / "data.yaml"
