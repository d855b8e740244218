"""Tables, notes, curves and page, by records whose figures are known."""

from __future__ import annotations

import base64
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from made import record
from matplotlib.figure import Figure

from yolo_distill.comparison.caveats import caveats_of
from yolo_distill.comparison.charts import DARK, LIGHT, chart, draw
from yolo_distill.comparison.html_report import html_report
from yolo_distill.comparison.pictures import Shown
from yolo_distill.comparison.report import markdown
from yolo_distill.comparison.tables import accuracy, classes, cost, differences
from yolo_distill.engine.provenance import Source

Summarise = Callable[..., dict[str, Any]]

TEACHER = record("teacher", 0, 0.60, weights="teacher/best.pt")


def three_seeds() -> list[dict[str, Any]]:
    """Return records in which ours is 2, 2 and 5 points ahead of plain (3 on average), and the teacher 20."""
    plain = {0: 0.40, 1: 0.41, 2: 0.39}
    ours = {0: 0.42, 1: 0.43, 2: 0.44}
    host = {0: 0.41, 1: 0.41, 2: 0.38}
    return [
        TEACHER,
        *(record("plain", seed, value) for seed, value in plain.items()),
        *(record("host", seed, value, epoch_cpu_seconds=[45.0, 45.0]) for seed, value in host.items()),
        *(record("distilled", seed, value, shares={"logit": [0.1, 0.2]}) for seed, value in ours.items()),
    ]


def test_a_whole_summary(summary_of: Summarise) -> None:
    summary = summary_of(three_seeds())
    json.dumps(summary, allow_nan=False)
    assert summary["finished"] is True
    # 0.03 +- 4.3027 * sqrt((1 + 1 + 4) / 2) / sqrt(3) = 4.30
    assert summary["verdict"] == (
        "no difference between distilled and plain can be seen with 3 seeds: +3.0 [-1.3, +7.3] mAP50-95 on test"
    )
    (row,) = [
        row
        for row in summary["differences"]
        if (row["arm"], row["base"], row["split"], row["branch"], row["metric"])
        == ("distilled", "plain", "test", "one-to-many", "mAP50-95")
    ]
    assert row["gap_recovered"] == pytest.approx(0.03 / 0.20)
    assert (row["ahead"], row["behind"]) == (3, 0)
    bases = {(row["arm"], row["base"]) for row in summary["differences"]}
    assert bases == {("host", "plain"), ("distilled", "plain"), ("distilled", "host")}
    assert {row["split"] for row in summary["differences"]} == {"val", "test"}
    assert len(summary["records"]) == 10


def test_the_tables_by_hand(summary_of: Summarise) -> None:
    summary = summary_of(three_seeds())
    table = accuracy(summary)
    assert table.header == ["arm", "seed 0", "seed 1", "seed 2", "mean", "± between seeds", "mAP50", "one-to-one"]
    assert table.rows == [
        ["teacher", "", "", "", "60.0 (70.0)", "", "80.0", "58.0"],
        ["plain", "40.0 (50.0)", "41.0 (51.0)", "39.0 (49.0)", "40.0 (50.0)", "1.0", "60.0", "38.0"],
        ["host", "41.0 (51.0)", "41.0 (51.0)", "38.0 (48.0)", "40.0 (50.0)", "1.7", "60.0", "38.0"],
        ["distilled", "42.0 (52.0)", "43.0 (53.0)", "44.0 (54.0)", "43.0 (53.0)", "1.0", "63.0", "41.0"],
    ]
    assert table.strong == (3,)
    assert differences(summary).rows[1] == [
        "distilled minus plain", "+3.0 [-1.3, +7.3]", "not to be seen", "3 of 3", "15%", "+3.0 [-1.3, +7.3]",
    ]  # fmt: skip
    assert differences(summary).rows[2][0] == "distilled minus host"
    assert classes(summary).rows == [
        ["disc", "7", "70.0", "50.0", "50.0", "53.0"],
        ["square", "7", "50.0", "30.0", "30.0", "33.0"],
    ]
    summary["cost"] = {"plain": {"parameters": 2375226, "gflops": 0.054, "ms": 3.14}}
    rows = {row[0]: row[1:] for row in cost(summary).rows}
    assert rows["plain"] == ["2,375,226", "0.05", "3.1", "2", "2.0", "1.0", "-"]
    assert rows["host"] == ["-", "-", "-", "2", "2.0", "1.0", "1.50"]
    assert rows["teacher"] == ["-", "-", "-", "2", "2.0", "1.0", "-"]  # what its training took, too


def test_next_to_nothing_has_no_sign(summary_of: Summarise) -> None:
    summary = summary_of([TEACHER, record("plain", 0, 0.4), record("distilled", 0, 0.3999)])
    assert differences(summary).rows[0][4] == "0%"


def test_markdown_is_a_table(summary_of: Summarise) -> None:
    summary = summary_of([*three_seeds(), record("a|b", 0, 0.4)])
    text = markdown(summary)
    assert text.startswith("**Unfinished, 10 of 12 runs are there: no difference between distilled and plain")
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 4
    for table in tables:
        assert len({re.sub(r"\\\|", "", line).count("|") for line in table.splitlines()}) == 1


def test_missing_runs_are_shown_and_named(summary_of: Summarise, tmp_path) -> None:
    failed = tmp_path / "distilled-s2"
    failed.mkdir()
    (failed / "error.txt").write_text("RuntimeError: no room\n")
    summary = summary_of([one for one in three_seeds() if (one["arm"], one["seed"]) != ("distilled", 2)])
    assert summary["finished"] is False
    assert summary["verdict"] == (
        "unfinished, 8 of 9 runs are there: distilled is ahead of plain by 2.0 [2.0, 2.0] mAP50-95 on test over 2 seeds"
        " (seed 2 missing)"
    )
    assert accuracy(summary).rows[-1][1:5] == ["42.0 (52.0)", "43.0 (53.0)", "missing", "42.5 (52.5)"]
    missing = "Missing: distilled, seed 2: failed: RuntimeError: no room (log: distilled-s2/log.txt)"
    assert missing in caveats_of(summary)


def test_a_teacher_that_is_not_there_yet(summary_of: Summarise) -> None:
    summary = summary_of([record("plain", 0, 0.4), record("distilled", 0, 0.45)])
    assert summary["teacher"] is None
    assert "one seed proves nothing" in summary["verdict"]
    assert all(row["gap_recovered"] is None for row in summary["differences"])
    html_report(summary, [])


def test_a_teacher_of_other_classes_is_not_measured(summary_of: Summarise) -> None:
    other = {key: value for key, value in TEACHER.items() if key not in {"test", "val"}}
    other |= {"one_to_one": None, "not_measured": "t.pt has 80 classes"}
    summary = summary_of([other, record("plain", 0, 0.4), record("distilled", 0, 0.45)])
    assert "The teacher is not measured: t.pt has 80 classes" in caveats_of(summary)
    assert accuracy(summary).rows[0] == ["teacher", "", "", "", "-", "", "-", "-"]


@pytest.mark.parametrize(("train", "said"), [(0.91, True), (0.64, False)])
def test_a_teacher_that_knows_its_pictures_by_heart_is_told(summary_of: Summarise, train: float, said: bool) -> None:
    teacher = {**TEACHER, "look": {"train": train, "val": 0.50}}
    summary = summary_of([teacher, record("plain", 0, 0.4), record("distilled", 0, 0.45)])
    found = [note for note in caveats_of(summary) if "by heart" in note]
    assert bool(found) is said
    if said:
        assert "91.0, than on val, 50.0 mAP50-95" in found[0]
        assert "unlabeled=" in found[0]


def test_data_without_a_test_split_says_so(summary_of: Summarise, plan) -> None:
    plan.splits = ["val"]
    summary = summary_of(three_seeds())
    assert summary["verdict"].endswith("mAP50-95 on val")
    assert accuracy(summary).title == "mAP50-95 on val"
    assert accuracy(summary).rows[1][1] == "50.0"
    assert any("best epoch was chosen on the pictures it is judged by" in note for note in caveats_of(summary))


def test_pairing_is_looked_at(summary_of: Summarise) -> None:
    assert any(
        "same pictures in the same order, and began with the same" in n for n in caveats_of(summary_of(three_seeds()))
    )
    records = [one for one in three_seeds() if one["arm"] != "distilled"]
    records += [record("distilled", seed, 0.4, pictures=["x", "y"], initial_weights="own") for seed in (0, 1, 2)]
    summary = summary_of(records)
    assert summary["pairing"]["distilled"]["1"] == {"pictures": False, "weights": False}
    assert summary["pairing"]["host"]["1"] == {"pictures": True, "weights": True}
    (note,) = [note for note in caveats_of(summary) if "digests" in note]
    assert note.startswith("Other pictures, or another order, than plain: distilled; all other arms saw the same;")
    assert "initial weights of their own: distilled" in note


def test_notes_on_mixed_runs(summary_of: Summarise) -> None:
    records = three_seeds()
    records[-1]["versions"] = {**records[-1]["versions"], "source": "changed"}
    records[-1]["parts"] = 2
    records[-1]["machine"] = {"device": "cpu", "cpu": "another", "threads": 2}
    records[-1]["pace"], records[-2]["pace"] = {"teacher": "s, int8"}, {"teacher": "s, bf16"}
    text = "\n".join(caveats_of(summary_of(records)))
    assert "different versions of the code" in text
    one = three_seeds()
    one[-1]["sources"] = ["abc", "abd"]  # interrupted, and continued with other code
    assert any("different versions of the code" in note for note in caveats_of(summary_of(one)))
    assert "continued from the last epoch: distilled seed 2" in text
    assert "on different machines" in text
    assert "computed in different ways (s, bf16; s, int8)" in text


def test_a_teacher_that_taught_nonsense_is_said(summary_of: Summarise) -> None:
    records = three_seeds()
    assert not any("too far off" in note for note in caveats_of(summary_of(records)))
    for one in records[-2:]:
        one["pace"] = {"teacher": "s, int8 by ONNX Runtime", "off": "scores 0.1500, boxes 0.290 (1 - IoU)"}
    (note,) = [note for note in caveats_of(summary_of(records)) if "too far off" in note]
    assert note.startswith("The teacher of distilled (s, int8 by ONNX Runtime) gave answers")
    assert "(scores 0.1500, boxes 0.290 (1 - IoU))" in note


def test_batches_that_memory_made_smaller_are_said(summary_of: Summarise) -> None:
    records = three_seeds()
    for one in records:
        one["batch"] = 16
    records[-1]["batch"] = 8
    (note,) = [note for note in caveats_of(summary_of(records)) if "Memory" in note]
    assert "smaller batches: distilled seed 2 (8 for 16)." in note


def test_a_line_that_a_power_cut_took_is_no_other_picture(summary_of: Summarise) -> None:
    records = three_seeds()
    records[-1]["pictures"] = [None, records[-1]["pictures"][1]]
    assert summary_of(records)["pairing"]["distilled"]["2"]["pictures"]


def test_equal_time_is_explained(summary_of: Summarise) -> None:
    decision = {"arm": "distilled", "seed": 0, "ratio": 1.25, "epochs": 125, "measured": "processor time"}
    decision["seconds_before"] = 20.0
    longer = [record("plain (equal time)", seed, 0.41, kind="plain", epochs=125) for seed in (0, 1, 2)]
    summary = summary_of([*three_seeds(), *longer], decision)
    assert any(
        "plain (equal time) has 125 epochs: an epoch of distilled took 1.25 times" in n for n in caveats_of(summary)
    )
    assert any(
        "one of plain (processor time, seed 0), and 20 s were spent before the first" in n for n in caveats_of(summary)
    )
    assert "plain (equal time)" not in summary["pairing"]
    # What ours has to beat besides plain: the host's own, and plain with as much time.
    assert summary["further"] == [
        "no difference between distilled and host can be seen with 3 seeds: +3.0 [-3.6, +9.6] mAP50-95 on test",
        "no difference between distilled and plain (equal time) can be seen with 3 seeds: +2.0 [-0.5, +4.5] "
        "mAP50-95 on test",
    ]
    assert [row[0] for row in differences(summary).rows][-2:] == [
        "distilled minus host",
        "distilled minus plain (equal time)",
    ]


def test_plain_with_the_time_of_another_arm_is_no_rival(summary_of: Summarise) -> None:
    decision = {"arm": "init", "seed": 0, "ratio": 1.0, "epochs": 2, "measured": "processor time"}
    same = [record("plain (equal time)", seed, 0.41, kind="plain") for seed in (0, 1, 2)]
    assert not any("equal time" in said for said in summary_of([*three_seeds(), *same], decision)["further"])


def test_arms_of_other_seeds_are_pointed_at(summary_of: Summarise) -> None:
    assert not any("do not compare" in note for note in caveats_of(summary_of(three_seeds())))
    summary = summary_of([*three_seeds(), record("distilled@logit=9", 2, 0.45)])
    rows = {row[0]: row[1] for row in differences(summary).rows}
    assert rows["distilled minus plain"] == "+3.0 [-1.3, +7.3]"
    assert rows["distilled@logit=9 minus plain (seed 2)"] == "+6.0"
    assert rows["distilled@logit=9 minus distilled (seed 2)"] == "+1.0"
    (note,) = [note for note in caveats_of(summary) if "do not compare" in note]
    assert note.startswith("Not all arms have the seeds 0, 1, 2: distilled@logit=9 (2).")


def test_a_teacher_that_is_not_ahead_is_said(summary_of: Summarise) -> None:
    assert not any("not ahead of plain" in note for note in caveats_of(summary_of(three_seeds())))
    summary = summary_of([record("teacher", 0, 0.39), *three_seeds()[1:]])
    assert any("The teacher is not ahead of plain: 39.0 and 40.0 mAP50-95 on test" in n for n in caveats_of(summary))


def test_what_was_not_checked_is_not_claimed(summary_of: Summarise) -> None:
    longer = [record("plain@epochs=9", seed, 0.41, kind="plain", epochs=9) for seed in (0, 1, 2)]
    (note,) = [note for note in caveats_of(summary_of([*three_seeds(), *longer])) if "digests" in note]
    assert note.endswith("Not checked, as they have another number of epochs: plain@epochs=9.")


def test_that_nothing_was_checked_is_said(summary_of: Summarise) -> None:
    plain = [record("plain", seed, 0.41, kind="plain") for seed in (0, 1, 2)]
    longer = [record("plain@epochs=9", seed, 0.41, kind="plain", epochs=9) for seed in (0, 1, 2)]
    notes = caveats_of(summary_of([*plain, *longer]))
    (note,) = [note for note in notes if "checked" in note]
    assert note.startswith("Whether arms saw plain's pictures was not checked, as they have another number of epochs")


def test_early_stopping_and_a_long_preparation_are_shown(summary_of: Summarise) -> None:
    records = three_seeds()
    records[-1] |= {"epochs": 2, "epochs_done": 1, "setup_seconds": 3600.0}
    summary = summary_of(records)
    rows = {row[0]: row for row in cost(summary).rows}
    assert (rows["plain"][4], rows["distilled"][4]) == ("2", "1 to 2 of 2")
    assert any("Before the first epoch of a run" in n and "distilled 20 min" in n for n in caveats_of(summary))


def test_plain_alone_is_no_comparison(summary_of: Summarise, plan) -> None:
    plan.arms = {"plain": plan.arms["plain"]}
    summary = summary_of([TEACHER, *(record("plain", seed, 0.4) for seed in (0, 1, 2))])
    assert summary["verdict"] == "nothing to compare: plain is the only arm"
    html_report(summary, [])


class Links(HTMLParser):
    """Collects whatever a page would fetch, and its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.found += [value or "" for name, value in attrs if name in {"src", "href", "srcset", "data", "action"}]


SHOWN = Shown("a<b>.jpg", {"plain": 0.2, "distilled": 0.9}, {"labels": "AAAA", "plain": "BBBB", "distilled": "CCCC"})


def test_the_page_needs_nothing_else(summary_of: Summarise) -> None:
    text = html_report(summary_of(three_seeds()), [SHOWN])
    links = Links()
    links.feed(text)
    # Two charts for light and for dark, and three pictures.
    assert [link.partition(";")[0] for link in links.found] == ["data:image/svg+xml"] * 4 + ["data:image/jpeg"] * 3
    assert not {"script", "link", "iframe", "object"} & set(links.tags)
    assert not re.search(r"https?:|//[a-z]|@import|url\(", text)
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


def test_the_page_says_it_all(summary_of: Summarise) -> None:
    summary = summary_of(three_seeds())
    text = html_report(summary, [SHOWN])
    assert text.index("<h1>No difference between distilled and plain") < text.index("<table>")
    for words in (
        "+3.0 [-1.3, +7.3]",
        "disc",
        "F1 0.90",
        "mAP50-95 on val, by epoch",
        "gradient at the neck",
        "60.0 (70.0)",
    ):
        assert words in text
    assert "a&lt;b&gt;.jpg" in text


def test_what_people_name_things_is_not_taken_for_html(summary_of: Summarise, plan) -> None:
    odd = """<script>"x" & 'y'</script>"""
    safe = "&lt;script&gt;&#34;x&#34; &amp; &#39;y&#39;&lt;/script&gt;"
    plan.names = {0: f"class {odd}", 1: "square"}
    plan.teacher, plan.data = Source(f"teacher {odd}", "", "aa"), Source(f"data {odd}", "", "bb")
    arm = f"arm {odd}@logit=2"
    shown = Shown(f"file {odd}.jpg", {"plain": 0.2, arm: 0.9}, {"labels": "AAAA", "plain": "BBBB", arm: "CCCC"})
    text = html_report(summary_of([*three_seeds(), record(arm, 0, 0.4)]), [shown])
    tags = Links()
    tags.feed(text)
    assert "script" not in tags.tags
    assert odd not in text
    for words in ("class", "teacher", "data", "arm", "file"):
        assert f"{words} {safe}" in text
    assert f'alt="arm {safe}@logit=2"' in text
    assert f"arm {safe}<wbr>@logit=2</th>" in text


def lines_of(figure: Figure) -> list[tuple[str, float, list[float], list[float]]]:
    """Return colour, width, epochs and values of what a chart draws, in the order in which it was drawn."""
    lines = figure.axes[0].lines
    return [(one.get_color(), one.get_linewidth(), list(one.get_xdata()), list(one.get_ydata())) for one in lines]


def test_a_chart_by_hand() -> None:
    found = chart({"plain": [[10.0, 20.0, 30.0], [20.0, 30.0, 40.0]], "ours": [[10.0, None, 40.0]]}, "points")
    assert found is not None
    for theme in (LIGHT, DARK):
        first, second, *_ = theme.lines
        assert lines_of(draw(found.curves, theme)) == [
            (first, 1, [1, 2, 3], [10, 20, 30]),
            (first, 1, [1, 2, 3], [20, 30, 40]),
            (first, 2.4, [1, 2, 3], [15, 25, 35]),
            (second, 2.4, [1, 3], [10, 40]),  # the epoch without a value is left out
        ]
    light, dark = (base64.b64decode(file).decode() for file in (found.light, found.dark))
    assert ET.fromstring(light).tag.endswith("svg")
    assert LIGHT.lines[0] in light
    assert DARK.lines[0] in dark
    assert LIGHT.lines[0] not in dark


def test_charts_are_the_same_bytes_each_time() -> None:
    assert chart({"a": [[1.0, 2.0]]}, "x") == chart({"a": [[1.0, 2.0]]}, "x")


def test_more_curves_than_colours_have_dashes() -> None:
    found = chart({str(number): [[float(number)]] for number in range(30)}, "x")
    assert found is not None
    assert [(curve.colour, curve.dashes) for curve in found.curves[7:10]] == [(7, 0), (0, 1), (1, 1)]
    assert len(lines_of(draw(found.curves, LIGHT))) == 30


@pytest.mark.parametrize("lines", [[[1.0]], [[0.0, 0.0]], [[5.0, 5.0]], [[-1e-9, 1e-9]], [[1e5, 2e5]], [[None, 3.0]]])
def test_charts_of_little(lines: list[list[float | None]]) -> None:
    found = chart({"a": lines}, "x")
    assert found is not None
    (line,) = draw(found.curves, LIGHT).axes[0].lines
    points = [value for value in lines[0] if value is not None]
    assert list(line.get_ydata()) == points
    assert (line.get_marker() == "o") == (len(points) == 1)  # a line of one point is not seen


def test_no_chart_of_nothing() -> None:
    assert chart({}, "x") is chart({"a": []}, "x") is chart({"a": [[None]]}, "x") is None


def test_means_go_as_far_as_all_seeds() -> None:
    found = chart({"a": [[1.0, 2.0, 3.0, 4.0], [3.0, 4.0]]}, "x")
    assert found is not None
    assert lines_of(draw(found.curves, LIGHT))[-1][3] == [2, 3]
