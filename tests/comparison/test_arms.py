"""What the words of `arms=` and `seeds=` mean, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from yolo_distill.comparison.arms import Arm, check_host_settings, folder_name, read_arms, read_seeds
from yolo_distill.errors import RequestError
from yolo_distill.recipe import make_recipe

DEFAULT = make_recipe({"teacher": "t.pt"}).model_dump()


def read(words: str, recipe: str = "default", own: Any = None, host: Any = None) -> dict[str, Arm]:
    return read_arms(words, recipe=recipe, own=own or {}, host=host or {"epochs": 5}, teacher="t.pt")


def test_the_three_arms() -> None:
    assert read("plain,host,distilled") == {
        "plain": Arm("plain", "plain", {"epochs": 5}),
        "host": Arm("host", "host", {"epochs": 5}),
        "distilled": Arm("distilled", "distilled", {"epochs": 5}, DEFAULT),
    }


def test_changes_of_one_arm() -> None:
    arms = read("plain@epochs=9,host@dis=2,distilled@logit=0@share.localization=0.3@mosaic=0.5,distilled")
    assert arms["plain@epochs=9"].host == {"epochs": 9}
    assert arms["host@dis=2"].host == {"epochs": 5, "dis": 2}
    changed = arms["distilled@logit=0@share.localization=0.3@mosaic=0.5"]
    assert changed.host == {"epochs": 5, "mosaic": 0.5}
    assert changed.recipe == {**DEFAULT, "logit": 0.0, "share": {**DEFAULT["share"], "localization": 0.3}}
    assert arms["distilled"].recipe == DEFAULT


def test_a_recipe_by_path_under_what_is_given_for_all(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("cwd: 2.0\nlogit: 3.0\nmosaic: 0.0\nepochs: 50\n")
    arms = read(f"plain,{file},{file}@logit=7", own={"logit": 0.5}, host={"epochs": 5})
    assert list(arms) == ["plain", "mine", "mine@logit=7"]
    # Given for all beats the file, given for the arm beats both.
    assert arms["mine"].recipe == {**DEFAULT, "cwd": 2.0, "logit": 0.5}
    assert arms["mine"].host == {"mosaic": 0.0, "epochs": 5}
    assert arms["mine@logit=7"].recipe == {**DEFAULT, "cwd": 2.0, "logit": 7.0}
    assert arms["plain"].host == {"epochs": 5}
    file.write_text("cwd: 2.0\nlogit: 3.0\nimgsz: 320\n")  # a size that all have
    assert read(f"plain,{file}", host={"imgsz": 320})["mine"].host == {"imgsz": 320}
    assert read(f"plain,{file}@logit=null", host={"imgsz": 320})["mine@logit=null"].recipe == {**DEFAULT, "cwd": 2.0}
    arms = read("distilled,default", recipe=str(file), own={"logit": 0.5}, host={"imgsz": 320})
    assert arms["distilled"].recipe == {**DEFAULT, "cwd": 2.0, "logit": 0.5}
    assert arms["default"].recipe == {**DEFAULT, "logit": 0.5}


def test_settings_of_ultralytics_in_the_recipe_of_the_command_hold_for_all(tmp_path: Path, caplog: Any) -> None:
    (tmp_path / "mine.yaml").write_text("cwd: 2.0\nepochs: 50\nimgsz: 320\nmosaic: 0.0\n")
    (tmp_path / "other.yaml").write_text("imgsz: 320\nmosaic: 0.5\nlr0: 0.1\n")
    words = f"plain,host,distilled,{tmp_path / 'other.yaml'}@lr0=0.2"
    arms = read(words, recipe=str(tmp_path / "mine.yaml"), host={"epochs": 5})
    for_all = {"epochs": 5, "imgsz": 320, "mosaic": 0.0}
    assert [arms[label].host for label in ("plain", "host", "distilled")] == [for_all] * 3
    assert arms["other@lr0=0.2"].host == {**for_all, "mosaic": 0.5, "lr0": 0.2}
    (said,) = [entry.message for entry in caplog.records]
    assert "arm other@lr0=0.2: mosaic in its file: for this arm alone; for all arms give it to the command" in said


def test_a_list_in_brackets_is_one_value() -> None:
    assert read("plain@freeze=[0,1],distilled")["plain@freeze=[0,1]"].host["freeze"] == [0, 1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("defualt", "unknown arm 'defualt'; did you mean 'default'?"),
        ("plain,xyzzy", "unknown arm 'xyzzy' (known: plain, host, distilled, "),
        ("nowhere/r.yaml", "no such recipe: nowhere/r.yaml"),
        ("plain,plain", "two arms are called plain"),
        ("plain,,host", "an arm between two commas has no name"),
        ("distilled@logt=1", "arms=distilled@logt=1: unknown key 'logt'; did you mean 'logit'?"),
        ("distilled@logit", "'@logit' is not of the form @key=value"),
        ("distilled@logit=-1", "arms=distilled@logit=-1: logit=-1"),
        ("distilled@balance=atuo", "balance=atuo: input should be 'fixed' or 'auto'; did you mean 'auto'?"),
        ("plain,cfg/cdw.yaml", "no such recipe: cfg/cdw.yaml; did you mean 'cwd'?"),
        ("plain,host@dis=-1", "arms=host@dis=-1: dis=-1: a gain is 0 or more"),
        ("plain,host,host@dis=6.0", "host@dis=6.0 is the same as host; leave one of them out"),
        ("distilled@logit=3,distilled@logit=3.0", "distilled@logit=3.0 is the same as distilled@logit=3"),
        ("distilled@dis=2", "dis= does not belong here: it belongs to the arm host"),
        ("plain@logit=1", "logit= is for a recipe of ours, and plain has none"),
        ("plain@epochs=many", "epochs=many"),
        ("plain@pretrained=x.pt", "pretrained=x.pt: all arms start from one student; give student=x.pt"),
        ("plain@seed=3", "seed= does not belong here: give seeds=0,1,2"),
        ("distilled@teacher=x.pt", "teacher= does not belong there: one for all arms"),
        ("plain@amp=false", "amp= does not belong there: one for all arms"),
        ("plain@epochs=3@epochs=4", "arms=plain@epochs=3@epochs=4: epochs= is there twice"),
        ("plain@name=x", "name= does not belong here"),
        ("plain,seed.yaml", "seed.yaml: seed= does not belong here: give seeds=0,1,2"),
        ("plain,size.yaml", "size.yaml: imgsz=320 in its recipe does not belong there: one for all"),
        ("plain,longer.yaml", "longer.yaml: teacher_epochs= in its recipe does not belong there: one for all"),
    ],
)
def test_arms_that_are_refused(words: str, says: str) -> None:
    Path("seed.yaml").write_text("seed: 7\n")
    Path("size.yaml").write_text("imgsz: 320\n")
    Path("longer.yaml").write_text("teacher_epochs: 9\n")
    with pytest.raises(RequestError) as caught:
        read(words)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "says"),
    [
        ({"epocs": 3}, "unknown key 'epocs'; did you mean 'epochs'?"),
        ({"project": "x"}, "project= does not belong here: the folder is given as out="),
        ({"resume": True}, "resume= does not belong here: the same command goes on"),
        ({"dis": 2}, "dis= does not belong here"),
        ({"pretrained": "x.pt"}, "pretrained=x.pt: all arms start from one student"),
        ({"time": 1.0}, "time= does not belong here"),
        ({"epochs": 0.5}, "epochs=0.5"),
        ({"data": "x.yaml"}, "data= does not belong here: one for all arms"),
        ({"batch": -1}, "batch=-1: each arm would find a batch of its own"),
    ],
)
def test_settings_for_all_that_are_refused(host: dict[str, Any], says: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_host_settings(host)
    assert says in str(caught.value)


def test_a_file_that_is_called_as_an_arm_of_our_own_keeps_its_whole_name(tmp_path: Path) -> None:
    for number, name in enumerate(("host", "plain", "distilled", "teacher", "mine")):
        (tmp_path / f"{name}.yaml").write_text(f"cwd: {1.0 + number}\n")
    arms = read(",".join(["plain", "host", *(f"{tmp_path}/{name}.yaml" for name in ("host", "teacher", "mine"))]))
    assert list(arms) == ["plain", "host", "host.yaml", "teacher.yaml", "mine"]
    assert arms["host"].recipe is None
    assert arms["host.yaml"].recipe == {**DEFAULT, "cwd": 1.0}


def test_the_recipes_of_the_package_are_found_without_a_checkout() -> None:
    arms = read("plain,cfg/default.yaml")  # in an empty folder
    assert arms["default"].recipe == DEFAULT


def test_seeds() -> None:
    assert read_seeds("0, 2,1") == [0, 2, 1]
    twice, none = "1 is there twice", "is not a whole number"
    wrong = {
        "0,1,1": twice,
        "0,01,1": twice,
        "0,-1": none,
        "0,,1": none,
        "1.5": none,
        "": none,
        f"{2**31}": "too large",
    }
    for text, says in wrong.items():
        with pytest.raises(RequestError, match=f"seeds={text}: .*{says}"):
            read_seeds(text)


def test_every_run_has_a_folder_of_its_own() -> None:
    labels = ["plain", "plain (equal time)", "plain-equal-time", "a@pretrained=../x.pt", "a@pretrained=..-x.pt"]
    labels += ["é", "è", "d" + "@logit=0.123" * 20, "d" + "@logit=0.123" * 21]
    names = [folder_name(label, seed) for label in labels for seed in (0, 1)]
    assert len(set(names)) == len(names)
    assert folder_name("distilled@logit=0.5", 3) == "distilled@logit=0.5-s3"
    assert all("/" not in name and len(name) < 120 for name in names)
