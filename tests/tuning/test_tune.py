"""`yolo-distill tune` as a person types it: refusals, and a whole search that is killed in the middle and goes on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

import yolo_distill
import yolo_distill.cli
from yolo_distill.recipe import read_recipe_file


@pytest.fixture
def asked(tiny_data: Path, tiny_student: str, tiny_teacher: str) -> list[str]:
    """Return a search of a few steps."""
    Path("space.yaml").write_text("optimizer: {choose: [AdamW, SGD]}\nlr0: [0.001, 0.05, log]\nlogit: [0, 2]\n")
    return [
        f"teacher={tiny_teacher}", f"student={tiny_student}", f"data={tiny_data}", "space=space.yaml", "out=out",
        "trials=2", "seeds=0", "epochs=2", "imgsz=64", "batch=4", "device=cpu", "amp=false",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("space", "words", "says"),
    [
        ("lr0: [0.001, 0.05]", [], "space: lr0 has no effect with optimizer=auto; give another, such as optimizer=Ad"),
        ("mosaic: [0, 3]", [], "space: "),
        ("logit: [0, 2]", ["init=try", "jobs=2"], "jobs=2: with assistant= or init=try trials would wait for each"),
        ("logit: [0, 2]", ["seeds=0,1000"], "seeds=0,1000: 1000 is the search's own; give others"),
        ("logit: [0, 2]", ["out=s3://bucket/mine"], "out=s3://bucket/mine: is an address; mount it as a folder"),
        ("logit: [0, 2]", ["out=a@b"], "out=a@b: arms of a comparison have no , and no @ in their paths"),
    ],
)
def test_bad_requests(
    space: str, words: list[str], says: str, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("space.yaml").write_text(f"{space}\n")
    assert yolo_distill.cli.main(["tune", *asked, *words]) == 2
    assert f"yolo-distill: {says}" in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["space.yaml"]


def test_the_best_becomes_a_recipe_and_is_compared_with_the_default(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from yolo_distill.tuning import tune

    settings = {"optimizer": "SGD", "lr0": 0.003, "share.logit": 0.15}
    rows = [
        {"number": number, "map": found, "epochs": epochs, "settings": own, "error": None}
        for number, found, epochs, own in ((1, 40.0, 2, {}), (2, 42.5, 1, settings), (3, None, 0, settings))
    ]
    requests = []

    def compare(request: Any) -> dict[str, Any]:
        requests.append(request)
        each = {"each": {"0": 1.0, "1": 3.0}, "arm": "best", "base": "distilled", "split": "test"}
        row = {**each, "branch": "one-to-many", "metric": "mAP50-95"}
        headline = {"split": "test", "metric": "mAP50-95"}
        return {
            "headline": headline,
            "differences": [{**row, "arm": "distilled", "base": "plain"}, row],
            "seeds": [0, 1],
        }

    monkeypatch.setattr(tune, "search", lambda *given, **settings: rows)
    monkeypatch.setattr(tune, "compare", compare)
    words = {key: value for key, value in (word.split("=", 1) for word in asked) if key != "seeds"}
    Path("space.yaml").write_text(
        "optimizer: {choose: [AdamW, SGD]}\nlr0: [0.001, 0.05, log]\nshare.logit: [0.1, 0.2]\n"
    )
    Path("out").mkdir()  # as the search does it
    found = yolo_distill.tune(**words, seeds=[0, 1], cwd=1.5, recipe="hinton", teacher_epochs=9)
    assert found.verdict == (
        "no difference between best and distilled can be seen with 2 seeds: +2.0 [-10.7, +14.7] mAP50-95 on test"
    )
    assert (found.map, found.settings) == (42.5, settings)
    assert requests[0].arms == f"plain,distilled,{found.recipe}"
    assert requests[0].own["teacher_epochs"] is None  # the search has trained it
    own, host = read_recipe_file(str(found.recipe), ["optimizer", "lr0"])
    hinton, _ = read_recipe_file("hinton")
    assert host == {"optimizer": "SGD", "lr0": 0.003}
    assert own == {**hinton, "cwd": 1.5, "share": {**hinton["share"], "logit": 0.15}}
    assert "mAP50-95 42.5 with one seed, which flatters it; the default: 40.0." in found.recipe.read_text()
    assert found.plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_killed_search_goes_on_and_ends_in_a_recipe_and_a_verdict(
    asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "yolo_distill", "tune", *asked]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    first, search = Path("out/search/distilled-s1000"), Path("out/search")
    give_up = time.monotonic() + 400
    while not (first / "results.csv").is_file():
        assert time.monotonic() < give_up
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (search / "trials.json").exists()
    assert yolo_distill.cli.main(["tune", *asked]) == 0
    said = capsys.readouterr()
    assert "trial 1 of 2 (the default): mAP50-95 " in said.err
    assert "out/best.yaml: mAP50-95 " in said.out
    rows = json.loads((search / "trials.json").read_text())
    assert [row["number"] for row in rows] == [1, 2]
    assert rows[0]["settings"] == {}
    assert rows[1]["settings"].keys() == {"optimizer", "lr0", "logit"}
    assert not list(search.rglob("*.pt"))
    assert Path("out/trials.png").read_bytes().startswith(b"\x89PNG")

    # The same command has nothing left to do, and Python gives what it came to.
    settings = dict(word.split("=", 1) for word in asked)
    found = yolo_distill.tune(**settings)
    best = max(rows, key=lambda row: row["map"])
    assert (found.map, found.settings, found.trials) == (best["map"], best["settings"], rows)
    own, host = read_recipe_file(str(found.recipe), ["optimizer", "lr0"])
    assert {**own, **host}.items() >= best["settings"].items()
    if best["settings"]:
        assert "best is" in found.verdict
        seen = json.loads((Path("out/compare") / "comparison.json").read_text())
        assert list(seen["arms"]) == ["plain", "distilled", "best"]
    else:
        assert found.verdict.startswith("none of the other trials was ahead of the default")
    with pytest.raises(
        yolo_distill.RequestError, match=r"out=.*out: holds a search with other settings \(trials: 2 the"
    ):
        yolo_distill.tune(**{**settings, "trials": 3})
    # Nothing of it outlives the command.
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(search.absolute()) not in running
