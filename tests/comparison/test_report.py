"""Tables, notes, curves and page, by records whose figures are known."""

from __future__ import annotations

import base64
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import cv2
import numpy as np
import pytest
from looking import look_at
from made import record
from matplotlib.figure import Figure

from yolo_distill.comparison.arms import Arm
from yolo_distill.comparison.caveats import caveats_of
from yolo_distill.comparison.charts import DARK, LIGHT, Chart, chart, draw
from yolo_distill.comparison.pictures import Shown
from yolo_distill.comparison.plan import Plan
from yolo_distill.comparison.report import html_report, markdown, terminal
from yolo_distill.comparison.results import headline_arm
from yolo_distill.comparison.tables import accuracy, classes, cost, differences
from yolo_distill.engine.provenance import Source

Summarise = Callable[..., dict[str, Any]]
Records = list[dict[str, Any]]

TEACHER = record("teacher", 0, 0.60, weights="teacher/best.pt")
FEW = [record("plain", 0, 0.4), record("distilled", 0, 0.45)]


def three_seeds(**last: Any) -> Records:
    """Return records in which ours is 2, 2 and 5 points ahead of plain (3 on average), and the teacher 20.

    Args:
        last: what differs in the last one of ours.
    """
    return [
        TEACHER,
        *(record("plain", seed, value) for seed, value in enumerate([0.40, 0.41, 0.39])),
        *(record("host", s, value, epoch_cpu_seconds=[45.0, 45.0]) for s, value in enumerate([0.41, 0.41, 0.38])),
        *(record("distilled", seed, value, shares={"logit": [0.1, 0.2]}) for seed, value in enumerate([0.42, 0.43])),
        record("distilled", 2, 0.44, **{"shares": {"logit": [0.1, 0.2]}, **last}),
    ]


#: Milliseconds of a picture; plain's and ours' network is one.
COSTS = {"teacher": 9.0, "plain": 3.0, "distilled": 3.0}


def longer(label: str, epochs: int) -> Records:
    return [record(label, seed, 0.41, kind="plain", epochs=epochs) for seed in (0, 1, 2)]


def test_a_whole_summary(summary_of: Summarise) -> None:
    summary = summary_of(three_seeds())
    json.dumps(summary, allow_nan=False)
    assert summary["finished"] is True
    # 0.03 +- 4.3027 * sqrt((1 + 1 + 4) / 2) / sqrt(3) = 4.30
    assert summary["verdict"] == (
        "no difference between distilled and plain can be seen with 3 seeds: +3.0 [-1.3, +7.3] mAP50-95 on test"
    )
    key = ("distilled", "plain", "test", "one-to-many", "mAP50-95")
    rows = {tuple(row[k] for k in ("arm", "base", "split", "branch", "metric")): row for row in summary["differences"]}
    assert rows[key]["gap_recovered"] == pytest.approx(0.03 / 0.20)
    assert (rows[key]["ahead"], rows[key]["behind"]) == (3, 0)
    assert {found[:2] for found in rows} == {("host", "plain"), ("distilled", "plain"), ("distilled", "host")}
    assert {found[2] for found in rows} == {"val", "test"}
    assert len(summary["records"]) == 10
    summary = summary_of([{**TEACHER, "look": {"train": 0.75, "val": 0.5}}])
    assert summary["records"][0]["look"] == summary["teacher"]["look"] == {"train": 75.0, "val": 50.0}


def test_the_verdict_is_about_a_distillation_where_there_is_one() -> None:
    kinds = {"plain": "plain", "plain@optimizer=SGD": "plain", "host": "host", "ours": "distilled"}
    arms = [Arm(label, kind, {}) for label, kind in kinds.items()]
    assert [headline_arm(arms[:count]) for count in (1, 2, 3, 4)] == [None, "plain@optimizer=SGD", "host", "ours"]


def test_the_tables_by_hand(summary_of: Summarise) -> None:
    summary = summary_of(three_seeds())
    table = accuracy(summary)
    assert table.header == ["arm", "mean", "± between seeds", "seed 0", "seed 1", "seed 2", "mAP50", "one-to-one"]
    assert table.rows == [
        ["teacher", "60.0 (70.0)", "", "", "", "", "80.0", "58.0"],
        ["plain", "40.0 (50.0)", "1.0", "40.0 (50.0)", "41.0 (51.0)", "39.0 (49.0)", "60.0", "38.0"],
        ["host", "40.0 (50.0)", "1.7", "41.0 (51.0)", "41.0 (51.0)", "38.0 (48.0)", "60.0", "38.0"],
        ["distilled", "43.0 (53.0)", "1.0", "42.0 (52.0)", "43.0 (53.0)", "44.0 (54.0)", "63.0", "41.0"],
    ]
    assert table.strong == (3,)
    assert differences(summary).rows[1] == [
        "distilled minus plain", "+3.0 [-1.3, +7.3]", "not to be seen", "3 of 3", "15%", "+3.0 [-1.3, +7.3]",
    ]  # fmt: skip
    assert classes(summary).rows == [
        ["disc", "7", "70.0", "50.0", "50.0", "53.0"],
        ["square", "7", "50.0", "30.0", "30.0", "33.0"],
    ]
    summary["cost"] = {"plain": {"parameters": 2375226, "gflops": 0.054, "ms": 3.14}}
    rows = {row[0]: row[1:] for row in cost(summary).rows}
    assert rows["plain"] == ["2,375,226", "0.05", "3.1", "2", "2.0", "1.0", "-"]
    assert rows["host"] == ["-", "-", "-", "2", "2.0", "1.0", "1.50"]
    assert rows["teacher"] == ["-", "-", "-", "2", "2.0", "1.0", "-"]  # what its training took, too


def test_two_classes_of_one_name_are_told_apart(summary_of: Summarise, plan: Plan) -> None:
    plan.names = dict.fromkeys((0, 1), "disc")
    records = json.loads(json.dumps([TEACHER, *FEW]).replace("square", "disc"))
    assert classes(summary_of(records)).rows == [
        ["disc", "7", "70.0", "50.0", "55.0"],
        ["disc", "7", "50.0", "30.0", "35.0"],
    ]


def test_next_to_nothing_has_no_sign(summary_of: Summarise) -> None:
    summary = summary_of([TEACHER, FEW[0], record("distilled", 0, 0.3999)])
    assert differences(summary).rows[0][4] == "0%"


def test_markdown_is_a_table(summary_of: Summarise) -> None:
    text = markdown(summary_of([*three_seeds(), record("a|b", 0, 0.4)]))
    assert text.startswith("**Unfinished, 10 of 12 runs are there: no difference between distilled and plain")
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 4
    for table in tables:
        assert len({re.sub(r"\\\|", "", line).count("|") for line in table.splitlines()}) == 1


def test_missing_runs_are_shown_and_named(summary_of: Summarise, tmp_path) -> None:
    (tmp_path / "distilled-s2").mkdir()
    (tmp_path / "distilled-s2" / "error.txt").write_text("RuntimeError: no room\n")
    summary = summary_of(three_seeds()[:-1])
    assert summary["finished"] is False
    assert summary["verdict"] == (
        "unfinished, 8 of 9 runs are there: 2 seeds that come out alike prove nothing: distilled is 2.0 ahead of plain "
        "in mAP50-95 on test with seed 0, 1 (seed 2 missing)"
    )
    assert accuracy(summary).rows[-1][1:6] == ["42.5 (52.5)", "0.7", "42.0 (52.0)", "43.0 (53.0)", "missing"]
    missing = "Missing: distilled, seed 2: failed: RuntimeError: no room (log: distilled-s2/log.txt)"
    assert f"{missing}; delete distilled-s2 to leave it out" in caveats_of(summary)


def test_a_teacher_that_is_not_there_yet_or_not_measured(summary_of: Summarise) -> None:
    summary = summary_of(FEW)
    assert summary["teacher"] is None
    assert "one seed proves nothing" in summary["verdict"]
    assert all(row["gap_recovered"] is None for row in summary["differences"])
    html_report(summary, [])
    other = {key: value for key, value in TEACHER.items() if key not in {"test", "val"}}
    summary = summary_of([{**other, "one_to_one": None, "not_measured": "t.pt has 80 classes"}, *FEW])
    assert "The teacher is not measured: t.pt has 80 classes" in caveats_of(summary)
    assert set(accuracy(summary).rows[0][1:]) == {"", "-"}


def test_data_without_a_test_split_says_so(summary_of: Summarise, plan: Plan) -> None:
    plan.splits = ["val"]
    summary = summary_of(three_seeds())
    assert summary["verdict"].endswith("mAP50-95 on val")
    assert accuracy(summary).title == "mAP50-95 on val"
    assert accuracy(summary).rows[1][1] == "50.0"
    assert any("best epoch was chosen on the pictures it is judged by" in note for note in caveats_of(summary))


def of_task(made: dict[str, Any], task: str) -> dict[str, Any]:
    """Return a record as that of a model of a task."""
    return {**made, **{split: {**made[split], "task": task} for split in ("val", "test")}}


def test_figures_of_another_task_say_of_what(summary_of: Summarise) -> None:
    summary = summary_of([of_task(one, "segment") for one in [record("teacher", 0, 0.3), *FEW]])
    summary["cost"] = {label: {"parameters": 9, "gflops": 1.0, "ms": ms} for label, ms in COSTS.items()}
    for text in (html_report(summary, []), markdown(summary), terminal(summary, 120)):
        named = re.findall(r"m?AP50-95(?! of its)[^,.|<]{9}", text)
        assert len(named) > 5
        assert {words[-9:] for words in named} == {" of masks"}


def test_a_teacher_of_another_task_is_not_compared(summary_of: Summarise) -> None:
    summary = summary_of([of_task(TEACHER, "detect"), *(of_task(one, "segment") for one in FEW)])
    assert "The teacher is not measured: it finds boxes, and its students find masks" in caveats_of(summary)
    assert set(accuracy(summary).rows[0][1:]) == {"", "-"}
    assert differences(summary).rows[0][4] == "-"


FAR_OFF = {"teacher": "s, int8", "off": "scores 0.1500, boxes 0.290 (1 - IoU)"}


@pytest.mark.parametrize(
    ("records", "says"),
    [
        (three_seeds(batch=16, settings={"batch": 16}), None),
        (three_seeds(), "same pictures in the same order, and began with the same weights (checked by digests"),
        (three_seeds(pictures=["x", "y"], initial_weights="own"),
         "Other pictures, or another order, than plain: distilled; all other arms saw the same; initial weights of "
         "their own: distilled"),
        (three_seeds(pictures=[None, "s2e2"]), "All arms of a seed saw the same"),  # a power cut took a line
        ([*three_seeds(), *longer("plain@epochs=9", 9)],
         "Not checked, as they have another number of epochs: plain@epochs=9."),
        ([*longer("plain", 2), *longer("plain@epochs=9", 9)],
         "Whether arms saw plain's pictures was not checked, as they have another number of epochs"),
        (three_seeds(versions={"yolo_distill": "1"}), "different versions of the code"),
        (three_seeds(sources=["abc", "abd"]), "different versions of the code"),
        (three_seeds(parts=2), "continued from the last epoch: distilled seed 2"),
        (three_seeds(machine={"device": "cpu", "cpu": "another", "threads": 2}), "on different machines"),
        ([*three_seeds(pace={"teacher": "s, int8"}), record("distilled", 0, 0.4, pace={"teacher": "s, bf16"})],
         "The teacher of distilled was computed in different ways (s, bf16; s, int8)"),
        (three_seeds(pace=FAR_OFF),
         "The teacher of distilled (s, int8) gave answers too far off to teach the same (scores 0.1500, boxes 0.290"),
        (three_seeds(batch=8, settings={"batch": 16}), "smaller batches: distilled seed 2 (8 for 16)."),
        (three_seeds(setup_seconds=3600.0), "Before the first epoch of a run, and in none of the times above: "
         "distilled 20 min"),
        ([record("teacher", 0, 0.39), *three_seeds()[1:]],
         "The teacher is not ahead of plain: 39.0 and 40.0 mAP50-95 on test."),  # ours is: it did learn
        ([record("teacher", 0, 0.39), FEW[0], record("distilled", 0, 0.40)], "There is nothing to learn from it here."),
        ([{**TEACHER, "look": {"train": 0.91, "val": 0.50}}, *three_seeds(pace={"teacher": "s, bf16"})[1:]],
         "91.0, than on val, 50.0 mAP50-95"),
        ([{**TEACHER, "look": {"train": 0.91, "val": 0.50}}, *FEW], None),  # who is not taught learns nothing by heart
        ([{**TEACHER, "look": {"train": 0.64, "val": 0.50}}, *three_seeds(pace={"teacher": "s, bf16"})[1:]], None),
        (three_seeds(), "the test split is one sample, 8 pictures with 14 boxes. With so few boxes each that is found"),
        (three_seeds(pace={"teacher": "s, bf16"}, initial_weights="own"),
         "distilled began with plain's weights and trained alone or inside its teacher and was taught."),
        ([record("teacher", 0, 0.0), *(record(label, 0, 0.003) for label in ("plain", "distilled"))],
         "None of them finds anything yet, at most 0.3 mAP50-95 on test: train longer"),
        ([*three_seeds(), record("distilled@logit=9", 2, 0.45)],
         "Not all arms have the seeds 0, 1, 2: distilled@logit=9 (2)."),
    ],
)  # fmt: skip
def test_what_a_reader_has_to_know_is_said(records: Records, says: str | None, summary_of: Summarise) -> None:
    notes = caveats_of(summary_of(records))
    if says is None:
        usual = "Intervals are|All arms of a seed saw the same|host is|Missing|distilled began"
        assert [note for note in notes if not re.match(usual, note)] == []
    else:
        assert len([note for note in notes if says in note]) == 1


def test_a_run_with_other_pictures_is_marked(summary_of: Summarise) -> None:
    pairing = summary_of(three_seeds(pictures=["x", "y"], initial_weights="own"))["pairing"]
    assert pairing["distilled"]["2"] == {"pictures": False, "weights": False}
    assert pairing["host"]["2"] == {"pictures": True, "weights": True}


def test_equal_time_is_explained_and_a_rival(summary_of: Summarise) -> None:
    decision = {"arm": "distilled", "seed": 0, "ratio": 1.25, "epochs": 125, "measured": "processor time"}
    decision["seconds_before"] = 20.0
    records = [*three_seeds(), *longer("plain (equal time)", 125)]
    summary = summary_of(records, decision)
    assert (
        "plain (equal time) has 125 epochs: an epoch of distilled took 1.25 times as long as one of plain (processor "
        "time, seed 0), and 20 s were spent before the first one; the teacher's own training is not counted."
    ) in caveats_of(summary)
    assert "plain (equal time)" not in summary["pairing"]
    # What ours has to beat besides plain: the host's own, and plain with as much time.
    assert summary["further"] == [
        "no difference between distilled and host can be seen with 3 seeds: +3.0 [-3.6, +9.6] mAP50-95 on test",
        "no difference between distilled and plain (equal time) can be seen with 3 seeds: +2.0 [-0.5, +4.5] "
        "mAP50-95 on test",
    ]
    # With the time of another arm it is none.
    assert not any("equal time" in said for said in summary_of(records, {**decision, "arm": "init"})["further"])


def test_arms_of_other_seeds_say_which(summary_of: Summarise) -> None:
    rows = {row[0]: row[1] for row in differences(summary_of([*three_seeds(), record("distilled@a=9", 2, 0.45)])).rows}
    assert rows["distilled minus plain"] == "+3.0 [-1.3, +7.3]"
    assert rows["distilled@a=9 minus plain (seed 2)"] == "+6.0"
    assert rows["distilled@a=9 minus distilled (seed 2)"] == "+1.0"


def test_early_stopping_is_shown(summary_of: Summarise) -> None:
    rows = {row[0]: row for row in cost(summary_of(three_seeds(epochs=2, epochs_done=1))).rows}
    assert (rows["plain"][4], rows["distilled"][4]) == ("2", "1 to 2 of 2")


class Links(HTMLParser):
    """Collects whatever a page would fetch, and its tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.found += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "data", "action"}]


def test_the_page_needs_nothing_else_and_says_it_all(summary_of: Summarise) -> None:
    panes = {"labels": "AAAA", "plain": "BBBB", "distilled": "CCCC"}
    summary = summary_of(three_seeds())
    summary["cost"] = {label: {"parameters": 9, "gflops": 1.0, "ms": ms} for label, ms in COSTS.items()}
    text = html_report(summary, [Shown("a.jpg", {"plain": 0.2, "distilled": 0.9}, panes)])
    links = Links(text)
    # Three charts, wide and narrow, for light and for dark, and three pictures.
    assert [link.partition(";")[0] for link in links.found] == ["data:image/svg+xml"] * 12 + ["data:image/jpeg"] * 3
    assert not {"script", "link", "iframe", "object"} & links.tags
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text)
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text
    assert text.index("<h1>No difference between distilled and plain") < text.index("<table>")
    for words in (
        "+3.0 [-1.3, +7.3]",
        "disc",
        "F1 0.90",
        "mAP50-95 on val, by epoch",
        "gradient at the neck",
        "mAP50-95 on test, by ms a picture (torch, CPU)",
        "On the front of time and mAP50-95, fastest first: distilled, teacher.",
        "60.0 (70",
    ):
        assert words in text


@pytest.mark.browser
def test_a_browser_shows_all_of_the_page(summary_of: Summarise, tmp_path) -> None:
    picture = base64.b64encode(cv2.imencode(".jpg", np.full((360, 480, 3), 90, np.uint8))[1].tobytes()).decode()
    panes = dict.fromkeys(("labels", "plain", "distilled"), picture)
    summary = summary_of([*three_seeds(), record("distilled@init_warmup=0.3", 0, 0.4)])
    summary["cost"] = {"plain": {"parameters": 2375226, "gflops": 0.054, "ms": 3.14}}
    (tmp_path / "index.html").write_text(html_report(summary, [Shown("a.jpg", {"plain": 0.2, "distilled": 1}, panes)]))
    look_at(tmp_path / "index.html", tmp_path)


def test_what_people_name_things_is_not_taken_for_html(summary_of: Summarise, plan: Plan) -> None:
    odd = """<script>"x" & 'y'</script>"""
    safe = "&lt;script&gt;&#34;x&#34; &amp; &#39;y&#39;&lt;/script&gt;"
    plan.names = {0: f"class {odd}", 1: "square"}
    plan.teacher, plan.data = Source(f"teacher {odd}", "", "aa"), Source(f"data {odd}", "", "bb")
    arm = f"arm {odd}@logit=2"
    shown = Shown(f"file {odd}.jpg", {"plain": 0.2, arm: 0.9}, {"labels": "AAAA", "plain": "BBBB", arm: "CCCC"})
    text = html_report(summary_of([*three_seeds(), record(arm, 0, 0.4)]), [shown])
    assert "script" not in Links(text).tags
    assert odd not in text
    for words in ("class", "teacher", "data", "arm", "file"):
        assert f"{words} {safe}" in text
    assert f'alt="arm {safe}@logit=2"' in text
    assert f"arm {safe}<wbr>@logit=2</th>" in text


def made(series: dict[str, Any]) -> Chart:
    found = chart(series, "points")
    assert found is not None
    return found


def lines_of(figure: Figure) -> list[tuple[str, float, list[float], list[float]]]:
    """Return colour, width, epochs and values of what a chart draws, in the order in which it was drawn."""
    lines = figure.axes[0].lines
    return [(one.get_color(), one.get_linewidth(), list(one.get_xdata()), list(one.get_ydata())) for one in lines]


def test_a_chart_by_hand() -> None:
    # A mean goes as far as all lines; the epoch without a value is left out.
    series = {"plain": [[10.0, 20.0, 30.0], [20.0, 30.0]], "ours": [[10.0, None, 40.0]]}
    found = made(series)
    for theme in (LIGHT, DARK):
        first, second, *_ = theme.lines
        assert lines_of(draw(found.curves, theme)) == [
            (first, 1, [1, 2, 3], [10, 20, 30]),
            (first, 1, [1, 2], [20, 30]),
            (first, 2.4, [1, 2], [15, 25]),
            (second, 2.4, [1, 3], [10, 40]),
        ]
    light, dark = (base64.b64decode(file).decode() for file in (found.light, found.dark))
    assert ET.fromstring(light).tag.endswith("svg")
    assert LIGHT.lines[0] in light
    assert DARK.lines[0] in dark
    assert LIGHT.lines[0] not in dark
    assert made(series).light == found.light  # the same bytes each time


def test_more_curves_than_colours_have_dashes() -> None:
    found = made({str(number): [[float(number)]] for number in range(30)})
    assert [(curve.colour, curve.dashes) for curve in found.curves[7:10]] == [(7, 0), (0, 1), (1, 1)]
    assert len(lines_of(draw(found.curves, LIGHT))) == 30


@pytest.mark.parametrize("line", [[1.0], [0.0, 0.0], [-1e-9, 1e-9], [1e5, 2e5], [None, 3.0]])
def test_charts_of_little(line: list[float | None]) -> None:
    (drawn,) = draw(made({"a": [line]}).curves, LIGHT).axes[0].lines
    points = [value for value in line if value is not None]
    assert list(drawn.get_ydata()) == points
    assert (drawn.get_marker() == "o") == (len(points) == 1)  # a line of one point is not seen


def test_no_chart_of_nothing() -> None:
    assert chart({}, "x") is chart({"a": []}, "x") is chart({"a": [[None]]}, "x") is None
