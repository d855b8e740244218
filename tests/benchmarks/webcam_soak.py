"""Whether `yolo-distill webcam` stays as large as it is: memory and threads over time, on a video that loops.

    python tests/benchmarks/webcam_soak.py model=best.onnx source=video.mp4 minutes=10

Runs the command as a person would, ends it with Ctrl-C, and looks at it from outside (Linux, /proc). Every setting of
`webcam` passes through. By default it draws, encodes a video and writes JSON lines into a folder that is removed, so
that every stage works but the window. The video is an .mkv: an .mp4 keeps some 100 bytes a frame in memory for its
index, 10 MB an hour.

`every=2` is the time between two looks in seconds, `limit=4` the growth in MB that still counts as flat: the median of
the last fifth of the looks less that of the first, the first fifth of all looks left out to warm up. Prints one JSON
line; `results=` adds it to a file. Exit code 0 if it is flat and ended well.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

MB = 1e6


def main(words: list[str]) -> int:
    options = dict(word.split("=", 1) for word in words)
    seconds = 60 * float(options.pop("minutes", "10"))
    every, limit = float(options.pop("every", "2")), float(options.pop("limit", "4"))
    results = options.pop("results", None)
    with tempfile.TemporaryDirectory() as folder:
        files = {"save": f"{folder}/out.mkv", "record": f"{folder}/labels.jsonl"}
        settings = {"show": "false", "loop": "true", **files, **options}
        command = [sys.executable, "-m", "yolo_distill.cli", "webcam", *(f"{k}={v}" for k, v in settings.items())]
        # A shell starts background jobs with Ctrl-C switched off, and they hand that on.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            looks = watch(run, seconds, every)
            if run.poll() is None:
                run.send_signal(signal.SIGINT)
            out, err = run.communicate(timeout=120)
        finally:
            run.kill()
    warm = looks[len(looks) // 5 :]
    if run.returncode != 130 or len(warm) < 5:
        print(f"webcam ended with {run.returncode} after {len(looks)} looks: {err.strip()}", file=sys.stderr)
        return 1
    at, size, threads = (np.array(column, float) for column in zip(*warm, strict=True))
    fifth = max(len(warm) // 5, 1)
    # Medians, as FFmpeg starts and ends threads of its own where the video begins again.
    growth = float(np.median(size[-fifth:]) - np.median(size[:fifth])) / MB
    more_threads = float(np.median(threads[-fifth:]) - np.median(threads[:fifth]))
    flat = growth <= limit and more_threads <= 0
    report = {
        "flat": flat,
        "minutes": round(float(looks[-1][0]) / 60, 2),
        "growth_mb": round(growth, 2),
        "slope_mb_per_hour": round(float(np.polyfit(at, size, 1)[0]) * 3600 / MB, 2),
        "rss_mb": [round(float(value) / MB, 1) for _, value, _ in looks[:: max(len(looks) // 20, 1)]],
        "threads": sorted({int(count) for count in threads}),
        "said": out.splitlines()[:3],
        "settings": {key: value for key, value in settings.items() if value != files.get(key)},
        "python": platform.python_version(),
    }
    line = json.dumps(report)
    print(line)
    if results:
        with Path(results).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    return 0 if flat else 1


def watch(run: subprocess.Popen[str], seconds: float, every: float) -> list[tuple[float, int, int]]:
    """Return seconds since the start, resident bytes and threads of a process at each look, for `seconds`."""
    page, process, looks = os.sysconf("SC_PAGE_SIZE"), Path("/proc") / str(run.pid), []
    start = time.monotonic()
    while (now := time.monotonic() - start) < seconds and run.poll() is None:
        resident = int((process / "statm").read_text().split()[1]) * page
        looks.append((now, resident, len(list((process / "task").iterdir()))))
        time.sleep(every)
    return looks


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
