"""What the web app costs in a browser: time beside Python's bare `session.run`, and memory while its camera runs.

    python tests/benchmarks/browser_cost.py speed models=fp32.onnx,int8.onnx video=clip.mp4 results=runs/browser.jsonl
    python tests/benchmarks/browser_cost.py soak models=int8.onnx video=clip.mp4 minutes=30 results=runs/soak.jsonl

`yolo-distill serve` runs in a process of its own; headless Chromium, steered by playwright, opens the page and gets the
first `frames=300` pictures of the clip as its camera, 30 a second, over and over. It computes by WASM with as many
threads as the app takes; Python gets the same number.

`speed` takes turns, `rounds=7` times: for each model, one after the other,

    live    the app with its camera for `seconds=6`: what the worker says its parts took, frames a second, the latency
            that the page shows, and tasks of the page's main thread above 50 ms
    quiet   the camera off, and the worker asked for the same frame `count=60` times: nothing else runs
    python  `session.run` of the same file `count=60` times, with an input that is there

`ratio` is the worker's time for the network (the median of a round) divided by Python's of the same round: the median
over rounds, the lowest and the highest. Other figures are medians over rounds, in ms; long tasks are sums.

`soak` looks every half minute (`every=30`) at the resident memory of the renderers, which includes the worker's heap,
and of Chromium, and at the page's heap, nodes and listeners after a forced garbage collection. Each look is a line, and
so is the report: growth from the second minute to the end, by medians of the first and last fifth of those looks, but
not before `warm=1000` pictures: without a GPU, Chromium fills 512 MB of shared memory with pictures before it takes a
place again. Exit code 1 if the page complained of anything.
"""

from __future__ import annotations

import importlib
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil  # type: ignore[import-untyped]

from yolo_distill import Detector
from yolo_distill.machine import machine, versions
from yolo_distill.paths import export_dir

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "web"))
Visit: Any = importlib.import_module("visiting").Visit

MB, FPS = 1e6, 30
SWITCHES = """--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync
--no-first-run --use-fake-device-for-media-stream --use-fake-ui-for-media-stream"""
HEAR = """() => {
  Object.assign(globalThis, { heard: [], from: performance.now() });
  app.onfound = ({ times }) => heard.push(times);
  longTasks.length = 0;
}"""
READ = """({
  times: heard, fps: 1000 * heard.length / (performance.now() - from), latency: app.meter.latency, long: longTasks,
})"""
ASK = """async (count) => {
  const all = [];
  for (let times; all.length < count; all.push(times)) {
    ({ frame: globalThis.kept, times } = await app.detector.find(kept, app.controls.settings));
  }
  return all;
}"""
SEEN = "({ answers, fps: app.meter.fps && Math.round(10 * app.meter.fps) / 10, long_tasks: longTasks.length })"
GROWING, SPREAD = ("heap_mb", "renderer_mb", "chromium_mb", "nodes", "listeners"), (statistics.median, min, max)


def main(words: list[str]) -> int:
    options = dict(word.split("=", 1) for word in words[1:])
    Path(options["results"]).parent.mkdir(parents=True, exist_ok=True)

    def write(line: dict[str, Any]) -> None:
        print(json.dumps(line), flush=True)
        with Path(options["results"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    with tempfile.TemporaryDirectory() as folder, chromium(options, Path(folder) / "clip.y4m") as browser:
        return (soak if words[0] == "soak" else speed)(browser, options, write)


@contextmanager
def chromium(options: dict[str, str], film: Path) -> Iterator[Any]:
    """Start the browser with a camera that shows the clip."""
    from playwright.sync_api import sync_playwright

    clip = cv2.VideoCapture(options["video"])
    with film.open("wb") as file:
        left = int(options.get("frames", "300"))
        while (left := left - 1) >= 0 and (frame := clip.read()[1]) is not None:
            if not file.tell():
                file.write(f"YUV4MPEG2 W{frame.shape[1]} H{frame.shape[0]} F{FPS}:1 Ip A1:1 C420jpeg\n".encode())
            file.write(b"FRAME\n" + np.ascontiguousarray(cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420)).tobytes())
    assert film.stat().st_size, f"no frames in {options['video']}"
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    args = [*SWITCHES.split(), f"--use-file-for-fake-video-capture={film}"]
    with sync_playwright() as running, running.chromium.launch(executable_path=found, args=args) as browser:
        yield browser


@contextmanager
def camera(browser: Any, model: str) -> Iterator[Any]:
    """Serve a model as a person would, open its page, and start the camera."""
    command = [sys.executable, "-m", "yolo_distill.cli", "serve", f"model={model}", "port=0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        url = next(match.group() for line in server.stdout or [] if (match := re.search(r"http://\S+", line)))
        visit = Visit(browser.new_context(permissions=["camera"]), f"{url}?backend=wasm").ready()
        assert visit.notice() == "", visit.notice()
        visit.page.locator("#camera").click()
        visit.until("globalThis.answers > 10")
        yield visit
        visit.close()
    finally:
        server.terminate()
        server.wait()


def about(browser: Any, visit: Any, model: str) -> dict[str, Any]:
    """Return what was measured on what."""
    lock = json.loads((export_dir() / "web" / "package-lock.json").read_text(encoding="utf-8"))
    web = lock["packages"]["node_modules/onnxruntime-web"]["version"]
    size = visit.page.evaluate("[app.video.videoWidth, app.video.videoHeight]")
    return {
        "model": Path(model).name, "about": visit.text("about").strip(), "backend": visit.text("backend"),
        "camera": [*size, FPS], "machine": machine(), "date": time.strftime("%Y-%m-%d"),
        "versions": {**versions(), "chromium": browser.version, "onnxruntime-web": web},
    }  # fmt: skip


def speed(browser: Any, options: dict[str, str], write: Any) -> int:
    """Measure the arms in turns, and write a line for each model."""
    rounds, seconds, count = (int(options.get(*one)) for one in (("rounds", "7"), ("seconds", "6"), ("count", "60")))
    picture = cv2.VideoCapture(options["video"]).read()[1]
    models = options["models"].split(",")
    abouts: dict[str, dict[str, Any]] = {}
    measured: dict[str, list[dict[str, float]]] = {model: [] for model in models}
    complaints: list[str] = []
    for turn in range(-1, rounds):
        for model in models:
            # A new page each time: an idle one might still cost something while Python runs.
            with camera(browser, model) as visit:
                abouts.setdefault(model, about(browser, visit, model))
                taken = arms(visit, seconds, count)
                threads = int(visit.text("backend").split()[1])
                complaints += visit.errors
            taken["python"] = python(model, picture, threads, count)
            measured[model] += [taken] if turn >= 0 else []  # the first one reads from the disk
    for model, done in measured.items():
        ratios = {arm: [one[f"{arm}_infer"] / one["python"] for one in done] for arm in ("live", "quiet")}
        write({
            "what": "speed", **abouts[model], "rounds": len(done), "live_seconds": seconds, "count": count,
            "ratio": {arm: [round(of(all_), 3) for of in SPREAD] for arm, all_ in ratios.items()},
            **{key: round(statistics.median(one[key] for one in done), 2) for key in done[0]},
            "long_tasks": sum(one["long_tasks"] for one in done), "longest": max(one["longest"] for one in done),
            "load_after": machine()["load_average"], "complaints": complaints,
        })  # fmt: skip
    return 1 if complaints else 0


def arms(visit: Any, seconds: int, count: int) -> dict[str, float]:
    """Return what the page takes with its camera, and what its worker takes without."""
    visit.page.evaluate(HEAR)
    visit.page.wait_for_timeout(1000 * seconds)
    live = visit.page.evaluate(READ)
    visit.page.evaluate("globalThis.kept = app.view.shown.frame.clone(); 0")
    visit.page.locator("#camera").click()
    visit.until("!app.newest.busy")
    visit.page.evaluate(ASK, count // 4)
    quiet = visit.page.evaluate(ASK, count)
    visit.page.evaluate("kept.close()")
    return {
        **{f"live_{part}": statistics.median(one[part] for one in live["times"]) for part in quiet[0]},
        **{f"quiet_{part}": statistics.median(one[part] for one in quiet) for part in quiet[0]},
        "fps": live["fps"], "latency": live["latency"],
        "long_tasks": len(live["long"]), "longest": max(live["long"], default=0),
    }  # fmt: skip


def python(model: str, picture: np.ndarray, threads: int, count: int) -> float:
    """Return the median of `session.run` in ms."""
    detector = Detector(model, threads=threads)
    feed = {detector.session.get_inputs()[0].name: detector.preprocess(picture)[0]}
    ends = []
    for _ in range(count // 4 + count + 1):
        detector.session.run(None, feed)
        ends.append(1000 * time.perf_counter())
    return float(np.median(np.diff(ends[count // 4 :])))


def soak(browser: Any, options: dict[str, str], write: Any) -> int:
    """Look at the memory of a page whose camera runs."""
    minutes, every = float(options.get("minutes", "30")), float(options.get("every", "30"))
    with camera(browser, options["models"]) as visit:
        described = about(browser, visit, options["models"])
        devtools = visit.page.context.new_cdp_session(visit.page)
        devtools.send("Performance.enable")
        looks: list[dict[str, Any]] = []
        start = time.monotonic()
        while not looks or (looks[-1]["minute"] < minutes - 0.01 and not visit.notice()):
            visit.page.wait_for_timeout(max(1000 * (start + every * len(looks) - time.monotonic()), 1))
            look = {"what": "look", "minute": round((time.monotonic() - start) / 60, 2), **memory(visit, devtools)}
            looks.append(look)
            write(look)
        many = int(options.get("warm", "1000"))
        warm = [look for look in looks if look["minute"] > 1.99 and look["answers"] >= many] or looks
        fifth = max(len(warm) // 5, 1)

        def middle(some: list[dict[str, Any]], key: str) -> float:
            return statistics.median(look[key] for look in some)

        write({
            "what": "soak", **described, "minutes": looks[-1]["minute"], "answers": looks[-1]["answers"],
            "warm_minutes": round(warm[-1]["minute"] - warm[0]["minute"], 2),
            "warm_answers": warm[-1]["answers"] - warm[0]["answers"],
            "growth": {key: round(middle(warm[-fifth:], key) - middle(warm[:fifth], key), 2) for key in GROWING},
            "highest": {key: max(look[key] for look in warm) for key in GROWING}, "long_tasks": looks[-1]["long_tasks"],
            "load_after": machine()["load_average"], "notice": visit.notice(), "complaints": visit.errors,
        })  # fmt: skip
        return 1 if visit.errors or visit.notice() else 0


def memory(visit: Any, devtools: Any) -> dict[str, Any]:
    """Return what the page takes; resident sizes as they are before the garbage collection."""
    sizes: dict[str, list[float]] = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # gone meanwhile
            if "chrom" in process.name():
                kind = re.search(r"--type=([\w-]+)", " ".join(process.cmdline()))
                sizes.setdefault(kind.group(1) if kind else "browser", []).append(process.memory_info().rss / MB)
    devtools.send("HeapProfiler.collectGarbage")
    metrics = {one["name"]: one["value"] for one in devtools.send("Performance.getMetrics")["metrics"]}
    return {
        "heap_mb": round(metrics["JSHeapUsedSize"] / MB, 3), "renderer_mb": round(sum(sizes["renderer"]), 1),
        "chromium_mb": round(sum(map(sum, sizes.values())), 1), "nodes": int(metrics["Nodes"]),
        "listeners": int(metrics["JSEventListeners"]), **visit.page.evaluate(SEEN), "complaints": len(visit.errors),
        "processes_mb": {kind: [round(one, 1) for one in all_] for kind, all_ in sizes.items()},
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
