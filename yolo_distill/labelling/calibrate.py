"""Thresholds by what the teacher finds in labelled pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ultralytics.data.utils import img2label_paths

from yolo_distill.comparison.matching import Boxes, read_labels
from yolo_distill.engine.data import pictures_of
from yolo_distill.errors import RequestError
from yolo_distill.labelling.prefetch import ahead
from yolo_distill.labelling.inference import Asker, Fitted
from yolo_distill.labelling.thresholds import Calibration, Threshold
from yolo_distill.runtime.progress import Progress
from yolo_distill.runtime.sources import read_picture


def calibrated(
    asker: Asker,
    data: Mapping[str, Any],
    classes: int,
    *,
    conf: float,
    batch: int,
    pool: ThreadPoolExecutor,
    progress: Progress,
) -> list[Threshold]:
    """Return a threshold for each class, chosen on the val split.

    Args:
        asker: the teacher.
        data: what `check_data` returned.
        classes: how many there are.
        conf: threshold of a class that there is too little to choose by.
        batch: pictures at a time.
        pool: threads that read pictures ahead.
        progress: says how far it is.

    Raises:
        RequestError: no picture can be read, or a label file is none.
    """
    files = pictures_of(dict(data), "val")
    gathered, waiting, looked_at = Calibration(classes), list[tuple[Fitted, Boxes]](), 0

    def read(file: str) -> Fitted | None:
        image = read_picture(file)
        return None if image is None else asker.fit(image)

    def ask() -> None:
        answers = asker([fitted for fitted, _ in waiting])
        for found, (_, labels) in zip(answers, waiting, strict=True):
            gathered.add(found, labels)
        waiting.clear()

    for place, (file, fitted) in enumerate(zip(files, ahead(pool, read, files, 2 * batch), strict=True), 1):
        if fitted is not None:
            waiting.append((fitted, _labels(file, fitted.transform.picture)))
            looked_at += 1
        if len(waiting) == batch or (waiting and place == len(files)):
            ask()
            progress.report(f"choosing thresholds: {place:,} of {len(files):,} pictures of val")
    if not looked_at:
        raise RequestError(f"data={data.get('yaml_file')}: none of the {len(files)} pictures of val can be read")
    return gathered.choose(conf)


def said(names: Sequence[str], thresholds: Sequence[Threshold], most: int = 12) -> str:
    """Return thresholds in one line."""
    parts = [
        f"{name} {threshold.at:.3g} ({'conf=' if threshold.f1 is None else f'F1 {threshold.f1:.2f} on val'})"
        for name, threshold in zip(names, thresholds, strict=True)
    ]
    return ", ".join(parts[:most]) + (f" and {len(parts) - most} more" if len(parts) > most else "")


def _labels(file: str, size: tuple[int, int]) -> Boxes:
    (label,) = img2label_paths([file])
    try:
        return read_labels(Path(label), *size)
    except ValueError as error:
        raise RequestError(f"{label}: is no label file ({' '.join(str(error).split())})") from None
