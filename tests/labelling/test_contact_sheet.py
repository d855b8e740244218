"""The sheet that a person looks at: the doubtful first, everything inside, and a browser shows it."""

from __future__ import annotations

import base64
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
from looking import browser, look_at
from made_labelling import opener, request, write_film, write_pictures

from yolo_distill.labelling import finalise
from yolo_distill.labelling.contact_sheet import histogram, write_contact_sheet
from yolo_distill.labelling.manifest import read_manifest
from yolo_distill.labelling.objects import Found
from yolo_distill.labelling.parquet import KEPT, UNREAD, Row
from yolo_distill.labelling.run import label
from yolo_distill.labelling.statistics import BINS, Statistics
from yolo_distill.labelling.thresholds import Threshold

HTML = Path("out/contact-sheet.html")


def make(**changes) -> str:
    write_pictures(Path("in"), 12)
    Path("in/broken.jpg").write_bytes(b"<script>")
    label(request("in", Path("out"), **changes), opener=opener, say=lambda line: None)
    return HTML.read_text(encoding="utf-8")


def row(number: int, *scores: float) -> Row:
    """Return a picture with boxes of the first of two classes."""
    boxes = np.tile(np.array([[0, 0, 9, 9]], np.float32), (len(scores), 1))
    both = np.array([[score, 0.01] for score in scores], np.float32).reshape(-1, 2)
    return Row(number, f"{number}.jpg", KEPT, Found(boxes, both), file=f"{number}.jpg", width=10, height=10)


def test_the_least_sure_come_first_and_the_surest_are_left_out():
    statistics = Statistics(np.array([0.5, 0.5], np.float32), most=4)
    for one in (row(0, 0.9), row(1, 0.52), row(2), row(3, 0.48, 0.53, 0.9), row(4, 0.9), row(5, 0.9, 0.4)):
        statistics.add(one)
    assert [doubt.row.number for doubt in statistics.doubts] == [3, 1, 5, 0]
    assert [doubt.near for doubt in statistics.doubts] == [2, 1, 1, 0]
    assert statistics.shown == 6  # so that four are not called all
    assert (statistics.boxes.tolist(), statistics.pictures.tolist(), statistics.empty) == ([6, 0], [5, 0], 1)
    assert statistics.histogram[0].sum() == 8
    assert statistics.histogram[0, int(0.9 * BINS)] == 4


def test_everything_is_inside():
    text = make()
    assert len(re.findall("data:image/jpeg;base64,", text)) == 12
    assert not re.findall(r'(?:src|href)="(?!data:|images/train/)', text)
    assert "http" not in text
    assert "prefers-color-scheme: dark" in text
    assert "<h1>18 boxes by made</h1>" in text
    assert f"{Path('in/broken.jpg').absolute()}: cannot be decoded as a picture" in text
    places = [text.index(name) for name in ("00000000-0000.jpg", "00000002-0002.jpg")]
    assert places == sorted(places)  # a picture with a box near its threshold stands before an empty one
    HTMLParser().feed(text)


def test_names_are_no_markup():
    odd = """<script>"x" & 'y'</script>"""
    safe = "&lt;script&gt;&#34;x&#34; &amp; &#39;y&#39;&lt;/script&gt;"
    make()
    manifest = read_manifest(Path("out/label.json"))
    teacher, names = {"name": f"teacher {odd}"}, [f"class {odd}", "square"]
    manifest = replace(manifest, teacher=teacher, names=names, thresholds=[Threshold(0.5)] * 2)
    statistics = Statistics(np.array([0.5, 0.5], np.float32), most=4)
    statistics.add(replace(row(0, 0.9), file=f"file {odd}.jpg"))
    statistics.add(replace(row(1), state=UNREAD, source=f"source {odd}", note=f"note {odd}", width=None))
    write_contact_sheet(Path("sheet.html"), manifest, statistics, Path("images"))
    text = Path("sheet.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert odd not in text
    for words in ("teacher", "class", "file", "source", "note"):
        assert f"{words} {safe}" in text
    assert f'aria-label="histogram of the scores of class {safe}"' in text
    assert 'href="images/train/file%20%3Cscript%3E%22x%22%20%26%20%27y%27%3C/script%3E.jpg"' in text


def test_boxes_are_drawn():
    """The disc at 0.67 misses its threshold by little, the square at 0.33 by far; with a lower one both are labels."""

    def left_sides() -> list[float]:
        data = re.search(r'alt="00000003-0003.jpg" src="data:image/jpeg;base64,([^"]+)"', HTML.read_text("utf-8"))
        assert data
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(data[1]), np.uint8), cv2.IMREAD_COLOR).astype(int)
        assert picture.shape == (360, 480, 3)
        seen = np.abs(picture - picture[5, 5]).sum(2) > 60
        return [float(seen[120:260, x - 2 : x + 3].any(1).mean()) for x in (120, 264)]

    make(conf=0.7)
    disc, square = left_sides()
    assert 0.3 < disc < 0.8
    assert square == 0
    shutil.rmtree("out")
    make(conf=0.3)
    assert left_sides() == [1, 1]


def test_a_sheet_has_an_end(monkeypatch):
    monkeypatch.setattr(finalise, "SHOWN", 5)
    text = make()
    assert len(re.findall("data:image/jpeg;base64,", text)) == 5
    assert "The 5 pictures with most boxes near a threshold first" in text


def test_frames_that_were_left_out_are_not_on_it():
    """They are nowhere to be seen: their film is not read again."""
    write_pictures(Path("in"), 3)
    write_film(Path("in/film.avi"), 10)
    label(request("in", Path("out"), every=5, conf=0.7, keep_empty=False), opener=opener, say=lambda line: None)
    text = HTML.read_text(encoding="utf-8")
    assert ", 4 left out because nothing was found" in text
    assert text.count("<figure ") == text.count("<img") == 3
    assert "left out</figcaption>" in text  # a picture that was left out is


def test_a_histogram():
    picture = histogram([0, 10, 0, 1], 0.5)
    assert [(bar["x"], bar["height"], bar["label"]) for bar in picture["bars"]] == [(38, 30, False), (113, 3, True)]
    assert picture["threshold"] == 75


@pytest.mark.browser
def test_a_browser_shows_it(tmp_path):
    """Nothing is cut off, no picture leaves a hole, and the two filters hide what is not asked for."""
    make()
    look_at(HTML, tmp_path)
    with browser() as chromium:
        page = chromium.new_page(viewport={"width": 1280, "height": 844})
        page.goto(HTML.absolute().as_uri())
        sizes = page.evaluate("[...document.querySelectorAll('.sheet img')].map((one) => one.offsetHeight)")
        assert len(sizes) == 12
        assert len(set(sizes)) == 1
        shown = "[...document.querySelectorAll('.sheet figure')].filter((one) => one.offsetHeight).length"
        page.select_option("#class", label="square")
        square = page.evaluate(shown)
        page.select_option("#score", label="0.6 to 0.7")
        assert 12 > square >= page.evaluate(shown)
        page.select_option("#class", label="all")
        page.select_option("#score", label="0.0 to 0.1")
        assert page.evaluate(shown) == 0
