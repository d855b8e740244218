"""`yolo-distill COMMAND key=value ...`: what it prints, and with which exit code it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest

from yolo_distill import __version__, cli
from yolo_distill.errors import DistillError, RequestError
from yolo_distill.given_files import check_model_files
from yolo_distill.settings import Setting

EXTRAS = ("torch", "torchvision", "ultralytics", "onnx", "onnxslim", "pydantic")
SLOW = ("numpy", "cv2", "onnxruntime")

# The command line, without the modules named in its first argument.
LIGHT = (
    "import sys\n"
    "sys.modules.update(dict.fromkeys(sys.argv.pop(1).split(',')))\n"
    "from yolo_distill.cli import main\n"
    "sys.exit(main(sys.argv[1:]))"
)


def light(*words: str, without: Iterable[str] = EXTRAS) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LIGHT, ",".join(without), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@pytest.fixture
def command(monkeypatch) -> SimpleNamespace:
    """Put a command `train` in place of the real one: it remembers what it was run with."""
    stand_in = SimpleNamespace(
        SUMMARY="stand in",
        SETTINGS={
            "model": Setting(str, "what is run", required=True),
            "conf": Setting(float, "score", 0.25, low=0, high=1),
            "times": Setting(int, "how often", low=1),
            "show": Setting(bool, "window", True),
            "mode": Setting(str, "how", "fast", choices=("fast", "exact")),
        },
        ran=[],
        PASSES_HOST_SETTINGS=False,
    )

    def run(settings: dict[str, Any], *extra: dict[str, str]) -> int | None:
        stand_in.ran.append((settings, *extra))
        if error := getattr(stand_in, "error", None):
            raise error
        return getattr(stand_in, "code", None)

    stand_in.run = run
    load = cli._load
    monkeypatch.setattr(cli, "_load", lambda name: stand_in if name == "train" else load(name))
    return stand_in


def refusal(capsys) -> str:
    """Return the only line on stderr."""
    out, err = capsys.readouterr()
    assert not out.strip()
    (line,) = err.splitlines()
    return line


@pytest.mark.parametrize("words", [[], ["help"], ["--help"], ["-h"]])
def test_overview_names_every_command(words, capsys):
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    for name in cli.COMMANDS:
        assert f"\n  {name} " in out


@pytest.mark.parametrize("word", ["version", "--version", "-V"])
def test_version(word, capsys):
    assert cli.main([word]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"


@pytest.mark.parametrize("words", [["train", "--help"], ["train", "model=x", "-h"], ["help", "train"]])
def test_help_of_a_command_is_its_table(words, command, capsys):
    assert cli.main(words) == 0
    assert capsys.readouterr().out == (
        "yolo-distill train: stand in\n\n"
        "  model=  what is run (required)\n"
        "  conf=   score (default 0.25)\n"
        "  times=  how often\n"
        "  show=   window (default true)\n"
        "  mode=   how [fast|exact] (default fast)\n"
    )
    assert command.ran == []


@pytest.mark.parametrize("name", ["", *cli.COMMANDS])
def test_help_of_every_command_loads_nothing_heavy(name):
    done = light(*filter(None, [name]), "--help", without=EXTRAS + SLOW)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"yolo-distill {name or cli.__version__}: ")


@pytest.mark.parametrize(
    "words",
    ["train", "val model=x data=x.yaml", "export model=x", "compare teacher=x student=x data=x.yaml", "demo out=new"]
    + ["label out=new teacher=x source=x"],
)
def test_a_heavy_command_on_the_base_install_says_what_to_install(words, tmp_path):
    for name in ("x", "x.yaml"):
        (tmp_path / name).touch()
    done = light(*words.split())
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "pip install 'yolo-distill[train]'" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "x.yaml"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "unknown command 'trian'; did you mean 'train'? (known: train, val, "),
        (["xyzzy", "--help"], "unknown command 'xyzzy' (known: train, val, "),
        (["train", "model=x", "cnf=1"], "unknown key 'cnf'; did you mean 'conf'? (known: model, conf, "),
        (
            ["detect", "train", "model=x"],
            "'detect': the task is found from the files; leave it out: ",
        ),
        (["train", "segment", "model=x"], "'segment': the task is found from the files; leave it out: "),
        (["train", "x.pt"], "'x.pt' is not of the form key=value"),
        (["train", "times"], "'times' has no value; type times=VALUE"),
        (["train", "model=x", "conf=high"], "conf=high: expected a number"),
        (["train", "model="], "model= is missing: what is run"),
        (["train", "model=x", "debug=maybe"], "debug=maybe: expected true or false"),
    ],
)
def test_bad_requests(words, message, command, capsys):
    assert cli.main(words) == 2
    assert refusal(capsys).startswith(f"yolo-distill: {message}")
    assert command.ran == []


def test_a_command_gets_checked_values_and_defaults(command):
    assert cli.main(["train", "model=a=b.pt", "--conf=0.5", "times=2", "times=3", "show=off"]) == 0
    assert command.ran == [({"model": "a=b.pt", "conf": 0.5, "times": 3, "show": False, "mode": "fast"},)]


def test_a_command_that_passes_host_settings_gets_them_as_text(command):
    command.PASSES_HOST_SETTINGS = True
    assert cli.main(["train", "model=x", "epochs=3", "device=0,1"]) == 0
    ((settings, extra),) = command.ran
    assert (settings["model"], extra) == ("x", {"epochs": "3", "device": "0,1"})


def test_a_typo_is_answered_before_anything_heavy_is_loaded():
    for words in (["train", "epocs=3"], ["compare", "epocs=3"]):
        done = light(*words, without=("torch", "numpy", "cv2", "onnxruntime", "pydantic"))
        assert done.stderr == "yolo-distill: unknown key 'epocs'; did you mean 'epochs'?\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "val model=bets.pt",
            "model=bets.pt: no such file, and no official model of that name; did you mean 'best.pt'",
        ),
        ("export in/best.pt --half", "model=in/best.pt: no such file"),
        (
            "train teacher=best.pt student=nano.pt data=a.yaml --resume",
            "student=nano.pt: no such file, and no",
        ),
        ("train teacher=best.pt data=.", "data=.: is a folder; did you mean 'a.yaml'?"),
        ("compare teacher=best.pt,t.onnx", "teacher=t.onnx: no such file"),
        ("shrink model=b.pt", "teacher=b.pt: no such file, and no official model of that name"),
        ("label b.pt pictures", "teacher=b.pt: no such file, and no official model of that name"),
        (
            "export best.pt format=openvin",
            "format=openvin: unknown; did you mean 'openvino'? (known: onnx, ",
        ),
        ("export best.pt format=tflite int8=true", "precision=int8: give data=, a data set file whose train pictures"),
        ("predict model=best.pt", "best.pt: is a checkpoint; export it first: yolo-distill export model=best.pt"),
        ("webcam best.pt", "best.pt: is a checkpoint; export it first: yolo-distill export model=best.pt"),
        ("track best.onnx", "no command 'track'; a tracker takes what a Detector finds: Questions in cfg/README.md"),
    ],
)
def test_a_slip_is_answered_before_anything_heavy_is_loaded(words, message, tmp_path, monkeypatch):
    for name in ("best.pt", "a.yaml"):
        (tmp_path / name).touch()
    (tmp_path / "Ultralytics").mkdir()
    (tmp_path / "Ultralytics" / "settings.json").write_text(f'{{"weights_dir": "{tmp_path.as_posix()}/weights"}}')
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    done = light(*words.split(), without=("torch", "numpy", "cv2", "onnxruntime", "pydantic"))
    assert done.returncode == 2
    assert done.stderr.startswith(f"yolo-distill: {message}")


def test_what_the_host_may_have_or_fetch_is_left_to_it(tmp_path, monkeypatch):
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    settings, kept = tmp_path / "Ultralytics" / "settings.json", tmp_path / "mine.pt"
    check_model_files({"model": "mine.pt", "teacher": "yolo26s.pt,torchvision:ssd300_vgg16:w.pth", "student": "a.yaml"})
    settings.parent.mkdir()
    settings.write_text(json.dumps({"weights_dir": str(tmp_path)}))
    with pytest.raises(RequestError, match="no official model"):
        check_model_files({"model": "mine.pt"})
    monkeypatch.chdir(settings.parent)
    kept.touch()
    check_model_files({"model": "mine.pt"})


def test_the_code_that_a_command_returns_is_the_exit_code(command):
    command.code = 3
    assert cli.main(["train", "model=x"]) == 3


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DistillError("no room on the disk"), 1, "no room on the disk"),
        (RequestError("no such file"), 2, "no such file"),
        (
            PermissionError(13, "Permission denied", "a/b"),
            2,
            "a/b: Permission denied; give another, or the right to it",
        ),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ValueError("two\n  lines"), 1, "ValueError: two lines (debug=true shows where)"),
        (ZeroDivisionError(), 1, "ZeroDivisionError: no message (debug=true shows where)"),
        (BrokenPipeError("a worker died"), 1, "BrokenPipeError: a worker died (debug=true shows where)"),
    ],
)
def test_a_command_that_fails_says_so_in_one_line(error, code, line, command, capsys):
    command.error = error
    for words in ([], ["debug=true", "debug=false"]):
        assert cli.main(["train", "model=x", *words]) == code
        assert refusal(capsys) == f"yolo-distill: {line}"


@pytest.mark.parametrize("word", ["debug=1", "--debug=True"])
@pytest.mark.parametrize(("kind", "code"), [(ValueError, 1), (RequestError, 2)])
def test_debug_shows_the_traceback_and_keeps_the_code(word, kind, code, command, capsys):
    command.error = kind("odd")
    assert cli.main(["train", word, "model=x"]) == code
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):")
    assert err.splitlines()[-1].startswith("yolo-distill: ")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to send")
def test_sigterm_is_ctrl_c(command, capsys, monkeypatch):
    before, frozen = signal.getsignal(signal.SIGTERM), []
    monkeypatch.setattr(cli.gc, "freeze", lambda: frozen.append(True))  # no seconds of clearing up behind torch
    monkeypatch.setattr(command, "run", lambda settings: os.kill(os.getpid(), signal.SIGTERM))
    assert cli.main(["train", "model=a"]) == 130
    assert (refusal(capsys), frozen) == ("yolo-distill: interrupted", [True])
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGPIPE")
@pytest.mark.parametrize("unbuffered", [[], ["-u"]])
def test_a_reader_that_goes_away_is_no_error(unbuffered):
    process = subprocess.Popen(
        [sys.executable, *unbuffered, "-c", f"input()\n{LIGHT}", "torch", "export", "--help"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    process.stdout.close()  # before the first word, so that every write meets a closed pipe
    process.stdin.write("\n")
    process.stdin.close()
    assert process.stderr.read() == ""
    assert process.wait(60) == 141


def test_the_installed_script_is_main():
    from importlib.metadata import entry_points

    (script,) = entry_points(group="console_scripts", name="yolo-distill")
    assert script.load() is cli.main
