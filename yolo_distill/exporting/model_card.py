"""The model card beside an exported file: what its report knows, as a page that model hubs read.

What is not known is left out. Names are in code spans and code blocks, in which nothing is markup.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import yaml

from yolo_distill.exporting.report import ExportReport, HostProof, HostReport
from yolo_distill.exporting.workspace import CARD_MARK
from yolo_distill.models.tasks import metric_of

_LICENCE = (
    "Ultralytics holds that models made with its software are under AGPL-3.0 as well, unless you have an Enterprise "
    "Licence of theirs ([its licence page](https://www.ultralytics.com/license)). Going by that, whoever gives others "
    "an app with such a model in it, or lets them use it over a network, owes them the complete source of that app "
    "under AGPL-3.0."
)


#: Of a task: what the model is, what it does, and the word of hubs for it.
_WORDS = {
    "detect": ("An object detector", "object detection", "object-detection"),
    "segment": ("An instance segmenter", "instance segmentation (boxes and masks)", "image-segmentation"),
    "pose": ("A pose estimator", "pose estimation (boxes and keypoints)", "keypoint-detection"),
    "obb": ("An oriented object detector", "oriented object detection (turned boxes)", "object-detection"),
}


def write_card(report: ExportReport | HostReport, folder: Path) -> tuple[Path, Path]:
    """Write the card of a report into a folder; return it, and its place beside the exported file."""
    file = folder / "card.md"
    file.write_text(model_card(report), encoding="utf-8")
    return file, report.card


def model_card(report: ExportReport | HostReport) -> str:
    """Return the card, in Markdown."""
    audience = f" for {report.audience}" if isinstance(report, ExportReport) else ""
    classes, count = ", ".join(map(code, report.names.values())), len(report.names)
    what, does, _ = _WORDS[report.task]
    sections = {
        "": [
            f"{what} in {report.precision}{audience}, exported from {code(Path(report.source).name)} by "
            f"yolo-distill {report.versions['yolo_distill']}.\n",
            f"- **Task**: {does}, {count} class{'es' * (count > 1)}\n- **Classes**: {classes}",
            *_size(report),
        ],
        "Training": list(_training(report)),
        "Accuracy": list(_accuracy(report)),
        "Speed": list(_speed(report)),
        "Input and output": list(_tensors(report)),
        "How to run it": list(_how_to_run(report)),
        "Versions": [", ".join(f"{name} {version}" for name, version in report.versions.items())],
        "Licence": [f"{report.license}. {_LICENCE} More is in yolo-distill's `export/README.md`."],
    }
    text = f"---\n{_front_matter(report)}---\n\n{CARD_MARK}\n\n# {code(Path(report.path).name)}\n"
    for title, lines in sections.items():
        if lines:
            text += "\n" + (f"## {title}\n\n" if title else "") + "\n".join(lines) + "\n"
    return text


def code(name: str) -> str:
    """Return a name as a code span, whatever is in it: on one line, and without characters that show as nothing."""
    shown = _shown(" ".join(name.split())) or " "
    if "`" not in shown:
        return f"`{shown}`"
    fence = _fence(shown, 1)
    return f"{fence} {shown} {fence}"


def _shown(text: str) -> str:
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def _fence(text: str, least: int) -> str:
    """Return more backticks than there are in a row anywhere in `text`, and no fewer than `least`."""
    return "`" * max([least, *(len(run) + 1 for run in re.findall("`+", text))])


def _block(language: str, *lines: str) -> str:
    text = "\n".join(map(_shown, lines))
    fence = _fence(text, 3)
    return f"{fence}{language}\n{text}\n{fence}"


def _front_matter(report: ExportReport | HostReport) -> str:
    """Return what hubs read: https://huggingface.co/docs/hub/model-cards#model-card-metadata."""
    format = report.format if isinstance(report, HostReport) else "onnx"
    said = {
        "license": report.license.split()[0].lower(),
        "library_name": "ultralytics",
        "pipeline_tag": _WORDS[report.task][2],
        "tags": ["yolo-distill", "yolo", _WORDS[report.task][2], format, report.precision],
        **({"metrics": ["mAP50-95", "mAP50"]} if report.data else {}),
    }
    return yaml.safe_dump(said, sort_keys=False)


def _measured(report: ExportReport | HostReport) -> ExportReport | HostProof | None:
    return report.proof if isinstance(report, HostReport) else report


def _size(report: ExportReport | HostReport) -> Iterator[str]:
    part = ""
    if isinstance(report, ExportReport) and report.file_bytes != report.fp32_bytes:
        part = f" ({report.file_bytes / report.fp32_bytes:.2f} of fp32's)"
    yield f"- **Size**: {report.file_bytes / 1e6:.1f} MB{part}"
    if architecture := report.training.get("architecture"):
        yield f"- **Architecture**: {code(architecture)}"


def _training(report: ExportReport | HostReport) -> Iterator[str]:
    known = report.training
    for key, title in (("data", "Data"), ("unlabeled", "Unlabelled pictures"), ("teacher", "Teacher")):
        if key in known:
            yield f"- **{title}**: {code(known[key])}"
    if recipe := known.get("recipe"):
        alone = "" if len(recipe) > 1 else ", no distillation terms"
        yield f"- **Recipe**: {_settings(recipe)}{alone}"
    if settings := known.get("settings"):
        yield f"- **Settings**: {_settings(settings)}"


def _settings(values: dict[str, object]) -> str:
    return ", ".join(code(f"{key}={value}") for key, value in values.items())


def _accuracy(report: ExportReport | HostReport) -> Iterator[str]:
    measured = _measured(report)
    maps = {name: of for name, of in measured.accuracy.items() if "map" in of} if measured else {}
    if maps:
        pictures = next(iter(maps.values()))["pictures"]
        yield f"On the {pictures} pictures of `val` of {code(report.data)}, in points from 0 to 100:\n"
        yield f"| | {metric_of(report.task)} | mAP50 |\n|---|---|---|"
        yield from (f"| {name} | {of['map']:.1f} | {of['map50']:.1f} |" for name, of in maps.items())
        yield ""
    yield from (f"- {line}" for line in report.proved())


def _speed(report: ExportReport | HostReport) -> Iterator[str]:
    if measured := _measured(report):
        threads = f", {report.threads} thread{'s' * (report.threads > 1)}" if isinstance(report, ExportReport) else ""
        timed = ", ".join(f"{name} {ms:.1f}" for name, ms in measured.ms.items())
        yield f"Milliseconds of the bare network for one picture: {timed} ({code(report.processor)}{threads})."
        if report.doubt:
            yield f"{report.doubt[:1].upper()}{report.doubt[1:]}."


def _tensors(report: ExportReport | HostReport) -> Iterator[str]:
    height, width = report.imgsz
    shown = {"input": f"a picture, letterboxed to {width} x {height} px (width x height)", "output": "boxes and scores"}
    if isinstance(report, ExportReport):
        for key, tensor in report.tensors.items():
            shape = " x ".join(map(str, tensor["shape"]))
            shown[key] = f"{code(tensor['name'])}, {tensor['type']}, {shape}: {tensor['meaning']}"
    yield f"- **Input**: {shown['input']}"
    yield f"- **Output**: {shown['output']}; {report.branch}"
    if "prototypes" in shown:
        yield f"- **Prototypes**: {shown['prototypes']}"
    yield f"- **All details**: {code(report.json_file.name)}"


def _how_to_run(report: ExportReport | HostReport) -> Iterator[str]:
    """Return nothing for what runs on a device of its own."""
    name = Path(report.path).name
    if isinstance(report, ExportReport):
        lines = ["from yolo_distill import Detector", f"found = Detector({name!r})('picture.jpg')"]
        yield _block("python", *lines, "print(found.to_json())")
        yield _block("bash", f"yolo-distill predict model={shlex.quote(name)} source=pictures/")
        yield f"\nFor the device: {report.advice}."
        yield "Code in Kotlin, Swift, C++ and JavaScript is in `export/` of yolo-distill."
    elif report.proof is not None:
        lines = ["from ultralytics import YOLO", f"found = YOLO({name!r}, task={report.task!r})('picture.jpg')"]
        yield _block("python", *lines, "print(found[0].to_json())")
        yield _block("bash", f"yolo predict task={report.task} model={shlex.quote(name)} source=pictures/")
