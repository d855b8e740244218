"""What a picture costs besides the network: the runtime and the host beside the bare `session.run` of the same file.

    python tests/benchmarks/runtime_cost.py pictures=path/to/bccd/images/test results=runs/runtime_cost.jsonl
    python tests/benchmarks/runtime_cost.py pictures=... results=... sizes=320 heads=dense threads=1 rounds=15 starts=2
    python tests/benchmarks/runtime_cost.py pictures=... results=... model=yolo26n-seg.yaml found=20 starts=0

`model=best.pt` takes a trained model; of a `.yaml`, by default `yolo26n.yaml`, one is made. `table=true` prints the
table of what is there; a setting that is in `results=` is not measured again.

Files are exported by the host from one fresh model of 80 classes, one for each size and head: `end2end` holds the
one-to-one branch, `dense` needs NMS. Its batch norms are filled with the pictures, and its class biases are set so that
2 % of the anchor points pass a confidence of 0.25 (30 of them in the one-to-one branch), as with some ten objects in a
picture. With `found=` the arms keep so many objects at most, boxes are some five cells wide, and ten times as many rows
of the one-to-one branch pass: pictures then show that many. Pictures are resized to 640 x 480 beforehand; all arms get
the same one in turns, in one process:

    bare    `session.run`, with an input that is there
    ours    `Detector(file)(picture)`; of masks also each laid out over the picture, `masks.data`
    host    `YOLO(file).predict(picture)`

`ours` and `host` are medians over rounds of the time divided by bare's of the same round, so that whatever else the
machine does meets all of them; `part` is what ours adds to bare by what the host adds. All have the same number of
threads, in onnxruntime, OpenCV and torch. With one thread, times are the processor's, which others lengthen less.
`start` is the time from the first import to the first detections, and `peak` the highest resident size by then, both in
fresh processes of their own, in turns, the medians of `starts=`.
"""

from __future__ import annotations

import json
import logging
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from evidence import read

from yolo_distill.machine import cpu_name

ARMS = ("bare", "ours", "host")
HEADS = {"end2end": False, "dense": None}  # the host's `nms=`
CONF, IOU = 0.25, 0.7
SURE, SURE_ROWS = 0.02, 30
REACH = 2.5  # cells from a box's middle to its sides

IMPORTS = {
    "ours": "from yolo_distill import Detector\nmodel = Detector({file!r}, threads={threads})\nmodel(picture)",
    "host": "from ultralytics import YOLO\nmodel = YOLO({file!r})\n"
    "model.predict(picture, imgsz={size}, device='cpu', verbose=False)",
}
START = """
import time
start = time.perf_counter()
import cv2
picture = cv2.imread({picture!r})
{work}
seconds = time.perf_counter() - start
peak = next(row for row in open("/proc/self/status") if row.startswith("VmHWM"))
print("RESULT", seconds, int(peak.split()[1]) / 1024)
"""


def main(words: list[str]) -> None:
    options = dict(word.split("=", 1) for word in words)
    if "one" in options:
        print("RESULT " + json.dumps(one(json.loads(options["one"]))), flush=True)
        return
    if "make" in options:
        make(json.loads(options["make"]))
        return
    results = Path(options["results"])
    if options.get("table") == "true":
        print(table(results))
        return
    model = options.get("model", "yolo26n.yaml")
    with tempfile.TemporaryDirectory() as folder:
        for size in map(int, options.get("sizes", "320,640").split(",")):
            for head in options.get("heads", ",".join(HEADS)).split(","):
                for threads in map(int, options.get("threads", "1,2").split(",")):
                    job = {
                        "size": size, "head": head, "threads": threads, "rounds": int(options.get("rounds", "41")),
                        "starts": int(options.get("starts", "5")), "model": Path(model).name.removesuffix(".yaml"),
                        **({"found": int(options["found"])} if "found" in options else {}),
                    }  # fmt: skip
                    if any(all(done.get(key) == value for key, value in job.items()) for done in read(results)):
                        continue
                    file = Path(folder) / f"{head}{size}.onnx"
                    hidden = {"file": str(file), "pictures": options["pictures"], "weights": model}
                    if not file.exists():
                        call("make", {**job, **hidden})
                    line = {**job, **call("one", {**job, **hidden})}
                    if job["starts"]:
                        line |= starts({**job, **hidden})
                    results.parent.mkdir(parents=True, exist_ok=True)
                    with results.open("a") as stream:
                        stream.write(json.dumps(line) + "\n")
                    print(table(results), flush=True)


def call(what: str, job: dict[str, Any]) -> dict[str, Any]:
    """Do one thing in a process of its own and return what it measured."""
    return json.loads(python(__file__, f"{what}={json.dumps(job)}", threads=job["threads"]) or "{}")


def python(*words: str, threads: int) -> str:
    """Run Python and return what it says behind RESULT."""
    env = {**os.environ, "OMP_NUM_THREADS": str(threads), "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
    done = subprocess.run([sys.executable, *words], env=env, text=True, stdout=subprocess.PIPE, check=True)
    return next((row.removeprefix("RESULT") for row in done.stdout.splitlines() if row.startswith("RESULT")), "")


def pictures(folder: str, count: int = 16) -> list[Any]:
    import cv2

    read = (cv2.imread(str(path)) for path in sorted(Path(folder).iterdir()))
    found = [cv2.resize(image, (640, 480)) for image in read if image is not None][:count]
    assert found, f"no pictures in {folder}"
    return found


def make(job: dict[str, Any]) -> None:
    """Export a file; of an architecture from a model that looks at the pictures and is sure of a few places."""
    import numpy as np
    import torch
    from ultralytics import YOLO
    from ultralytics.utils import LOGGER

    from yolo_distill.runtime.letterbox import letterbox

    LOGGER.setLevel(logging.ERROR)
    torch.manual_seed(0)
    model = YOLO(job["weights"])
    if job["weights"].endswith(".yaml"):
        network = model.model
        inputs = [letterbox(image, (job["size"], job["size"]))[0] for image in pictures(job["pictures"])]
        batch = torch.from_numpy(np.stack(inputs)[..., ::-1].transpose(0, 3, 1, 2).copy()).float() / 255
        for layer in network.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = 1.0
        with torch.no_grad():
            network.train()(batch)
            network.eval()
            raw = network(batch)[1]
            head = network.model[-1]
            for branch, layers in (("one2many", head.cv3), ("one2one", head.one2one_cv3)):
                best = raw[branch]["scores"].amax(1)
                rows = SURE_ROWS if "found" not in job else 10 * job["found"]
                share = SURE if branch == "one2many" else rows / best.shape[1]
                edge = float(best.flatten().sort(descending=True).values[int(share * best.numel())])
                for level in layers:
                    level[-1].bias += math.log(CONF / (1 - CONF)) - edge
            if "found" in job:
                for level in (*head.cv2, *head.one2one_cv2):
                    level[-1].bias += REACH
    model.ckpt_path = model.model.pt_path = str(Path(job["file"]).with_suffix(".pt"))
    model.export(format="onnx", imgsz=job["size"], nms=HEADS[job["head"]], simplify=True, verbose=False)


def one(job: dict[str, Any]) -> dict[str, Any]:
    """Measure the three arms in turns."""
    import cv2
    import numpy as np
    import onnxruntime
    import torch
    import ultralytics
    from ultralytics import YOLO

    from yolo_distill import Detector

    threads = job["threads"]
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    images = pictures(job["pictures"])
    detector = Detector(job["file"], threads=threads)
    tensor, _ = detector.preprocess(images[0])
    name = detector.session.get_inputs()[0].name
    unlimited = onnxruntime.InferenceSession

    def limited(file: str, options: Any = None, **settings: Any) -> Any:
        # The host leaves the number to onnxruntime, which takes all cores.
        options = options or onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        return unlimited(file, options, **settings)

    onnxruntime.InferenceSession = limited
    host = YOLO(job["file"], task=detector.task)
    counted = {"conf": CONF, "iou": IOU, "max_det": job.get("found", 300)}
    settings = {**counted, "imgsz": job["size"], "rect": False, "device": "cpu", "verbose": False}

    def ours(image: Any) -> Any:
        found = detector(image, **counted)
        if found.masks is not None:
            _ = found.masks.data
        return found

    clock = time.process_time if threads == 1 else time.perf_counter
    arms = {
        "bare": lambda image: detector.session.run(None, {name: tensor}),
        "ours": ours,
        "host": lambda image: host.predict(image, **settings),
    }
    seconds: dict[str, list[float]] = {arm: [] for arm in arms}
    found = []
    for turn in range(-3, job["rounds"]):
        image = images[turn % len(images)]
        for arm, work in arms.items():
            start = clock()
            answer = work(image)
            spent = clock() - start
            if turn >= 0:
                seconds[arm].append(spent)
                found += [len(answer)] if arm == "ours" else []
    answers = [detector.infer(detector.preprocess(image)[0]) for image in images]
    raws = [(answer[0] if isinstance(answer, tuple) else answer)[0] for answer in answers]
    classes = slice(4, 4 + len(detector.names))
    scores = np.stack([raw[:, 4] if detector.end2end else raw[classes].max(0) for raw in raws])
    rounds = list(zip(*seconds.values(), strict=True))
    added = [statistics.median(r[i] - r[0] for r in rounds) for i in (1, 2)]
    return {
        "ratio": {arm: round(statistics.median(r[i] / r[0] for r in rounds), 4) for i, arm in enumerate(ARMS)},
        "added_ms": {"ours": round(1000 * added[0], 3), "host": round(1000 * added[1], 3)},
        "part": round(added[0] / added[1], 3),
        "bare_ms": round(1000 * statistics.median(seconds["bare"]), 2),
        "candidates": round(float((scores > CONF).sum(1).mean()), 1),
        "detections": round(statistics.mean(found), 1),
        "versions": {
            "ultralytics": ultralytics.__version__, "torch": torch.__version__, "opencv": cv2.__version__,
            "onnxruntime": onnxruntime.__version__, "python": platform.python_version(),
        },
        "machine": cpu_name(),
        "load": round(os.getloadavg()[0], 2),
        "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip


def starts(job: dict[str, Any]) -> dict[str, Any]:
    """Measure fresh processes: seconds from the first import to the first detections, and the highest resident size."""
    import cv2

    picture = str(Path(job["file"]).with_suffix(".png"))
    cv2.imwrite(picture, pictures(job["pictures"], 1)[0])
    taken: dict[str, list[tuple[float, float]]] = {arm: [] for arm in IMPORTS}
    for turn in range(-1, job["starts"]):
        for arm, work in IMPORTS.items():
            code = START.format(picture=picture, work=work.format(**job))
            seconds, peak = map(float, python("-c", code, threads=job["threads"]).split())
            if turn >= 0:  # the first one reads from the disk
                taken[arm].append((seconds, peak))
    middle = {arm: [statistics.median(values) for values in zip(*rows, strict=True)] for arm, rows in taken.items()}
    return {
        "start_s": {arm: round(values[0], 3) for arm, values in middle.items()},
        "peak_mb": {arm: round(values[1]) for arm, values in middle.items()},
    }


def table(results: Path) -> str:
    """Return all that was measured: milliseconds added and times as multiples of the bare run, ours by the host's."""
    rows = [
        "| model, head | px | threads | candidates, found | bare | ours | host | added, ours / host | part | "
        "start, ours / host | part | peak memory, ours / host | part |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in read(results):
        (ours, host), nan = r["added_ms"].values(), {"ours": math.nan, "host": math.nan}
        start, peak = r.get("start_s", nan), r.get("peak_mb", nan)
        rows.append(
            f"| {r['model']}, {r['head']} | {r['size']} | {r['threads']} | "
            f"{r['candidates']:.0f}, {r['detections']:.0f} | "
            f"{r['bare_ms']:.1f} ms | {r['ratio']['ours']:.3f} | {r['ratio']['host']:.3f} | {ours:.2f} / {host:.2f} ms "
            f"| {r['part']:.2f} | {start['ours']:.2f} / {start['host']:.2f} s | {start['ours'] / start['host']:.2f} | "
            f"{peak['ours']} / {peak['host']} MB | {peak['ours'] / peak['host']:.2f} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
