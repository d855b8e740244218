"""What every test stands on: a host that stays offline and tidy, real and tiny pictures, short trainings.

Fixtures import torch inside, as many tests never load it.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import logging
import multiprocessing
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_HOST = Path(tempfile.mkdtemp(prefix="yolo-distill-tests-"))
atexit.register(shutil.rmtree, _HOST, ignore_errors=True)

# At import, because the host reads these once, when it is first imported; subprocesses inherit them.
os.environ["YOLO_OFFLINE"] = "true"
os.environ["YOLO_AUTOINSTALL"] = "false"
os.environ["YOLO_CONFIG_DIR"] = str(_HOST)
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts background jobs with Ctrl-C switched off, and they hand that on; the tests of Ctrl-C need it on.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _work_in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test in a folder of its own, so that whatever is written to a relative path lands there."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real pictures: `YOLO_DISTILL_DATA`, or `../shared/data` beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("YOLO_DISTILL_DATA") or beside)
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (YOLO_DISTILL_DATA says where it is)")
    return folder.resolve()


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the data.yaml of 8 train, 4 val and 4 test pictures of discs and squares, 96 x 96, always the same."""
    import cv2
    import numpy as np

    root = tmp_path_factory.mktemp("tiny")
    rng = np.random.default_rng(0)
    side, cell = 96, 48
    for split, count in (("train", 8), ("val", 4), ("test", 4)):
        images, labels = root / "images" / split, root / "labels" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for number in range(count):
            picture = rng.integers(60, 120, (side, side, 3), dtype=np.uint8)
            rows = []
            # One shape a quarter of the picture at most, so that none hides another; both classes in every picture.
            for place, quarter in enumerate(rng.permutation(4)[: rng.integers(2, 5)]):
                kind = place % 2
                half = int(rng.integers(9, 19))  # the shape covers pixels centre - half to centre + half
                x, y = (int(rng.integers(half, cell - half)) + cell * int(k) for k in (quarter % 2, quarter // 2))
                colour = [int(value) for value in rng.integers(170, 256, 3)]
                if kind == 0:
                    cv2.circle(picture, (x, y), half, colour, -1)
                else:
                    cv2.rectangle(picture, (x - half, y - half), (x + half, y + half), colour, -1)
                box = ((x + 0.5) / side, (y + 0.5) / side, (2 * half + 1) / side, (2 * half + 1) / side)
                rows.append(" ".join([str(kind), *(f"{value:.6f}" for value in box)]))
            cv2.imwrite(str(images / f"{number}.png"), picture)
            (labels / f"{number}.txt").write_text("\n".join(rows) + "\n")
    data = root / "data.yaml"
    data.write_text(
        f"path: {root}\ntrain: images/train\nval: images/val\ntest: images/test\nnames:\n  0: disc\n  1: square\n"
    )
    return data


@pytest.fixture
def own_data(tiny_data: Path, tmp_path: Path) -> Path:
    """Return the data.yaml of a copy of the tiny data set that a test may change."""
    shutil.copytree(tiny_data.parent, tmp_path / "data", ignore=shutil.ignore_patterns("*.cache"))
    described = tmp_path / "data" / "data.yaml"
    described.write_text(described.read_text().replace(str(tiny_data.parent), str(described.parent)))
    return described


@pytest.fixture(scope="session")
def make_teacher(tmp_path_factory) -> Callable[..., Path]:
    """Return a function that saves an untrained detector as a checkpoint: `make_teacher("yolo26s.yaml", names)`."""
    folder = tmp_path_factory.mktemp("teachers")

    def make(architecture: str, names: dict[int, str]) -> Path:
        import torch
        from live_detector import live_detector

        path = folder / f"{Path(architecture).stem}-{'-'.join(names.values())}.pt"
        if not path.exists():
            model = live_detector(architecture, names.values())
            torch.save({"model": model.half(), "train_args": {"imgsz": 64, "task": "detect"}}, path)
        return path

    return make


@pytest.fixture(scope="session")
def tiny_student(tmp_path_factory) -> str:
    """Return the architecture of a student that is trained in two seconds."""
    from tiny_yolo import write_architecture

    return str(write_architecture(tmp_path_factory.mktemp("tiny") / "tiny.yaml"))


@pytest.fixture(scope="session")
def tiny_teacher(tmp_path_factory, make_teacher) -> str:
    """Return the checkpoint of a teacher of the tiny data's classes, inside which the tiny student can start."""
    from tiny_yolo import write_architecture

    wide = write_architecture(tmp_path_factory.mktemp("tiny") / "tiny-wide.yaml", width=2)
    return str(make_teacher(str(wide), {0: "disc", 1: "square"}))


@pytest.fixture
def tiny_pair(tiny_student, tiny_teacher) -> dict[str, str]:
    """Return settings of a run of the tiny pair, in which nothing is timed."""
    return {"model": tiny_student, "teacher": tiny_teacher, "teacher_precision": "fp32"}


@dataclasses.dataclass
class TaughtRun:
    """A real run of two epochs in which every term teaches the tiny student, started the command's way.

    Attributes:
        folder: of the run.
        interrupted: a copy of the folder, as it was behind the first epoch.
        trainer: ended.
        teacher: its checkpoint.
        states: of projectors and teacher before the first step.
        said: what was logged.
    """

    folder: Path
    interrupted: Path
    trainer: Any
    teacher: Path
    states: dict[str, dict[str, Any]]
    said: str


@pytest.fixture(scope="session")
def taught_run(tiny_data, tiny_student, tiny_teacher, tmp_path_factory) -> TaughtRun:
    """Return a run that many tests read; none may change it."""
    from ultralytics.utils import LOGGER

    from yolo_distill.engine import run
    from yolo_distill.terms_table import TABLE

    place, states, made = tmp_path_factory.mktemp("taught"), {}, []

    def look(trainer: Any) -> None:
        for name, module in {
            "projectors": trainer.projectors,
            "teacher": trainer.criterion.teacher.forward.model,
        }.items():
            states[name] = {key: value.clone() for key, value in module.state_dict().items()}

    def keep(trainer: Any) -> None:
        if trainer.epoch == 0:
            shutil.copytree(trainer.save_dir, place / "interrupted", ignore=shutil.ignore_patterns(".lock"))

    class Watched(run.DistillationTrainer):
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings)
            self.add_callback("on_train_start", look)
            self.add_callback("on_model_save", keep)
            made.append(self)

    heard: list[str] = []
    listener = logging.Handler()
    listener.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    LOGGER.addHandler(listener)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "DistillationTrainer", Watched)
        folder = run.train(
            {
                "teacher": tiny_teacher,
                "teacher_precision": "fp32",
                "ramp_epochs": 0.0,
                "kd_until": 1.0,
                **{name: 1.0 for name, term in TABLE.items() if term.task is None},
            },
            {**_short(tiny_data), "epochs": 2, "project": str(place), "name": "run"},
            student=tiny_student,
        )
    LOGGER.removeHandler(listener)
    return TaughtRun(folder, place / "interrupted", made[0], Path(tiny_teacher), states, "\n".join(heard))


@pytest.fixture
def full_disk() -> Callable[[int], contextlib.AbstractContextManager[None]]:
    """Return a function that lets no file grow beyond so many bytes, which fails as a full disk does."""
    resource = pytest.importorskip("resource", reason="Windows has no limit for a file's size")

    @contextlib.contextmanager
    def limit(most: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limit


class Killed(BaseException):
    """What a run ends with that was killed behind its first checkpoint."""


@pytest.fixture
def killed_and_resumed(monkeypatch) -> Callable[..., Path]:
    """Return a function that starts a run by the command's way, kills it behind its first epoch and goes on."""

    def run(own: dict[str, Any], host: dict[str, Any]) -> Path:
        from yolo_distill.engine.run import train as start
        from yolo_distill.engine.trainer import DistillationTrainer

        saved = DistillationTrainer.save_model
        with monkeypatch.context() as patch:

            def save_and_die(self) -> bool:
                saved(self)
                raise Killed

            patch.setattr(DistillationTrainer, "save_model", save_and_die)
            with pytest.raises(Killed):
                start(own, host, student="yolo26n.yaml")
        return start({}, {"resume": str(Path(host["project"]) / host["name"] / "weights" / "last.pt")})

    return run


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return the file system of a server that speaks S3, with a bucket."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    s3fs = pytest.importorskip("s3fs")
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    for name, value in {"ENDPOINT_URL": url, "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem(use_listings_cache=False)
    system.mkdir("bucket")
    yield system
    system.rm("bucket", recursive=True)  # servers of one process share what they hold
    server.stop()


@pytest.fixture
def settings(tiny_data, tmp_path) -> dict[str, Any]:
    """Host settings of a run of a few steps."""
    return {**_short(tiny_data), "project": str(tmp_path), "name": "run"}


def _short(data: Path) -> dict[str, Any]:
    return {
        "data": str(data),
        "imgsz": 64,
        "epochs": 1,
        "batch": 4,
        "seed": 0,
        "plots": False,
        "device": "cpu",
        "warmup_epochs": 0.0,
        "nbs": 4,  # an optimizer step every batch
    }


@pytest.fixture
def names(tiny_data) -> dict[int, str]:
    """Class names of the tiny data set."""
    import yaml

    return {int(k): v for k, v in yaml.safe_load(tiny_data.read_text())["names"].items()}


@pytest.fixture
def train(settings) -> Callable[..., Any]:
    """Return a function that runs a distillation with the given settings on top of the short ones."""

    def run(**overrides: Any) -> Any:
        from yolo_distill.engine.trainer import DistillationTrainer

        trainer = DistillationTrainer(overrides={**settings, **{k: _text(v) for k, v in overrides.items()}})
        trainer.train()
        return trainer

    return run


@pytest.fixture
def two_processes(tmp_path) -> Callable[..., list[Any]]:
    """Return a function that calls `target(rank, store, results)` in two processes and returns what they put, by rank.

    `store` is the file over which they find each other.
    """

    def run(target: Callable[..., None]) -> list[Any]:
        context = multiprocessing.get_context("spawn")
        results = context.Queue()
        processes = [context.Process(target=target, args=(r, str(tmp_path / "store"), results)) for r in range(2)]
        for process in processes:
            process.start()
        found = sorted((results.get(timeout=120) for _ in processes), key=lambda result: result[0])
        for process in processes:
            process.join(timeout=60)
        return found

    return run


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
