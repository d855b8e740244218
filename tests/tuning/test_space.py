"""A space says what may vary, and every line that cannot be followed is answered by one that says how to write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from yolo_distill.commands import tune
from yolo_distill.errors import RequestError
from yolo_distill.tuning.space import Range, read_space


def test_the_three_forms(tmp_path: Path) -> None:
    file = tmp_path / "space.yaml"
    file.write_text(
        "lr0: [1e-3, 0.02, log]\nlogit: [0, 2]\nclose_mosaic: [0, 20]\nkd_until: {choose: [null, 0.5]}\n"
        "share.logit: [0.1, 0.3]\nteach: {choose: [auto, false]}\n"
    )
    assert read_space(str(file), ()) == {
        "lr0": Range(0.001, 0.02, log=True),
        "logit": Range(0, 2),
        "close_mosaic": Range(0, 20, whole=True),
        "kd_until": Range(choices=(None, 0.5)),
        "share.logit": Range(0.1, 0.3),
        "teach": Range(choices=("auto", False)),
    }


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("lr0: [0.02, 0.001]", "lr0: [0.02, 0.001] goes from 0.02 to 0.001; write the smaller number first"),
        ("lr0: [0, 0.02, log]", "lr0: [0, 0.02, 'log'] is by magnitude, which has no 0; begin above 0"),
        ("lr0: 0.01", "lr0: 0.01 is no range and no choice; write [low, high], [low, high, log] or {choose: [a, b]}"),
        ("lr0: [0.01, fast]", "lr0: 'fast' is no number; write [low, high]"),
        ("lr0: [0.01, 0.02, lin]", "is no range and no choice"),
        ("logt: [0, 2]", "unknown key 'logt'; did you mean 'logit'?"),
        ("logit: [-1, 2]", "logit=-1.0: must be between 0 and"),
        ("init: [0, 2]", "init: takes no numbers; write {choose: [a, b]}"),
        ("optimizer: [0, 2]", "optimizer: takes no numbers"),
        ("init: {choose: [teacher, fit]}", "init=fit: not one of auto, teacher, student, try"),
        ("init: {choose: [teacher]}", "init: a choice needs two values or more, got ['teacher']"),
        ("close_mosaic: [0.5, 2]", "close_mosaic: [0.5, 2]: takes whole numbers"),
        ("epochs: [10, 20]", "epochs cannot vary: the longest run would win: give it to the command"),
        ("student_width: [0.1, 0.3]", "student_width cannot vary: by accuracy alone the largest student would win"),
        ("imgsz: {choose: [320, 640]}", "imgsz cannot vary: it is one for all trials: give it to the command"),
        ("cwd: [0, 2]", "cwd is given to the command as well; leave one of them out"),
        ("- lr0", "expected a line for each setting that may vary"),
        ("{", "is not YAML"),
    ],
)
def test_a_line_that_cannot_be_followed(line: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(f"{line}\n")
    with pytest.raises(RequestError) as refused:
        read_space(str(tmp_path / "space.yaml"), {"cwd"})
    assert str(refused.value).startswith(f"space={tmp_path}/space.yaml: ")
    assert says in str(refused.value)


def test_the_space_that_comes_along() -> None:
    assert {"optimizer", "lr0", "teach", "logit"} <= read_space("default", ()).keys()
    with pytest.raises(RequestError, match="space=defalt: no such space; give default"):
        read_space("defalt", ())


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "find_spec", lambda module: None if module == "ray" else module)
    with pytest.raises(RequestError) as refused:
        tune.call({"space": "default"}, {})
    assert str(refused.value) == "tune needs 'ray', which is not installed: pip install 'yolo-distill[train,ray]'"
