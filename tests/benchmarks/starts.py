"""What a student is worth before any training, by how it is started from its teacher.

    python tests/benchmarks/starts.py data=path/to/bccd/data.yaml teacher=best.pt student=yolo26n.yaml imgsz=192

Prints a Markdown table of mAP50-95 on val: each choice of channels (two by chance, to see what a choice is worth) as
selected, and fitted to the teacher by least squares (`init_fit`). `pictures=128 threads=1` by default.
"""

from __future__ import annotations

import copy
import sys
from typing import Any

import torch
from ultralytics.nn.tasks import DetectionModel

from yolo_distill.data.dataset import check_data
from yolo_distill.data.samples import sample_pictures
from yolo_distill.evaluation.evaluate import evaluate
from yolo_distill.initialization.channel_selection import norm_scores
from yolo_distill.initialization.least_squares import reconstruct
from yolo_distill.initialization.weight_selection import plan_start
from yolo_distill.models.architecture_files import load_architecture
from yolo_distill.models.checkpoint import load_detector


def main(words: list[str]) -> None:
    options = dict(word.split("=", 1) for word in words)
    torch.set_num_threads(int(options.get("threads", 1)))
    imgsz = int(options["imgsz"])
    data = check_data(options["data"], ("train", "val"))
    teacher = load_detector(options["teacher"], role="teacher")
    pictures = sample_pictures(data, imgsz, int(options.get("pictures", 128)))

    def worth(model: DetectionModel) -> str:
        return f"{100 * evaluate(model, options['data'], imgsz=imgsz)['map']:.1f}"

    print(f"teacher: {worth(teacher)}\n")
    print("| channels | as selected | fitted | error of the convolutions |\n|---|---|---|---|")
    for name, scores in choices(teacher).items():
        torch.manual_seed(0)
        student = load_architecture(options["student"], data["nc"], role="student")
        student.names = teacher.names
        selected, report = plan_start(student, teacher, scores=scores)
        student.load_state_dict(selected, strict=False)
        fitted = copy.deepcopy(student)
        done = reconstruct(fitted, teacher, report, pictures)
        print(f"| {name} | {worth(student)} | {worth(fitted)} | {done} |", flush=True)


def choices(teacher: DetectionModel) -> dict[str, Any]:
    """Return the scores of each way of choosing channels, by name; None is evenly spaced."""
    norm = norm_scores(teacher)
    chance = torch.Generator().manual_seed(0)

    def random() -> dict[str, torch.Tensor]:
        return {path: torch.rand(score.shape, generator=chance) for path, score in norm.items()}

    return {"even": None, "norm": norm, "random": random(), "random again": random()}


if __name__ == "__main__":
    main(sys.argv[1:])
