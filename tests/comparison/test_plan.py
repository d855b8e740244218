"""A folder belongs to one comparison: what may change from call to call, and what is said about the rest."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from ultralytics.nn.tasks import yaml_model_load

from yolo_distill.comparison.arms import Arm, folder_name, read_arms
from yolo_distill.comparison.plan import Plan, earlier_plan, joined, write_plan
from yolo_distill.comparison.request import _give_steps
from yolo_distill.comparison.runs import job_of, read_job, run_of, trained_arms
from yolo_distill.data.dataset import check_data
from yolo_distill.engine.provenance import Source, source_of_data, source_of_student
from yolo_distill.errors import RequestError


def arms(words: str = "plain,distilled", **host: object) -> dict[str, Arm]:
    return read_arms(words, recipe="default", own={}, host={"epochs": 2, **host}, teacher="t.pt")


OTHER_LOGIT = {**arms(), "distilled": arms("distilled@logit=9")["distilled@logit=9"]}


@pytest.fixture
def out(plan: Plan, tmp_path: Path) -> Path:
    """Return the folder of a comparison of which teacher, one run of plain and one of distilled are finished."""
    plan.arms = arms()
    for name in ("teacher", "plain-s0", "distilled-s1"):
        (tmp_path / "out" / name).mkdir(parents=True)
        (tmp_path / "out" / name / "run.json").write_text("{}")
    write_plan(tmp_path / "out", plan)
    return tmp_path / "out"


@pytest.fixture
def ask(plan: Plan, out: Path) -> Callable[..., Plan]:
    """Return a function that asks for another comparison in the same folder."""

    def ask(**changes: object) -> Plan:
        before = earlier_plan(out)
        assert before is not None
        return joined(before, dataclasses.replace(plan, precision=None, **changes), out, trained_arms(out, before))

    return ask


def test_the_same_again_is_the_same_wherever_its_files_lie(ask: Callable[..., Plan], plan: Plan) -> None:
    assert ask().as_dict() == plan.as_dict()
    moved = {key: dataclasses.replace(getattr(plan, key), file="/elsewhere") for key in ("teacher", "student", "data")}
    assert ask(**moved).teacher.file == "/elsewhere"


def test_what_is_given_as_it_is_by_default_is_no_other_setting(ask: Callable[..., Plan]) -> None:
    given, own = {"epochs": 2, "patience": 100}, {"force": True}
    same = read_arms("plain,distilled", recipe="default", own=own, host={**given, "lr0": 0.01}, teacher="t.pt")
    assert ask(settings=given, arms=same).settings == given


def test_seeds_arms_and_what_belongs_to_the_machine_may_differ(ask: Callable[..., Plan]) -> None:
    found = ask(seeds=[7, 1], arms=arms("host,plain", device="1", workers=3))
    assert found.seeds == [0, 1, 2, 7]
    assert list(found.arms) == ["plain", "distilled", "host"]
    assert found.arms["plain"].host["device"] == "1"
    assert found.precision == "fp32"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"settings": {"epochs": 3}, "arms": arms(epochs=3)}, "(epochs: 2 there, 3 here)"),
        ({"settings": {}, "arms": read_arms("plain", recipe="default", own={}, host={}, teacher="t.pt")},
         "(epochs: 2 there, not given here)"),
        ({"settings": {"epochs": 2, **dict.fromkeys(("hsv_h", "hsv_s", "hsv_v", "mosaic", "mixup", "shear"), 0.5)}},
         "; and 2 more)"),
        ({"settings": {"epochs": 2, "batch": 8}, "arms": arms(batch=8, nbs=8)},
         "settings (batch: not given there, 8 here);"),
        ({"settings": {"epochs": 2, "lr0": 0.01}, "arms": arms(lr0=0.1)}, "lr0: not given there, 0.1 here"),
        ({"imgsz": 128}, "(imgsz: 64 there, 128 here)"),
        ({"teacher_epochs": 9}, "(teacher_epochs: not given there, 9 here)"),
        ({"teacher": Source("t.pt", "", "cc")}, "(teacher: t.pt was changed)"),
        ({"student": Source("yolo11n.yaml", "", None)}, "(student: yolo26n.yaml there, yolo11n.yaml here)"),
        ({"data": Source("other.yaml", "", "cc")}, "(data: tiny/data.yaml there, other.yaml here)"),
        ({"arms": OTHER_LOGIT}, "(arm distilled, logit: not given there, 9.0 here)"),
    ],
)  # fmt: skip
def test_other_settings_are_refused_and_named(changes: dict[str, object], says: str, ask: Callable[..., Plan]) -> None:
    with pytest.raises(RequestError) as caught:
        ask(**changes)
    assert "holds a comparison with other settings" in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_was_never_begun_may_be_asked_for_anew(ask: Callable[..., Plan], out: Path) -> None:
    """A mistake that was found before anything was trained locks no folder."""
    (out / "distilled-s1" / "run.json").rename(out / "distilled-s1" / "error.txt")
    recipe = ask(arms=OTHER_LOGIT).arms["distilled"].recipe
    assert recipe is not None
    assert recipe["logit"] == 9
    for name in ("teacher", "plain-s0"):
        (out / name / "run.json").unlink()
    assert ask(settings={"epochs": 3}, arms=arms(epochs=3)).settings == {"epochs": 3}


def test_files_that_a_recipe_names_are_known_by_content(ask: Callable[..., Plan], out: Path, tmp_path: Path) -> None:
    found = []
    for text in ("a: b", "a: c"):
        (tmp_path / "map.yaml").write_text(text)
        found.append(arms(f"plain,distilled@class_map={tmp_path / 'map.yaml'}"))
    write_plan(out, ask(arms=found[0]))
    begun = out / folder_name(list(found[0])[1], 0)
    begun.mkdir()
    (begun / "epochs.jsonl").write_text("{}")
    ask(arms=found[0])
    with pytest.raises(RequestError, match="class_map: was changed"):
        ask(arms=found[1])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "is a file"),
        ({"holiday.jpg": "x"}, "holds something else (holiday.jpg)"),
        ({"plan.json": "{"}, "(no JSON: "),
        ({"plan.json": "[]"}, "is not the plan of a comparison (input should be a "),
        ({"plan.json": '{"arms": {}}'}, "(it lacks teacher)"),
        ({"plan.json": '{"teacher": {"digest": null}}'}, "(it lacks teacher.name)"),
        ({"plan.json": '{"teacher": 3}'}, "(teacher: input should be a "),
    ],
)
def test_folders_that_are_something_else(content: dict[str, str] | None, says: str, tmp_path: Path) -> None:
    if content is None:
        (tmp_path / "out").write_text("x")
    for name, text in (content or {}).items():
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / name).write_text(text)
    with pytest.raises(RequestError) as caught:
        earlier_plan(tmp_path / "out")
    assert says in str(caught.value)
    assert str(tmp_path / "out") in str(caught.value)


def test_a_damaged_field_is_named(out: Path) -> None:
    before = json.loads((out / "plan.json").read_text())
    before["arms"]["distilled"]["host"] = [1]
    (out / "plan.json").write_text(json.dumps(before))
    with pytest.raises(RequestError) as caught:
        earlier_plan(out)
    assert str(caught.value) == (
        f"{out / 'plan.json'}: is not the plan of a comparison (arms.distilled.host: input should be a valid "
        "dictionary, received [1]); give another out="
    )


def test_an_empty_folder_or_none_is_free(tmp_path: Path) -> None:
    assert earlier_plan(tmp_path / "none") is None
    (tmp_path / ".lock").touch()
    assert earlier_plan(tmp_path) is None


def test_a_job_comes_back_as_it_was_written(tmp_path: Path, plan: Plan) -> None:
    run = run_of(tmp_path / "a name that is no UTF-8: \udcff", plan.arms["distilled"], 1)
    job = job_of(run, plan, threads=2, device="0", trust=True)
    file = job.write()
    assert read_job(file) == job
    file.write_text(file.read_text().replace('"seed": 1,', '"seed": "one",'))
    with pytest.raises(RequestError, match=r"is not the job of a run \(seed: input should be a valid integer, .*'one'"):
        read_job(file)


def test_the_teacher_computes_in_one_precision_in_all_runs(tmp_path: Path, plan: Plan) -> None:
    taught = {"assistant": None, "init": "auto", "teacher_precision": "auto"}
    plan.arms = {
        "alone": Arm("alone", "distilled", {}, taught),
        "bf16": Arm("bf16", "distilled", {}, {**taught, "teacher_precision": "bf16"}),
        "taught": Arm("taught", "distilled", {}, taught),
    }

    def chose(label: str, seed: int, precision: str) -> None:
        folder = run_of(tmp_path, plan.arms[label], seed).folder
        folder.mkdir()
        (folder / "recipe.yaml").write_text(f"teacher_precision: {precision}\n")

    def precision(label: str, seed: int) -> str:
        job = job_of(run_of(tmp_path, plan.arms[label], seed), plan, threads=1, device=None, trust=False)
        return str((job.recipe or {})["teacher_precision"])

    chose("alone", 0, "auto")  # it was not taught
    chose("bf16", 0, "bf16")  # it was given
    assert precision("taught", 1) == "auto"
    chose("taught", 0, "int8")
    assert [precision("taught", 1), precision("alone", 2), precision("bf16", 1)] == ["int8", "int8", "bf16"]
    chose("taught", 2, "fp32")  # begun beside the first one, before that had chosen
    assert precision("taught", 2) == "fp32"


def test_all_arms_get_the_steps_of_the_comparison(plan: Plan, tiny_data: Path) -> None:
    found = check_data(tiny_data, ("train", "val"))
    plan.settings = {"epochs": 2, "batch": 2}
    plan.arms = arms("plain,host@nbs=64,plain@batch=4", batch=2)
    begun = dataclasses.replace(plan, settings={"epochs": 2})  # by an older version
    unchanged = dataclasses.replace(plan, settings=dict(plan.settings), arms=dict(plan.arms))
    _give_steps(unchanged, found, begun)
    assert unchanged == plan
    _give_steps(plan, found, None)
    assert plan.settings["nbs"] == 2
    assert [arm.host["nbs"] for arm in plan.arms.values()] == [2, 64, 4]  # each batch a step, but where it was given


def test_an_architecture_of_ones_own_is_known_by_what_it_says(tmp_path: Path) -> None:
    file = tmp_path / "yolo26n-mine.yaml"
    digests = []
    for activation in ("ReLU", "SiLU"):
        plan = yaml_model_load("yolo26n.yaml") | {"activation": f"torch.nn.{activation}()"}
        file.write_text(yaml.safe_dump(dict(plan.items())))
        digests.append(source_of_student(str(file), {"nc": 2}, trust=False).digest)
    assert None not in digests
    assert digests[0] != digests[1]
    assert source_of_student("yolo26n.yaml", {"nc": 2}, trust=False).digest is None


def test_data_is_known_by_what_it_holds(tiny_data: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_data.parent, tmp_path / "copy")
    file = tmp_path / "copy" / "data.yaml"
    file.write_text(file.read_text().replace(str(tiny_data.parent), str(tmp_path / "copy")))

    def source(data: Path) -> Source:
        return source_of_data(check_data(data), ["train", "val", "test"])

    digest = source(tiny_data).digest
    assert source(file) == Source("copy/data.yaml", str(file), digest)
    label = next((tmp_path / "copy" / "labels" / "test").glob("*.txt"))
    text = label.read_text()
    label.write_text(("1" if text[0] == "0" else "0") + text[1:])
    assert source(file).digest != digest
    label.write_text(text)
    # The host passes over what it cannot read, and so does this.
    (label.parents[2] / "images" / "test" / "gone.jpg").symlink_to("nowhere.jpg")
    assert source(file).digest != digest
    (label.parents[2] / "images" / "test" / "gone.jpg").unlink()
    assert source(file).digest == digest
    file.write_text(file.read_text().replace("disc", "disk"))
    assert source(file).digest != digest
