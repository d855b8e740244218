"""What the functions of this package return: where things are, and the figures; free of heavy imports.

`map` and `map50` are mAP50-95 and mAP50 in points from 0 to 100, as in all tables and files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any


class _Result:
    """Shows itself in one line: what is short; the rest is in its attributes."""

    def __repr__(self) -> str:
        shown = {one.name: getattr(self, one.name) for one in fields(self) if one.repr}  # type: ignore[arg-type]
        said = (f"{key}={_brief(key, value)}" for key, value in shown.items() if value not in (None, {}, ()))
        return f"{type(self).__name__}({', '.join(said)})"


def _brief(key: str, value: Any) -> str:
    if isinstance(value, Path):
        return repr(str(value))
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_brief(key, one)}" for name, one in value.items()) + "}"
    if isinstance(value, float):
        return f"{value:.1f}" if key.startswith("map") else f"{value:.3g}"
    return f"{value!r}"


@dataclass(frozen=True, repr=False)
class Figures(_Result):
    """What was measured of a model; None where it was not.

    Attributes:
        map: mAP50-95, 0 to 100.
        map50: mAP50, 0 to 100.
        parameters: how many.
        megabytes: of its file.
        ms: milliseconds a picture.
    """

    map: float | None = None
    map50: float | None = None
    parameters: int | None = None
    megabytes: float | None = None
    ms: float | None = None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Figures:
        """Return those of a row of `summary.json`."""
        size = row.get("file_bytes")
        of_row = {key: row.get(key) for key in ("map", "map50", "parameters", "ms")}
        return cls(**of_row, megabytes=None if size is None else size / 1e6)


@dataclass(frozen=True, repr=False)
class TrainResult(_Result):
    """A run that is finished.

    Attributes:
        best: the checkpoint that was best on val.
        last: the checkpoint of the last epoch.
        folder: of the run: `results.csv`, `recipe.yaml`, `summary.json`, `weights/`.
        student: its figures on val.
        teacher: those of its teacher.
        summary: what `summary.json` holds.
    """

    best: Path
    last: Path = field(repr=False)
    folder: Path = field(repr=False)
    student: Figures
    teacher: Figures
    summary: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, repr=False)
class ShrinkResult(_Result):
    """A smaller checkpoint that was made without training.

    Attributes:
        file: the checkpoint.
        map: mAP50-95 on val, 0 to 100.
        map50: mAP50, 0 to 100.
        parameters: how many.
        megabytes: of the file.
        figures: all that was measured, as `val` has it.
    """

    file: Path
    map: float
    map50: float
    parameters: int
    megabytes: float
    figures: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, repr=False)
class ValResult(_Result):
    """What a model comes to on a labelled split.

    Attributes:
        map: mAP50-95, 0 to 100.
        map50: mAP50, 0 to 100.
        precision: 0 to 100.
        recall: 0 to 100.
        pictures: of the split.
        boxes: labelled in them.
        ms: milliseconds a picture: preprocess, inference, postprocess.
        classes: a row a class: name, pictures, boxes and the same four.
        figures: all of it, as `out=` has it.
    """

    map: float
    map50: float
    precision: float
    recall: float
    pictures: int
    boxes: int
    ms: Mapping[str, float] = field(repr=False)
    classes: list[dict[str, Any]] = field(repr=False)
    figures: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, repr=False)
class ExportResult(_Result):
    """A file that was exported and proved.

    Attributes:
        file: what was exported, a file or a folder.
        proof: the JSON file beside it.
        format: onnx, openvino, ...
        precision: fp32, fp16 or int8.
        imgsz: height and width of the input, in pixels.
        megabytes: of all of it.
        map: mAP50-95 on val by what was measured, 0 to 100; empty without labelled `data`.
        ms: milliseconds a picture by what was timed.
        report: all that was proved; its `summary()` is what the command prints.
    """

    file: Path
    proof: Path
    format: str
    precision: str
    imgsz: tuple[int, int]
    megabytes: float
    map: Mapping[str, float]
    ms: Mapping[str, float]
    report: Any = field(repr=False)


@dataclass(frozen=True, repr=False)
class CompareResult(_Result):
    """A comparison that is finished.

    Attributes:
        verdict: which arm is ahead, and by how much, in a sentence.
        folder: of the comparison.
        page: the HTML page.
        table: verdict, tables and notes, in Markdown.
        summary: what `comparison.json` holds.
    """

    verdict: str
    folder: Path
    page: Path = field(repr=False)
    table: str = field(repr=False)
    summary: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, repr=False)
class TuneResult(_Result):
    """A search that is finished.

    Attributes:
        recipe: the best as a file that `recipe=` takes.
        map: its mAP50-95 on val in the search, 0 to 100, which flatters it.
        settings: what it changes; empty where the default was best.
        verdict: how far it is ahead of the default over other seeds, in a sentence.
        folder: of the search.
        plot: a picture of all trials.
        comparison: folder of the comparison behind the verdict; None where the default was best.
        trials: number, map, epochs, settings and error of each.
    """

    recipe: Path
    map: float
    settings: Mapping[str, Any]
    verdict: str
    folder: Path = field(repr=False)
    plot: Path = field(repr=False)
    comparison: Path | None = field(repr=False)
    trials: list[dict[str, Any]] = field(repr=False)


@dataclass(frozen=True, repr=False)
class LabelResult(_Result):
    """A data set that was labelled, or a part of one.

    Attributes:
        folder: of the data set.
        data: its data.yaml; None until all shards are merged, or where it is at an address.
        contact_sheet: what to look at first; None likewise.
        pictures: in the data set, frames of videos among them; None likewise.
        boxes: labels by class; empty likewise.
        unread: files that could not be read.
    """

    folder: Path
    data: Path | None = None
    contact_sheet: Path | None = field(default=None, repr=False)
    pictures: int | None = None
    boxes: Mapping[str, int] = field(default_factory=dict)
    unread: int = 0


@dataclass(frozen=True, repr=False)
class BenchmarkResult(_Result):
    """Models that were timed side by side.

    Attributes:
        files: the results: `benchmark.json`, `table.md` and a picture, or the one file of `out=`.
        p50_ms: median milliseconds a picture of each model and who ran it, on the first number of threads.
        failed: what could not be measured, and why.
        report: what `benchmark.json` holds.
    """

    files: list[Path]
    p50_ms: Mapping[str, float]
    failed: Mapping[str, str]
    report: Mapping[str, Any] = field(repr=False)
