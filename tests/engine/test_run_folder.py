"""The folder of a run: taken again after an early kill, held by one process, gone where a run failed."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from yolo_distill.engine.atomic import forget_lost_epochs
from yolo_distill.engine.run_folder import held_run, new_run
from yolo_distill.errors import DistillError, RequestError


@pytest.fixture
def settings(tmp_path):
    return {"project": str(tmp_path), "name": "run"}


def killed(folder: Path, *files: str) -> Path:
    for file in (".lock", *files):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return folder


def test_a_run_that_was_killed_before_its_first_checkpoint_gives_its_folder_back(settings, tmp_path):
    left = ["results.csv", "weights/.saving/last.pt", "weights/.last.1.part.pt"]
    killed(tmp_path / "run", "weights/last.pt")  # somebody may want to go on with this
    killed(tmp_path / "run-2", *left)
    with new_run(settings) as folder:
        assert folder == tmp_path / "run-2"
        assert [path.name for path in folder.rglob("*")] == [".lock"]
        with new_run(settings) as beside:  # while this one is at work
            assert beside == tmp_path / "run-3"
            (beside / "results.csv").touch()
        (folder / "results.csv").touch()
    assert [path.name for path in folder.rglob("*")] == ["results.csv"]
    with new_run(settings) as folder:
        assert folder == tmp_path / "run-4"


def test_one_that_goes_on_has_no_halves(tmp_path):
    folder = killed(tmp_path / "run", "weights/last.pt", "weights/.saving/last.pt")
    with held_run(folder):
        assert not (folder / "weights" / ".saving").exists()
        with pytest.raises(RequestError, match="another process is at work there"), held_run(folder):
            pass
    assert sorted(path.name for path in folder.rglob("*")) == ["last.pt", "weights"]


@pytest.mark.parametrize("shown", [[], ["results.csv"]])
def test_a_run_that_fails_leaves_what_it_has_to_show(settings, shown):
    def fail() -> None:
        with new_run(settings):
            for name in shown:
                (folder / name).touch()
            raise ZeroDivisionError

    folder = Path(settings["project"]) / "run"
    with pytest.raises(ZeroDivisionError):
        fail()
    assert ([path.name for path in folder.rglob("*")] if folder.exists() else []) == shown


def test_a_full_disk_is_named(settings):
    full = OSError(errno.ENOSPC, "No space left on device", "results.csv")
    said = r"results\.csv: cannot be written \(No space left on device; .* kB are free\)"
    with pytest.raises(DistillError, match=said), new_run(settings):
        raise full


def test_a_run_that_begins_anew_has_no_rows_of_an_earlier_one(tmp_path):
    results = tmp_path / "results.csv"
    for epochs, kept in {2: "epoch\n1\n2\n", 0: None}.items():
        results.write_text("epoch\n1\n2\n3\n")
        forget_lost_epochs(results, epochs)
        assert (results.read_text() if results.exists() else None) == kept
