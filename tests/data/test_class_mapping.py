"""Classes are matched by name, whatever their numbers are."""

import re

import pytest

from yolo_distill.data.class_mapping import match_classes, read_class_map, require_match, taught_names
from yolo_distill.errors import RequestError


@pytest.mark.parametrize(
    ("student", "teacher", "taught", "sources"),
    [
        ("cat,dog", "bird,dog,cat", [0, 1], [2, 1]),
        ("Arduino Nano,ESP-32", "arduino_nano,esp32", [0, 1], [0, 1]),  # case and separators
        ("Car", "car,Car", [0], [1]),  # the exact name before a similar one
        ("cell,cell,plt", "plt,cell,cell", [0, 1, 2], [1, 2, 0]),  # two of one name, by their order
        ("cell,cell,Cell", "cell,plt", [0, 1, 2], [0, 0, 0]),
        ("a", "b", [], []),
    ],
)
def test_names_are_matched_whatever_their_numbers(student, teacher, taught, sources):
    ours, theirs = (dict(enumerate(names.split(","))) for names in (student, teacher))
    match = match_classes(ours, theirs)
    assert (match.student, match.teacher) == (taught, sources)
    assert match.matched == [ours[column] for column in taught]
    assert match.untaught == [name for column, name in ours.items() if column not in taught]
    assert match.unused == [name for column, name in theirs.items() if column not in sources]
    if not match.untaught:
        assert match_classes(ours, ours).table(ours) == ""  # where the names are the same


def test_partial_match_is_refused_with_names_and_remedy():
    match = match_classes({0: "cat", 1: "dog"}, {0: "cat", 1: "cow"})
    with pytest.raises(RequestError, match=r"does not know dog .*matches cat.*also knows cow.*match=some"):
        require_match(match, some=False, features_only_possible=False)
    require_match(match, some=True, features_only_possible=False)


def test_no_overlap_is_refused_unless_features_alone_are_taught():
    match = match_classes({0: "cat"}, {0: "cow"})
    for some, features in ((False, False), (False, True), (True, False)):
        with pytest.raises(RequestError, match=r"no class in common.*cat.*cow"):
            require_match(match, some=some, features_only_possible=features)
    require_match(match, some=True, features_only_possible=True)


def test_classes_that_are_not_to_be_learnt_are_left_out():
    match = match_classes({0: "cat", 1: "dog", 2: "fox"}, {0: "dog", 1: "cat"}).only(["dog"])
    assert (match.student, match.sources, match.matched, match.untaught) == ([1], [(0,)], ["dog"], [])
    require_match(match, some=False, features_only_possible=False)  # nobody asks for foxes


def test_long_lists_are_cut():
    match = match_classes({0: "a"}, {i: f"class{i}" for i in range(80)})
    assert "and 72 more" in str(match)


def test_a_class_map_alone_says_what_matches():
    teacher = {0: "car", 1: "Bus", 2: "person", 3: "cat"}
    match = match_classes(
        {0: "cat", 1: "vehicle", 2: "human"}, teacher, {"car": "vehicle", "bus": "Vehicle", "person": "human"}
    )
    assert match.student == [1, 2]
    assert match.sources == [(0, 1), (2,)]
    assert match.teacher == [0, 2]
    assert (match.untaught, match.unused) == (["cat"], ["cat"])
    assert match.table(teacher).splitlines() == [
        "  vehicle  taught by  car or Bus", "  human    taught by  person", "  cat      taught by  nobody",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("class_map", "message"),
    [
        ({"lorry": "vehicle"}, "the teacher has no class 'lorry'"),
        ({"cars": "vehicle"}, "the teacher has no class 'cars'; did you mean 'car'?"),
        ({"car": "vehicles"}, "the data has no class 'vehicles'; did you mean 'vehicle'?"),
    ],
)
def test_a_map_with_a_class_that_nobody_has(class_map, message):
    with pytest.raises(RequestError, match=re.escape(message)):
        match_classes({0: "vehicle"}, {0: "car"}, class_map)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read"), ("", "holds nothing"), ("- a\n- b\n", "holds a list"), ("a: [b, c]\n", "'a' goes to"),
        ("a: b: c\n", "is not YAML"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_class_map(text, message, tmp_path):
    if text is not None:
        (tmp_path / "map.yaml").write_text(text)
    with pytest.raises(RequestError, match=message):
        read_class_map(tmp_path / "map.yaml")
    (tmp_path / "map.yaml").write_text("0: 1\ncar: vehicle\n")
    assert read_class_map(tmp_path / "map.yaml") == {"0": "1", "car": "vehicle"}


@pytest.mark.parametrize(
    ("settings", "taught"),
    [
        ({}, "abc"),
        ({"classes": 1}, "b"),
        ({"classes": [0, 2]}, "ac"),
        ({"classes": (0, 2)}, "ac"),  # what classes=0,2 is read as
        ({"classes": [0], "single_cls": True}, "abc"),
    ],
)
def test_the_classes_that_a_run_teaches(settings, taught):
    assert taught_names(dict(enumerate("abc")), settings) == list(taught)
