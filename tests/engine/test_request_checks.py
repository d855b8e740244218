"""What can be refused, or is without effect, is said before anything is trained."""

from __future__ import annotations

import re

import pytest

from yolo_distill.engine.request_checks import require_teachable, without_effect
from yolo_distill.errors import RequestError
from yolo_distill.recipe import make_recipe


def recipe(**settings):
    return make_recipe({"teacher": "t.pt", **settings})


@pytest.mark.parametrize(
    ("settings", "host", "message"),
    [
        ({"balance": "auto"}, {"compile": True}, r"balance=auto: .*leave compile=True out"),
        ({"schedule.logit": "mosaic"}, {"epochs": 10}, r"schedule\.logit=mosaic: with epochs=10 and close_mosaic=10"),
        ({"teacher_imgsz": 640}, {"imgsz": 320, "rect": True}, "teacher_imgsz=640: .*rect=False"),
        ({"schedule": "mosaic"}, {"epochs": 3, "close_mosaic": 5}, "nothing would be taught; give close_mosaic=0"),
    ],
)
def test_refused(settings, host, message):
    with pytest.raises(RequestError, match=message):
        require_teachable(recipe(**settings), host)


@pytest.mark.parametrize(
    ("settings", "host"),
    [
        ({"balance": "auto"}, {}),
        ({}, {"compile": True}),
        ({"balance": "auto", "logit": 0, "localization": 0}, {"compile": True}),
        ({"schedule.cwd": "mosaic"}, {"epochs": 3}),  # a term without gain, or that may do without
        ({"teacher_imgsz": 128}, {"imgsz": [64, 64]}),
        ({"schedule": "mosaic"}, {"epochs": 3, "time": 1}),  # how many epochs there will be is not known
    ],
)
def test_taken(settings, host):
    require_teachable(recipe(**settings), host)


SHARES = {"balance": "auto", "teach": True}


@pytest.mark.parametrize(
    ("given", "where", "line"),
    [
        ({"share.logit": 0.3}, {}, "share.logit= has no effect without balance=auto"),
        ({"schedule.pkd": "cosine"}, {}, "schedule.pkd= has no effect: pkd has no gain; give pkd=1"),
        ({"schedule.cwd": "cosine"}, {"starts_inside": False}, "schedule.cwd= has no effect: cwd has no gain"),
        ({"init_fit": True}, {"starts_inside": False}, "init_fit= .*give init=teacher"),
        ({"teacher_epochs": 10}, {"trains_teacher": False}, r"teacher_epochs= .*t\.pt is not trained here"),
        ({**SHARES, "share.logit": 0.5, "share.localization": 0.4}, {}, r"cwd is left out: .*1 or more"),
        ({**SHARES, "share.logit": 0.8, "share.cwd": 0.2}, {}, r"cwd is left out: .*1 or more"),
        ({"logit": 0}, {}, "logit= has no effect: .*in 1 optimizer steps .*teach=true"),
        ({"teach": False, "logit": 1}, {}, "logit= has no effect with teach=false"),
        ({"teach": False, "box_floor": 0.1}, {}, "box_floor= has no effect with teach=false"),
        ({"kd_until": 0.5}, {}, "kd_until= has no effect: .*teach=true"),
        ({"balance": "auto"}, {}, "balance= has no effect: .*teach=true"),
        ({"teacher_precision": "int8"}, {}, "teacher_precision= has no effect: the student trains alone"),
        ({"hinton_tau": 4}, {}, "hinton_tau= has no effect: hinton has no gain; give hinton=1"),
    ],
)
def test_settings_that_do_nothing_are_said(given, where, line):
    (said,) = without_effect(
        given, recipe(**given), **{"starts_inside": True, "trains_teacher": True, "steps": 1, **where}
    )
    assert re.search(line, said)


@pytest.mark.parametrize(
    ("given", "inside"),
    [
        ({**SHARES, "share.logit": 0.3, "share.cwd": 0.1, "schedule": "cosine", "teacher_epochs": 3}, True),
        ({"init_fit": True, "cwd": 0, "logit": 1}, True),
        ({"logit_gamma": 2.0, "teach": True}, True),
        ({"teacher_precision": "int8", "cwd": 1}, True),
        ({"teacher_precision": "int8", "logit": 0}, False),
    ],
)
def test_settings_that_do_something_are_not(given, inside):
    assert without_effect(given, recipe(**given), starts_inside=inside, trains_teacher=True) == []
