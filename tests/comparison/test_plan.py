"""A folder belongs to one comparison: what may change from call to call, and what is said about the rest."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from ultralytics.nn.tasks import yaml_model_load

from yolo_distill.comparison.arms import Arm, folder_name, read_arms
from yolo_distill.comparison.plan import Plan, earlier_plan, joined, make_folder, write_plan
from yolo_distill.engine.provenance import Source, source_of_data, source_of_model
from yolo_distill.errors import RequestError


def arms(words: str = "plain,distilled", **host: object) -> dict[str, Arm]:
    return read_arms(words, recipe="default", own={}, host={"epochs": 2, **host}, teacher="t.pt")


@pytest.fixture
def kept(plan: Plan, tmp_path: Path) -> Callable[..., Plan]:
    """Write the plan of a comparison; return a function that asks for another in the same folder."""
    plan.arms = arms()
    make_folder(tmp_path / "out")
    write_plan(tmp_path / "out", plan)
    for name in ("teacher", "plain-s0", "distilled-s1"):
        (tmp_path / "out" / name).mkdir()
        (tmp_path / "out" / name / "run.json").write_text("{}")

    def ask(**changes: object) -> Plan:
        before = earlier_plan(tmp_path / "out")
        assert before is not None
        return joined(before, dataclasses.replace(plan, precision=None, **changes), tmp_path / "out")

    return ask


def test_the_same_again_is_the_same(kept: Callable[..., Plan], plan: Plan) -> None:
    assert kept().as_dict() == plan.as_dict()


def test_seeds_and_arms_join_what_is_there(kept: Callable[..., Plan]) -> None:
    found = kept(seeds=[7, 1], arms=arms("host,plain"))
    assert found.seeds == [0, 1, 2, 7]
    assert list(found.arms) == ["plain", "distilled", "host"]
    assert found.precision == "fp32"


def test_what_belongs_to_the_machine_may_differ(kept: Callable[..., Plan]) -> None:
    found = kept(settings={"epochs": 2, "device": "1", "workers": 3}, arms=arms(device="1", workers=3))
    assert found.arms["plain"].host["device"] == "1"


def test_files_may_lie_elsewhere(kept: Callable[..., Plan], plan: Plan) -> None:
    moved = {key: dataclasses.replace(getattr(plan, key), file="/elsewhere") for key in ("teacher", "student", "data")}
    assert kept(**moved).teacher.file == "/elsewhere"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"settings": {"epochs": 3}, "arms": arms(epochs=3)}, "(epochs: 2 there, 3 here)"),
        ({"settings": {"epochs": 2, "lr0": 0.1}, "arms": arms(lr0=0.1)}, "(lr0: not given there, 0.1 here)"),
        ({"settings": {}, "arms": read_arms("plain", recipe="default", own={}, host={}, teacher="t.pt")},
         "(epochs: 2 there, not given here)"),
        ({"imgsz": 128}, "(imgsz: 64 there, 128 here)"),
        ({"teacher_epochs": 9}, "(teacher_epochs: not given there, 9 here)"),
        ({"teacher": Source("t.pt", "", "cc")}, "(teacher: t.pt was changed)"),
        ({"teacher": Source("u.pt", "", "cc")}, "(teacher: t.pt there, u.pt here)"),
        ({"student": Source("yolo11n.yaml", "", None)}, "(student: yolo26n.yaml there, yolo11n.yaml here)"),
        ({"data": Source("tiny/data.yaml", "", "cc")}, "(data: tiny/data.yaml was changed)"),
        ({"data": Source("other.yaml", "", "cc")}, "(data: tiny/data.yaml there, other.yaml here)"),
        ({"arms": {**arms(), "distilled": arms("distilled@logit=9")["distilled@logit=9"]}},
         "(arm distilled, logit: not given there, 9.0 here)"),
    ],
)  # fmt: skip
def test_other_settings_are_refused_and_named(changes: dict[str, object], says: str, kept: Callable[..., Plan]) -> None:
    with pytest.raises(RequestError) as caught:
        kept(**changes)
    assert "holds a comparison with other settings" in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_was_never_begun_may_be_asked_for_anew(kept: Callable[..., Plan], tmp_path: Path) -> None:
    """A mistake that was found before anything was trained locks no folder."""
    other = {**arms(), "distilled": arms("distilled@logit=9")["distilled@logit=9"]}
    (tmp_path / "out" / "distilled-s1" / "run.json").unlink()
    (tmp_path / "out" / "distilled-s1" / "error.txt").write_text("no such file")
    recipe = kept(arms=other).arms["distilled"].recipe
    assert recipe is not None
    assert recipe["logit"] == 9
    with pytest.raises(RequestError, match="epochs: 2 there, 3 here"):
        kept(settings={"epochs": 3}, arms=arms(epochs=3))
    for name in ("teacher", "plain-s0"):
        (tmp_path / "out" / name / "run.json").unlink()
    assert kept(settings={"epochs": 3}, arms=arms(epochs=3)).settings == {"epochs": 3}


def test_files_that_a_recipe_names_are_known_by_content(kept: Callable[..., Plan], tmp_path: Path) -> None:
    names = tmp_path / "map.yaml"
    found = []
    for text in ("a: b", "a: c"):
        names.write_text(text)
        found.append(arms(f"plain,distilled@class_map={names}"))
    label = list(found[0])[1]
    kept(arms=found[0])
    write_plan(tmp_path / "out", kept(arms=found[0]))
    folder = tmp_path / "out" / folder_name(label, 0)
    folder.mkdir()
    (folder / "epochs.jsonl").write_text("{}")
    kept(arms=found[0])
    with pytest.raises(RequestError, match="class_map: was changed"):
        kept(arms=found[1])


def test_an_architecture_of_ones_own_is_known_by_what_it_says(tmp_path: Path) -> None:
    file = tmp_path / "yolo26n-mine.yaml"
    text = (yaml_model_load("yolo26n.yaml") | {"activation": "torch.nn.ReLU()"}).items()
    file.write_text(yaml.safe_dump(dict(text)))
    one = source_of_model(str(file), "student", 2, trust=False)
    file.write_text(file.read_text().replace("ReLU", "SiLU"))
    other = source_of_model(str(file), "student", 2, trust=False)
    assert None not in {one.digest, other.digest}
    assert one.digest != other.digest
    assert source_of_model("yolo26n.yaml", "student", 2, trust=False).digest is None


def test_many_differences_are_counted(kept: Callable[..., Plan]) -> None:
    with pytest.raises(RequestError, match="; and 2 more\\)"):
        kept(settings={"epochs": 2, **{f"hsv_{c}": 0.5 for c in "hsv"}, "mosaic": 0.0, "mixup": 1.0, "scale": 0.1})


def test_a_recipe_of_an_older_version_is_no_difference(kept: Callable[..., Plan], tmp_path: Path) -> None:
    file = tmp_path / "out" / "plan.json"
    before = json.loads(file.read_text())
    del before["arms"]["distilled"]["recipe"]["unlabeled_conf"]  # a setting that there was not
    file.write_text(json.dumps(before))
    kept()


def with_settings_of_then(file: Path, **used: object) -> None:
    """Give the recipe of a plan the settings that there were, as a version that had them wrote it."""
    before = json.loads(file.read_text())
    unused = {"teacher_tta": False, "kd_every": 1, "views": 0, "teacher_cache": None, "teacher_folds": 0}
    before["arms"]["distilled"]["recipe"] |= {**unused, **used}
    file.write_text(json.dumps(before))


def test_settings_that_are_gone_and_were_not_used_are_no_difference(kept: Callable[..., Plan], tmp_path: Path) -> None:
    file = tmp_path / "out" / "plan.json"
    with_settings_of_then(file)
    more = kept(seeds=[0, 7], arms=arms("plain,distilled,init"))
    assert (more.seeds, list(more.arms)) == ([0, 1, 2, 7], ["plain", "distilled", "init"])
    write_plan(tmp_path / "out", more)
    assert "kd_every" not in file.read_text()


def test_an_arm_that_used_one_is_not_gone_on_with_and_stays(kept: Callable[..., Plan], tmp_path: Path) -> None:
    with_settings_of_then(tmp_path / "out" / "plan.json", views=10, teacher_cache="ram")
    with pytest.raises(RequestError, match=r"arm distilled: views=10: .*which is gone") as caught:
        kept()
    assert "\n" not in str(caught.value)
    assert list(kept(seeds=[7], arms=arms("plain,init")).arms) == ["plain", "distilled", "init"]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda out: out.write_text("x"), "is a file"),
        (lambda out: (out.mkdir(), (out / "holiday.jpg").write_text("x")), "holds something else (holiday.jpg)"),
        (lambda out: (out.mkdir(), (out / "plan.json").write_text("{")), "(no JSON: "),
        (lambda out: (out.mkdir(), (out / "plan.json").write_text("[]")), "(input should be a valid dictionary"),
        (lambda out: (out.mkdir(), (out / "plan.json").write_text('{"arms": {}}')), "(it lacks teacher)"),
    ],
)
def test_folders_that_are_something_else(make: Callable[[Path], object], says: str, tmp_path: Path) -> None:
    make(tmp_path / "out")
    with pytest.raises(RequestError) as caught:
        earlier_plan(tmp_path / "out")
    assert says in str(caught.value)
    assert str(tmp_path / "out") in str(caught.value)


def test_a_damaged_field_is_named(kept: Callable[..., Plan], tmp_path: Path) -> None:
    file = tmp_path / "out" / "plan.json"
    before = json.loads(file.read_text())
    before["arms"]["distilled"]["host"] = [1]
    file.write_text(json.dumps(before))
    with pytest.raises(RequestError) as caught:
        earlier_plan(tmp_path / "out")
    assert str(caught.value) == (
        f"{file}: is not the plan of a comparison (arms.distilled.host: input should be a valid dictionary, "
        "received [1]); give another out="
    )


def test_a_job_comes_back_as_it_was_written(tmp_path: Path, plan: Plan) -> None:
    from yolo_distill.comparison.job import read_job
    from yolo_distill.comparison.runs import job_of, run_of

    folder = tmp_path / "a name that is no UTF-8: \udcff"
    run = run_of(folder, plan.arms["distilled"], 1)
    job = job_of(run, plan, threads=2, device="0", trust=True)
    file = job.write()
    assert read_job(file) == job
    file.write_text(file.read_text().replace('"seed": 1,', '"seed": "one",'))
    with pytest.raises(RequestError, match=r"is not the job of a run \(seed: input should be a valid integer, .*'one'"):
        read_job(file)


def test_an_empty_folder_or_none_is_free(tmp_path: Path) -> None:
    assert earlier_plan(tmp_path / "none") is None
    (tmp_path / ".lock").touch()
    assert earlier_plan(tmp_path) is None


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RequestError, match="cannot be made"):
        make_folder(tmp_path / "file" / "out")


def test_data_is_known_by_what_it_holds(tiny_data: Path, tmp_path: Path) -> None:
    import shutil

    from yolo_distill.data.dataset import check_data

    shutil.copytree(tiny_data.parent, tmp_path / "copy")
    file = tmp_path / "copy" / "data.yaml"
    file.write_text(file.read_text().replace(str(tiny_data.parent), str(tmp_path / "copy")))
    splits = ["train", "val", "test"]
    one, other = (source_of_data(check_data(path), splits) for path in (tiny_data, file))
    assert one.digest == other.digest
    assert (other.name, other.file) == ("copy/data.yaml", str(file))
    label = next((tmp_path / "copy" / "labels" / "test").glob("*.txt"))
    text = label.read_text()
    label.write_text(("1" if text[0] == "0" else "0") + text[1:])
    assert source_of_data(check_data(file), splits).digest != one.digest
    label.write_text(text)
    assert source_of_data(check_data(file), splits).digest == one.digest
    # The host passes over what it cannot read, and so does this.
    (label.parents[2] / "images" / "test" / "gone.jpg").symlink_to("nowhere.jpg")
    assert source_of_data(check_data(file), splits).digest != one.digest
    (label.parents[2] / "images" / "test" / "gone.jpg").unlink()
    file.write_text(file.read_text().replace("disc", "disk"))
    assert source_of_data(check_data(file), splits).digest != one.digest


def test_the_teacher_computes_in_one_precision_in_all_runs(tmp_path: Path, plan: Plan) -> None:
    from yolo_distill.comparison.runs import job_of, run_of

    taught = {"assistant": None, "init": "auto", "teacher_precision": "auto"}
    plan.arms = {
        "alone": Arm("alone", "distilled", {}, dict(taught)),
        "bf16": Arm("bf16", "distilled", {}, {**taught, "teacher_precision": "bf16"}),
        "taught": Arm("taught", "distilled", {}, dict(taught)),
    }

    def precision(label: str, seed: int) -> str:
        job = job_of(run_of(tmp_path, plan.arms[label], seed), plan, threads=1, device=None, trust=False)
        assert job.recipe is not None
        return str(job.recipe["teacher_precision"])

    for label, chosen in (("alone", "auto"), ("bf16", "bf16")):  # that one was not taught, this one was told
        folder = run_of(tmp_path, plan.arms[label], 0).folder
        folder.mkdir()
        (folder / "recipe.yaml").write_text(f"teacher_precision: {chosen}\n")
    assert precision("taught", 1) == "auto"
    folder = run_of(tmp_path, plan.arms["taught"], 0).folder
    folder.mkdir()
    (folder / "recipe.yaml").write_text("teacher_precision: int8\n")
    assert [precision("taught", 1), precision("alone", 2), precision("bf16", 1)] == ["int8", "int8", "bf16"]
    folder = run_of(tmp_path, plan.arms["taught"], 2).folder  # begun beside the first one, before that had chosen
    folder.mkdir()
    (folder / "recipe.yaml").write_text("teacher_precision: fp32\n")
    assert precision("taught", 2) == "fp32"


def test_all_arms_get_the_steps_of_the_comparison(plan: Plan, tiny_data: Path) -> None:
    from yolo_distill.comparison.request import _give_steps
    from yolo_distill.data.dataset import check_data

    found = check_data(tiny_data, ("train", "val"))
    plan.settings = {"epochs": 2, "batch": 2}
    plan.arms = {
        "plain": Arm("plain", "plain", {"epochs": 2, "batch": 2}),
        "host": Arm("host", "host", {"epochs": 2, "batch": 2, "nbs": 64}),
        "plain@batch=4": Arm("plain@batch=4", "plain", {"epochs": 2, "batch": 4}),
    }
    _give_steps(plan, found, None)
    assert plan.settings["nbs"] == 2
    assert [arm.host["nbs"] for arm in plan.arms.values()] == [2, 64, 4]  # each batch a step, but where it was given

    plan.settings, arm = {"epochs": 2, "batch": 2}, Arm("plain", "plain", {"epochs": 2, "batch": 2})
    plan.arms = {"plain": arm}
    _give_steps(plan, found, {"settings": {"epochs": 2}})  # begun by an older version
    assert plan.arms == {"plain": arm}
