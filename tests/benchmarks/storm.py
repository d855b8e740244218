"""Kills commands at random moments, goes on with them as a person would, and compares with what nobody disturbed.

    python tests/benchmarks/storm.py kills=50 seed=0 work=/tmp/storm                  # everything; hours
    python tests/benchmarks/storm.py kills=5 cases=teacher,student,label              # some of it
    python tests/benchmarks/storm.py disk=true                                        # as root: a disk that is full

A kill is SIGKILL to the command's whole process group, at a moment drawn evenly over the time that the undisturbed
command took (of `measuring`, over its last part). Then the same command, or `resume=` where a run has a checkpoint, up
to three more kills, and at last to the end. Equal means: weights to the last digit, results.csv but for its times,
figures of the summary, and of all other commands every file but for those that hold times. Leftovers are files that the
undisturbed run has not, also in the folder for temporary files. Linux; commands are forked from a process that has
everything imported, so that a kill costs no ten seconds of imports.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]
os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", MPLBACKEND="Agg")
os.environ.setdefault("OMP_NUM_THREADS", "1")

#: Of all trainings; nothing in them is chosen by timing.
TRAINING = [
    "data=data/data.yaml", "imgsz=32", "batch=4", "nbs=4", "device=cpu", "plots=false", "amp=false",
    "teacher_precision=fp32", "warmup_epochs=0",
]  # fmt: skip
#: Parts of names of files that hold times or places.
TIMED = ("events.out", "pace.json", "args.yaml", ".lock", ".log", "log.txt", "job.json", "epochs.jsonl")
PATIENCE = float(os.environ.get("PATIENCE", 600))  # seconds; more on a busy machine
_COLUMNS = "kills | runs | finished | equal | with leftovers | undisturbed"


@dataclass(frozen=True)
class Case:
    """A command to be killed; all that it writes goes below `disk`.

    Attributes:
        words: of the command.
        after: pattern of a file; kills come when it is there.
    """

    words: list[str]
    after: str | None = None


def cases() -> dict[str, Case]:
    """Return what is killed, by name."""
    train = ["train", *TRAINING, "project=disk/runs", "student=tiny.yaml", "name=run"]
    taught = ["teacher=wide.pt", "epochs=4", "teach=true", "cwd=1", "balance=auto", "ramp_epochs=0"]
    watch = ["webcam", "model=tiny.onnx", "source=film.avi", "show=false", "realtime=false", "overlay=false"]
    compare = ["compare", "teacher=wide.pt", "student=tiny.yaml", *TRAINING, "arms=plain,distilled", "seeds=0"]
    find = ["predict", "model=tiny.onnx", "source=mixed", "save_txt=true", "exist_ok=true"]
    return {
        "teacher": Case([*train, "teacher=wide.yaml", "teacher_epochs=3", "epochs=1"]),
        "student": Case([*train, "teacher=wide.pt", "epochs=4"]),
        "taught": Case([*train, *taught]),
        "chain": Case([*train, "teacher=wide.pt", "assistant=mid.yaml", "epochs=2"]),
        "measuring": Case([*train, "teacher=wide.pt", "epochs=1"], after="disk/runs/*/weights/best.pt"),
        "label": Case(["label", "teacher=wide.pt", "source=mixed", "every=1", "copy=true", "out=disk/set"]),
        "export": Case(["export", "model=wide.pt", "out=disk", "imgsz=64", "data=data/data.yaml"]),
        "torchscript": Case(["export", "model=wide.pt", "out=disk", "imgsz=64", "format=torchscript"]),
        "compare": Case([*compare, "epochs=2", "out=disk/set"]),
        "predict": Case([*find, "out=disk/found"]),
        "webcam": Case([*watch, "save=disk/o.avi", "record=disk/o.jsonl"]),
        "webcam-mkv": Case([*watch, "save=disk/o.mkv"]),
        "webcam-mp4": Case([*watch, "save=disk/o.mp4"]),
        "val": Case(["val", "model=wide.pt", "data=data/data.yaml", "plots=disk/plots", "imgsz=64"]),
    }


def prepare(folder: Path) -> None:
    """Make data, models and a film."""
    import cv2
    import torch
    from live_detector import live_detector
    from tiny_yolo import write_architecture

    from yolo_distill.api import export
    from yolo_distill.demo.scenes import CLASSES, make_data

    if (folder / "done").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    make_data(folder / "data", {"train": 24, "val": 6, "test": 4}, size=64)
    for name, width in (("tiny", 1), ("mid", 2), ("wide", 3)):
        write_architecture(folder / f"{name}.yaml", width)
        model = live_detector(str(folder / f"{name}.yaml"), CLASSES)
        torch.save({"model": model.half(), "train_args": {"imgsz": 32, "task": "detect"}}, folder / f"{name}.pt")
    export(str(folder / "tiny.pt"), imgsz=64)
    film = cv2.VideoWriter(str(folder / "film.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 64))
    for _ in range(6):
        for picture in sorted((folder / "data" / "images" / "train").glob("*.jpg")):
            film.write(cv2.imread(str(picture)))
    film.release()
    shutil.copytree(folder / "data" / "images" / "train", folder / "mixed")
    shutil.copy(folder / "film.avi", folder / "mixed")
    (folder / "done").touch()


def start(words: list[str], folder: Path, **environment: str) -> int:
    """Fork a process, the first of its group, that runs a command in a folder, and return its number."""
    from yolo_distill.cli import main

    if pid := os.fork():
        with contextlib.suppress(OSError):  # it was quicker
            os.setpgid(pid, pid)
        return pid
    code = 99
    try:
        os.setpgid(0, 0)
        os.chdir(folder)
        # The host's settings are made once; that its runs go below the working folder is said by the absolute project.
        os.environ.update(TMPDIR=str(folder.parent / "temporary"), **environment)
        tempfile.tempdir = None
        log = os.open(folder.parent / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(log, stream)
        print("$ yolo-distill", *words, flush=True)
        code = main(words)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(pid: int, seconds: float) -> int | None:
    """Return the exit code of a process, or None if it takes longer than so many seconds."""
    end = time.monotonic() + seconds
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            return None
        time.sleep(0.005)


def kill(pid: int) -> None:
    """Kill a process and its group, and wait until they are gone."""
    os.killpg(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def fresh(made: Path, place: Path) -> Path:
    """Return the folder of a run, with what is needed in it; always the same, as some files hold where they are."""
    shutil.rmtree(place, ignore_errors=True)
    (place / "temporary").mkdir(parents=True)
    shutil.copytree(made, place / "at", ignore=shutil.ignore_patterns("done"))
    (place / "at" / "disk").mkdir()
    return place / "at"


def words_in(folder: Path, case: Case) -> list[str]:
    """Return what a person types next: `resume=` where the run has a checkpoint; nothing where it is finished."""
    for run in sorted((folder / "disk" / "runs").glob("run*")):
        if (run / "summary.json").exists():
            return []
        if (last := run / "weights" / "last.pt").exists():
            return ["train", f"resume={last}"]
    # The host has a relative project below a folder of its own.
    return [word.replace("project=", f"project={folder}/") for word in case.words]


def state_of(file: Path) -> str:
    """Return a digest of what a file says: of a checkpoint its weights, of a table all but its times."""
    import torch

    if file.suffix == ".pt":
        saved = torch.load(file, map_location="cpu", weights_only=False)
        if not isinstance(saved, dict) or ("ema" not in saved and "model" not in saved):
            return "tensors"
        model = saved.get("ema") or saved["model"]
        text = hashlib.sha256()
        for key, value in model.state_dict().items():
            text.update(key.encode() + value.numpy().tobytes())
        stripped = saved.get("optimizer") is None
        return f"{saved.get('epoch')} {stripped} {text.hexdigest()}"
    if file.name == "results.csv":
        header, *rows = (line.split(",") for line in file.read_text().splitlines())
        kept = [place for place, name in enumerate(header) if name.strip() not in {"time"}]
        return "\n".join(",".join(row[place] for place in kept) for row in [header, *rows])
    if file.name == "summary.json":
        saved = json.loads(file.read_text())
        return json.dumps([saved[who].get("map") for who in ("teacher", "student")])
    if file.suffix == ".onnx":
        import onnx

        graph = onnx.load(str(file))
        onnx.helper.set_model_props(graph, {one.key: one.value for one in graph.metadata_props if one.key != "date"})
        return hashlib.sha256(graph.SerializeToString()).hexdigest()
    if file.suffix in {".json", ".html", ".md", ".torchscript"}:
        return "there"
    return hashlib.sha256(file.read_bytes()).hexdigest()


def state(folder: Path) -> dict[str, str]:
    """Return what a command wrote, also among temporary files, and what each file says."""
    places = [folder / "disk", folder.parent / "temporary"]
    files = sorted(path for place in places for path in place.rglob("*") if path.is_file())
    found = {os.path.relpath(file, folder): file for file in files}
    return {name: "" if any(part in name for part in TIMED) else state_of(file) for name, file in found.items()}


def undisturbed(name: str, case: Case, work: Path) -> tuple[dict[str, str], float]:
    """Run a command to its end; return what it wrote, and how many seconds may be hit."""
    folder = fresh(work / "made", work / name / "now")
    pid, begun = start(words_in(folder, case), folder), time.monotonic()
    while case.after and not any(folder.glob(case.after)):
        time.sleep(0.005)
        begun = time.monotonic()
    code = wait(pid, PATIENCE)
    if code != 0:
        raise SystemExit(f"{name}: undisturbed it ended with {code}, see {folder.parent / 'log.txt'}")
    shutil.rmtree(work / name / "whole", ignore_errors=True)
    shutil.copytree(folder.parent, work / name / "whole", symlinks=True)
    return state(folder), time.monotonic() - begun


def trial(case: Case, folder: Path, took: float, kills: int, rng: random.Random) -> tuple[list[float], bool]:
    """Kill one run so often, let it finish, and return the moments of the kills and whether it finished."""
    moments: list[float] = []
    while len(moments) < kills and (words := words_in(folder, case)):
        pid, begun, code = start(words, folder), time.monotonic(), None
        while case.after and code is None and not any(folder.glob(case.after)):
            code = wait(pid, 0.005)
        if code is None:
            code = wait(pid, rng.uniform(0, took))
        if code is not None:
            break  # it was finished before
        kill(pid)
        moments.append(round(time.monotonic() - begun, 2))
    for _ in range(3):
        if not (words := words_in(folder, case)):
            return moments, True
        pid = start(words, folder)
        if (code := wait(pid, PATIENCE)) is None:
            kill(pid)
        if code == 0:
            return moments, True
    return moments, False


def storm(name: str, case: Case, kills: int, work: Path, rng: random.Random) -> None:
    """Kill a command until it was killed `kills` times, and say what came of it."""
    whole, took = undisturbed(name, case, work)
    killed = runs = finished = equal = dirty = 0
    while killed < kills and runs < 3 * kills:
        folder = fresh(work / "made", work / name / "now")
        moments, done = trial(case, folder, took, min(rng.randint(1, 3), kills - killed), rng)
        found = state(folder)
        differ = sorted(one for one in whole if found.get(one) != whole[one] and one.startswith("disk"))
        left = sorted(found.keys() - whole.keys())
        killed, finished, equal = killed + len(moments), finished + done, equal + (not differ)
        dirty += bool(left)
        if not done or differ or left:
            kept = work / name / f"{runs:03d}"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(folder.parent, kept, symlinks=True)
            say(f"  {kept}: killed at {moments}, finished: {done}, differ: {differ}, left: {left[:5]}")
        runs += 1
    say(f"| {name} | {killed} | {runs} | {finished} | {equal} | {dirty} | {took:.1f} s |")


def fill(name: str, case: Case, work: Path) -> None:
    """Run a command on disks of which each is too small, and say how it ended and what is there."""
    whole, _ = undisturbed(name, case, work)
    wrote = sum(file.stat().st_size for file in (work / name / "whole" / "at" / "disk").rglob("*") if file.is_file())
    for share in (0.02, 0.3, 0.6, 0.9):
        folder = fresh(work / "made", work / name / "now")
        size = max(int(share * wrote), 1) // 4096 * 4096 + 8192
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder / "disk")], check=True)
        try:
            code = wait(start(words_in(folder, case), folder), PATIENCE)
            log = (folder.parent / "log.txt").read_text(errors="replace")
            said = [line for line in log.splitlines() if line.startswith("yolo-distill: ")]
            traced = "Traceback" in log
            found = {}
            for file in sorted(path for path in (folder / "disk").rglob("*") if path.is_file()):
                try:
                    found[os.path.relpath(file, folder)] = state_of(file)
                except Exception as error:
                    found[os.path.relpath(file, folder)] = f"half: {error}"
            half = sorted(one for one, it in found.items() if it.startswith("half"))
            if case.words[0] in {"predict", "webcam", "export", "label"}:  # others' files are different at each moment
                same = {one for one in found if found[one] == whole.get(one, found[one]) or one.endswith(".lock")}
                half += sorted(found.keys() - same)
            left = sorted(found.keys() - whole.keys())
            names = str(folder / "disk") in str(said[-1:]) or "disk/" in str(said[-1:])
            clear = code in {1, 2} and len(said) == 1 and not traced and names and "space" in said[0]
            there = f"{len(found)} of {len(whole)}"
            say(f"| {name} | {size / 1e3:.0f} kB | {code} | {clear} | {there} | {half} | {left[:4]} |")
            say(f"    {said[-1] if said else log[-300:]!r}")
        finally:
            subprocess.run(["umount", str(folder / "disk")], check=True)


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def begin(argv: list[str], folder: str) -> tuple[dict[str, str], Path]:
    """Return the arguments by name, and where to work, with settings of Ultralytics of its own."""
    given = dict(word.split("=", 1) for word in argv)
    work = Path(given.get("work", Path(tempfile.gettempdir(), folder))).resolve()
    (work / "host").mkdir(parents=True, exist_ok=True)
    os.environ["YOLO_CONFIG_DIR"] = str(work / "host")
    return given, work


def main(argv: list[str]) -> int:
    """Do what the arguments say."""
    given, work = begin(argv, "storm")
    import yolo_distill.commands.train
    import yolo_distill.comparison.compare
    import yolo_distill.engine.run
    import yolo_distill.exporting.export
    import yolo_distill.labelling.run  # noqa: F401

    if not (prepared := os.fork()):
        prepare(work / "made")
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(prepared, 0)[1]):
        return 1
    disk, known = given.get("disk") == "true", cases()
    if disk and os.geteuid() != 0:
        say("skipped: a small tmpfs is mounted by root alone")
        return 0
    columns = "disk | exit code | clear error | files | half | left" if disk else _COLUMNS
    say(f"| command | {columns} |\n|{'---|' * (columns.count('|') + 2)}")
    for name in given.get("cases", ",".join(known)).split(","):
        if disk:
            fill(name, known[name], work)
        else:
            # Drawn anew for each, so that one alone is killed at the same moments.
            rng = random.Random(f"{given.get('seed', '0')} {name}")
            storm(name, known[name], int(given.get("kills", 5)), work, rng)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
