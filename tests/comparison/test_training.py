"""Real trainings of a few steps: the same pictures and weights in every arm, also behind an interruption."""

from __future__ import annotations

import dataclasses
import inspect
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch.utils.data import Dataset
from ultralytics.data.build import InfiniteDataLoader, seed_worker
from ultralytics.nn import tasks
from ultralytics.nn.tasks import DetectionModel
from ultralytics.utils.callbacks.base import default_callbacks
from ultralytics.utils.torch_utils import select_device

from yolo_distill.comparison import run_record, training, worker
from yolo_distill.comparison.run_monitor import RunMonitor, digest_of_weights, read_lines, seed_epoch
from yolo_distill.comparison.runs import EPOCHS, ERROR, Job
from yolo_distill.comparison.training import train
from yolo_distill.comparison.worker import main
from yolo_distill.engine.teacher_training import TeacherTrainer
from yolo_distill.errors import RequestError
from yolo_distill.recipe import USUAL, Recipe, make_recipe

pytestmark = pytest.mark.usefixtures("host_untouched")

MakeJob = Callable[..., Job]


@pytest.fixture
def job_of(tiny_data: Path, tiny_student: str, untrained: Path, tmp_path: Path) -> MakeJob:
    """Return a function that makes a job of two epochs with mosaic, whose student starts from its own weights."""

    def make(kind: str, name: str = "", **changes: Any) -> Job:
        folder = tmp_path / (name or kind)
        host = {
            "epochs": 2, "imgsz": 64, "batch": 4, "seed": 0, "device": "cpu", "plots": False, "cache": "ram",
            "close_mosaic": 0, "data": str(tiny_data), "project": str(tmp_path), "name": folder.name, "exist_ok": True,
            **changes,
        }  # fmt: skip
        recipe = make_recipe({"teacher": str(untrained), "init": "student", "cwd": 1.0, "teacher_precision": "fp32"})
        return Job(
            **{"label": kind, "kind": kind, "seed": host["seed"], "folder": str(folder), "data": str(tiny_data)},
            **{"splits": ["val"], "imgsz": 64, "teacher": str(untrained), "student": tiny_student, "host": host},
            names={"data": "tiny", "teacher": "t.pt", "student": "yolo26n.yaml"},
            recipe=recipe.model_dump() if kind == "distilled" else None,
            **{"teacher_epochs": None, "precision": "fp32", "threads": 1, "trust": False},
        )

    return make


@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_has_its_share_of_the_threads(job_of: MakeJob, monkeypatch: Any, threads: int) -> None:
    """Also once the host has selected the device, which gives torch the host's own number anew."""
    had = []

    def train(job: Job) -> Path:
        select_device("cpu", verbose=False)
        had.append(torch.get_num_threads())
        return Path("best.pt")

    monkeypatch.setattr(worker, "train", train)
    monkeypatch.setattr(worker, "make_record", lambda job, best: {})
    assert main([str(dataclasses.replace(job_of("plain"), threads=threads).write())]) == 0
    assert had == [threads]


class Pulled(Exception):
    """Stands for the power plug."""


def do(job: Job, stop_after: int | None = None) -> list[dict[str, Any]]:
    """Train a job as its process does, or up to an epoch, and return what the monitor wrote."""
    before = {event: list(listed) for event, listed in default_callbacks.items()}
    job.write()
    RunMonitor(job.path / EPOCHS, job.path, job.seed, job.precision).attach()

    def pull(trainer: Any) -> None:
        if trainer.epoch + 1 == stop_after:
            raise Pulled

    default_callbacks["on_fit_epoch_end"].append(pull)
    try:
        if stop_after:
            with pytest.raises(Pulled):
                train(job)
        else:
            assert train(job) == job.path / "weights" / "best.pt"
    finally:
        default_callbacks.update(before)
    return read_lines(job.path / EPOCHS)


def pictures(lines: list[dict[str, Any]]) -> list[str]:
    return [line["pictures"] for line in lines if "epoch" in line]


@pytest.fixture(scope="module")
def seen() -> dict[str, Any]:
    """Hold what the arms of the test below saw."""
    return {}


@pytest.mark.parametrize("kind", ["plain", pytest.param("host", marks=pytest.mark.slow), "distilled"])
def test_arms_see_the_same_pictures_from_the_same_weights_even_when_interrupted(
    kind: str, job_of: MakeJob, seen: dict[str, Any]
) -> None:
    job = job_of(kind)
    if kind == "plain":  # in one go: what the interrupted ones have to see
        lines = do(job)
    else:  # and whose folder was moved meanwhile
        do(job, stop_after=1)
        moved = job.path.rename(job.path.with_name("moved"))
        lines = do(job := dataclasses.replace(job, folder=str(moved), host={**job.host, "name": "moved"}))
    epochs = [line["epoch"] for line in lines if "epoch" in line]
    starts = [line["start"] for line in lines if "start" in line]
    # The restricted loader of the oldest host can't open what its own distillation has not finished.
    goes_on = kind == "distilled" or (kind == "host" and "distill_model" in inspect.getsource(tasks))
    assert (epochs, starts) == ([1, 2], [0, 1] if goes_on else [0])
    assert len(set(pictures(lines))) == 2
    assert seen.setdefault("pictures", pictures(lines)) == pictures(lines)
    assert seen.setdefault("weights", lines[0]["weights"]) == lines[0]["weights"]
    assert all(line["cpu_seconds"] > 0 for line in lines if "epoch" in line)
    assert torch.load(job.path / "weights" / "last.pt", weights_only=False)["epoch"] == -1
    rows = (job.path / "results.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["1", "2"]
    assert ("train/dis_loss" in rows[0]) == (kind == "host")
    assert ("share/cwd" in rows[0]) == (kind == "distilled")


def test_a_run_that_only_lacks_its_end(job_of: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def pull(self: Any) -> None:
        raise Pulled

    job = job_of("plain", epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(TeacherTrainer, "final_eval", pull)
        with pytest.raises(Pulled):
            train(job)
    weights = job.path / "weights"
    size = (weights / "last.pt").stat().st_size
    assert train(job) == weights / "best.pt"
    assert (weights / "last.pt").stat().st_size < size / 2
    stamp = (weights / "best.pt").stat().st_mtime_ns
    assert train(job) == weights / "best.pt"  # finished: nothing is trained
    assert (weights / "best.pt").stat().st_mtime_ns == stamp


def test_a_job_that_fails_leaves_one_line(job_of: MakeJob, capfd: pytest.CaptureFixture[str]) -> None:
    job = job_of("plain", freeze=99)
    assert main([str(job.write())]) == 1
    (line,) = (job.path / ERROR).read_text().splitlines()
    assert line.startswith("RuntimeError: 'freeze=99' froze the entire model")
    assert "Traceback" in capfd.readouterr().err
    assert not (job.path / "run.json").exists()


def test_the_record_of_a_teacher_says_how_good_it_is_on_its_own_pictures(job_of: MakeJob) -> None:
    job = job_of("teacher")
    assert main([str(job.write())]) == 0
    kept = json.loads((job.path / "run.json").read_text())
    assert set(kept["look"]) == {"train", "val"}
    assert kept["look"]["val"] == pytest.approx(kept["val"]["map"], abs=1e-6)  # few enough pictures: all of them


def test_a_record_says_what_gains_that_were_left_open_came_to(job_of: MakeJob) -> None:
    job = job_of("distilled")
    assert job.recipe is not None
    job.recipe.update(dict.fromkeys(USUAL))
    job.path.mkdir(parents=True)
    found = {**dict.fromkeys(USUAL, 0.0), "logit": 1.0, "cwd": 2.5}
    (job.path / "recipe.yaml").write_text(yaml.safe_dump(found))
    assert run_record.recipe_of(job) == {**job.recipe, "teacher": Path(job.teacher).name, **found}
    assert run_record.recipe_of(job_of("plain")) is None


def test_a_student_with_weights_is_compared_with_who_teaches_it(
    job_of: MakeJob, untrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def worse(student: str, recipe: Any, *_: Any) -> None:
        raise RequestError(f"{Path(recipe.teacher).name} is worse than {Path(student).name}")

    monkeypatch.setattr(training, "look_at_both", worse)
    monkeypatch.setattr(training, "distil_assistants", lambda r, *_: r.model_copy(update={"teacher": "assistant.pt"}))
    job = job_of("distilled")
    assert training._prepared(job)[0].teacher == "assistant.pt"  # its student has none
    with pytest.raises(RequestError, match=r"assistant.pt is worse than own.pt"):
        training._prepared(dataclasses.replace(job, student="own.pt"))


class Drawn(Dataset[Any]):
    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[int, float]:
        return index, float(np.random.random())


def test_workers_begin_each_epoch_anew() -> None:
    def draw(epochs: list[int]) -> list[Any]:
        own = {"worker_init_fn": seed_worker, "generator": torch.Generator().manual_seed(9)}
        loader: Any = InfiniteDataLoader(Drawn(), batch_size=2, shuffle=True, num_workers=1, **own)
        found = []
        for epoch in epochs:
            seed_epoch(loader, 0, epoch)
            found.append([(indices.tolist(), drawn.tolist()) for indices, drawn in loader])
        loader.close()
        return found

    whole = draw([0, 1])
    assert draw([1]) == whole[1:]  # as a run that goes on there
    assert whole[0] != whole[1]


def test_the_digest_of_weights_depends_on_values_and_not_on_the_order_in_memory() -> None:
    model = torch.nn.Conv2d(4, 8, 3)
    before = digest_of_weights(model)
    assert digest_of_weights(model.to(memory_format=torch.channels_last)) == before
    wrapped = torch.nn.Module()
    wrapped.student_model = model
    assert digest_of_weights(wrapped) == before
    with torch.no_grad():
        model.bias[0] += 1e-6
    assert digest_of_weights(model) != before


def test_a_teacher_is_measured_by_the_settings_by_which_it_teaches(
    job_of: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "map.yaml").write_text("disc: square\nsquare: disc\n")
    job = dataclasses.replace(job_of("teacher"), reading={"class_map": str(tmp_path / "map.yaml")})
    asked: list[str | None] = []
    measure = run_record.measure_teachers

    def note(recipe: Recipe, *given: Any, **more: Any) -> dict[str, Any]:
        asked.append(recipe.class_map)
        return measure(recipe, *given, **more)

    monkeypatch.setattr(run_record, "measure_teachers", note)
    found = run_record.make_record(job, Path(job.teacher))
    assert "not_measured" not in found
    assert found["one_to_one"] is None  # both branches only where classes are the data's
    assert set(asked) == {str(tmp_path / "map.yaml")}


def test_a_teacher_of_another_task_than_the_datas_is_measured_by_its_boxes(
    job_of: MakeJob, tmp_path: Path, untrained: Path, tiny_data: Path
) -> None:
    shutil.copytree(tiny_data.parent, tmp_path / "pose")
    for label in (tmp_path / "pose" / "labels").rglob("*.txt"):
        label.write_text("".join(f"{row} 0.5 0.5\n" for row in label.read_text().splitlines()))
    data = tmp_path / "pose" / "data.yaml"
    data.write_text(yaml.safe_dump({**yaml.safe_load(data.read_text()), "path": str(data.parent), "kpt_shape": [1, 2]}))
    found = run_record.make_record(dataclasses.replace(job_of("teacher"), data=str(data)), untrained)
    assert found["val"]["task"] == "detect"
    assert found["look"] is not None


@pytest.mark.parametrize("names", [["cat", "dog", "cow"], ["disc", "cat"], ["square", "disc"]])
def test_a_teacher_is_measured_if_it_knows_all_classes_in_whatever_order(
    names: list[str], job_of: MakeJob, tiny_student: str, tmp_path: Path
) -> None:
    model = DetectionModel(tiny_student, nc=len(names), verbose=False)
    model.names = dict(enumerate(names))
    torch.save({"model": model.half(), "train_args": {"imgsz": 64}}, tmp_path / "other.pt")
    found = run_record.make_record(job_of("teacher"), tmp_path / "other.pt")
    if "square" in names:
        assert [one["name"] for one in found["val"]["classes"]] == ["disc", "square"]
        assert found["look"] is not None
    else:
        assert "square" in found["not_measured"]
        assert found["look"] is None
