"""The model card: it says what the proof knows and nothing else, runs as written, and survives any name."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml
from exported import LENIENT, SIDE, listing
from live_detector import draw, live_detector, save
from markdown_it import MarkdownIt
from tiny_yolo import write_architecture

from yolo_distill.cli import main
from yolo_distill.engine.trainer import DistillationTrainer
from yolo_distill.exporting.export import export
from yolo_distill.exporting.model_card import model_card
from yolo_distill.exporting.report import ExportReport
from yolo_distill.exporting.ultralytics_formats import export_by_host
from yolo_distill.exporting.workspace import CARD_MARK
from yolo_distill.machine import cpu_name
from yolo_distill.paths import export_dir

ODD = ["a`b``|<b>", "*[x](y)*\n# z", " ", "<!-- &amp; -->"]


@pytest.fixture(scope="module")
def measured(checkpoint: Path, labelled: Path, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    return export(checkpoint, data=labelled, precision="fp16", out=tmp_path_factory.mktemp("exported"), **LENIENT)


def front_matter(card: str) -> Any:
    return yaml.safe_load(card.split("---\n")[1])


def tokens(card: str) -> list[Any]:
    """Return the page below the front matter as a parser of Markdown reads it, inline tokens among the blocks."""
    page = MarkdownIt("commonmark").enable("table").parse(card.split("---\n", 2)[2])
    return [one for block in page for one in (block, *(block.children or ()))]


def blocks(card: str) -> list[str]:
    """Return the code blocks."""
    return [one.content for one in tokens(card) if one.type == "fence"]


def test_the_card_says_what_the_proof_measured(measured):
    assert listing(measured.card.parent) == ["best_fp16.json", "best_fp16.md", "best_fp16.onnx"]
    card = measured.card.read_text(encoding="utf-8")
    said = front_matter(card)
    assert (said["license"], said["pipeline_tag"], said["metrics"]) == (
        "agpl-3.0",
        "object-detection",
        ["mAP50-95", "mAP50"],
    )
    assert {"onnx", "fp16"} < set(said["tags"])
    for name in ("torch", "fp32", "fp16"):
        of = measured.accuracy[name]
        assert f"| {name} | {of['map']:.1f} | {of['map50']:.1f} |" in card
        assert f"{name} {measured.ms[name]:.1f}" in card
    assert "On the 5 pictures of `val` of `" in card
    assert f"`{cpu_name()}`, {measured.threads} thread" in card
    assert f"{measured.file_bytes / 1e6:.1f} MB ({measured.file_bytes / measured.fp32_bytes:.2f} of fp32's)" in card
    assert f"- **Input**: `images`, float32, 1 x 3 x {SIDE} x {SIDE}: a picture, letterboxed" in card
    assert "- **Classes**: `round`, `square`\n" in card
    assert all(f"{name} {version}" in card for name, version in measured.versions.items())
    assert f"model card: {measured.card}" in measured.summary()


def test_what_figures_are_of_is_said_where_that_is_not_boxes(measured):
    assert "| | mAP50-95 | mAP50 |" in model_card(measured)
    turned = dataclasses.replace(measured, task="obb")
    assert "| | mAP50-95 of turned boxes | mAP50 |" in model_card(turned)
    assert "mAP50-95 of turned boxes on val: torch" in turned.summary()


def test_the_licence_is_that_of_the_file_and_of_the_guide(measured):
    licence = measured.card.read_text(encoding="utf-8").split("## Licence\n\n")[1]
    of_file, _, rest = licence.partition(". Ultralytics holds ")
    assert of_file == measured.metadata["license"]
    guide = " ".join((export_dir() / "README.md").read_text(encoding="utf-8").split())
    assert f"Ultralytics holds {rest.partition(' More is in ')[0]}" in guide


def test_what_is_not_known_is_left_out(report):
    card = report.card.read_text(encoding="utf-8")
    assert "metrics" not in front_matter(card)
    assert [word for word in ("mAP", "Teacher", "Recipe", "epochs=", "None", "/somewhere") if word in card] == []
    assert "- **Settings**: `imgsz=96`\n" in card
    nothing = model_card(dataclasses.replace(report, training={}))
    assert "## Training" not in nothing


def test_it_runs_as_written(measured, monkeypatch, capsys):
    monkeypatch.chdir(measured.card.parent)
    Path("pictures").mkdir()
    for name in ("picture.jpg", "pictures/a.jpg"):
        cv2.imwrite(name, draw(1, 64, 96)[0])
    python, command = blocks(measured.card.read_text(encoding="utf-8"))
    exec(python, {})
    assert json.loads(capsys.readouterr().out)
    assert len(python.splitlines()) == 3
    assert main(shlex.split(command)[1:]) == 0


def test_a_finished_run_names_teacher_and_recipe(settings, tiny_pair, tmp_path):
    """The host has stripped the checkpoint by then."""
    trainer = DistillationTrainer(overrides={**settings, **tiny_pair, "teach": True, "logit": 2.0})
    trainer.train()
    card = export(trainer.best, out=tmp_path).card.read_text(encoding="utf-8")
    data = Path(settings["data"])
    assert f"- **Data**: `{data.parent.name}/data.yaml`\n- **Teacher**: `{Path(tiny_pair['teacher']).name}`\n" in card
    assert "- **Recipe**: `init=auto`, `logit=2.0`, `localization=" in card
    assert "`epochs=1`, `imgsz=64`, `batch=4`, `seed=0`" in card
    assert "- **Architecture**: `tiny.yaml`" in card
    assert str(tmp_path) not in card


def test_odd_names_break_neither_page_nor_code(unlabelled, tmp_path, monkeypatch):
    model = live_detector(str(write_architecture(tmp_path / "tiny.yaml", width=4)), ODD)
    name = "a```b <i>|*_'\"$(x) \u202e.onnx"
    model.args = {"data": "C:\\Users\\anna\\`b`\\data.yaml"}
    done = export(save(model, tmp_path / "w`.pt", SIDE), data=unlabelled, out=tmp_path / name)
    card = done.card.read_text(encoding="utf-8")
    page = tokens(card)
    spans = [one.content for one in page if one.type == "code_inline"]
    shown = name.replace("\u202e", "\ufffd")
    assert {shown, "w`.pt", "`b`/data.yaml", "a`b``|<b>", "*[x](y)* # z", " ", "<!-- &amp; -->"} <= set(spans)
    assert [one.content.strip() for one in page if one.type.startswith("html")] == [CARD_MARK]
    kinds = [one.type for one in page]
    assert kinds.count("link_open") == 1  # that of the licence
    assert not {"em_open", "image", "table_open", "blockquote_open"} & set(kinds)
    assert [one.tag for one in page if one.type == "heading_open"] == ["h1", *["h2"] * 7]
    python, command = blocks(card)
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("picture.jpg", draw(1, 64, 96)[0])
    exec(python, {})
    assert shlex.split(command)[2] == f"model={shown}"


def test_of_the_hosts_formats(checkpoint, labelled, tmp_path, monkeypatch, capsys):
    done = export_by_host(checkpoint, "torchscript", data=labelled, out=tmp_path)
    card = done.card.read_text(encoding="utf-8")
    assert done.card.name == "best.torchscript.md"
    assert f"| fp32 | {done.proof.accuracy['fp32']['map']:.1f} |" in card
    assert f"- **Input**: a picture, letterboxed to {SIDE} x {SIDE} px" in card
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("picture.jpg", draw(1, 64, 96)[0])
    exec(blocks(card)[0], {})
    assert "confidence" in capsys.readouterr().out
    unproved = model_card(dataclasses.replace(done, proof=None, not_proved="it runs on a device of its own"))
    assert "- not proved: it runs on a device of its own" in unproved
    assert blocks(unproved) == []
    assert "## Speed" not in unproved
