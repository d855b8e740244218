"""What an export says about itself: the proof beside the file, and its summary."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from yolo_distill.exporting.parity import BOX_TOLERANCE, SCORE_TOLERANCE, Comparison


@dataclasses.dataclass(frozen=True)
class ExportReport:
    """What was exported and how it was proved; `best.json` beside the file holds the same.

    Attributes:
        path: the exported file.
        proof: the JSON file beside it.
        source: the checkpoint.
        target: name of the target.
        audience: who the file is for, in the target's words.
        precision: `fp32`, `fp16` or `int8`.
        imgsz: height and width of the input, in pixels.
        end2end: whether the file holds the one-to-one branch, which needs no NMS.
        names: class index to name.
        opset: ONNX operator set.
        tensors: `input` and `output`: name, type, shape and meaning.
        file_bytes: size of the file.
        fp32_bytes: size of the fp32 file it was made from.
        sha256: of the file.
        source_sha256: of the checkpoint.
        pictures: names of the pictures that the fp32 file was proved on beside torch.
        box_px: largest difference of the fp32 file's boxes from torch's, in pixels of the input.
        score: largest difference of its scores.
        detections: what came out of both after post-processing, at one or two thresholds.
        tolerances: what `box_px` and `score` were allowed to be.
        accuracy: on `val` of the data: `torch`, `fp32` and the precision to mAP in points; or how far the detections
            of the file agree with those of fp32; empty for fp32 without labelled data.
        calibration: of int8: how ranges were chosen, on how many pictures, and the layers left in fp32.
        ms: milliseconds (the shortest time) of the bare network for one picture, measured in turns: `torch`, `fp32` and
            the precision, on `threads` threads of this machine's CPU.
        threads: see `ms`.
        delegates: of a phone target: provider to the checker's verdict.
        extras: further files by what they are: `path`, `file_bytes`, `sha256`.
        metadata: what the file says about itself.
        advice: the target's.
        versions: of everything that had a part in it.
        seconds: wall-clock time.
    """

    path: str
    proof: str
    source: str
    target: str
    audience: str
    precision: str
    imgsz: tuple[int, int]
    end2end: bool
    names: dict[int, str]
    opset: int
    tensors: dict[str, dict[str, Any]]
    file_bytes: int
    fp32_bytes: int
    sha256: str
    source_sha256: str
    pictures: tuple[str, ...]
    box_px: float
    score: float
    detections: tuple[Comparison, ...]
    tolerances: dict[str, float]
    accuracy: dict[str, dict[str, float]]
    calibration: dict[str, Any]
    ms: dict[str, float]
    threads: int
    delegates: dict[str, dict[str, Any]]
    extras: dict[str, dict[str, Any]]
    metadata: dict[str, str]
    advice: str
    versions: dict[str, str]
    seconds: float

    def summary(self) -> str:
        """Return the report in a few lines for a terminal."""
        branch = "one-to-one branch, no NMS needed" if self.end2end else "one-to-many branch, NMS in the runtime"
        lines = [
            f"{self.path}: {self.precision}, {self.file_bytes / 1e6:.1f} MB, {self.imgsz[0]}x{self.imgsz[1]} px, "
            f"opset {self.opset}",
            f"for {self.audience}; {branch}",
            f"proved on {len(self.pictures)} pictures: boxes differ by at most {self.box_px:.2g} px "
            f"(allowed {BOX_TOLERANCE:g}), scores by {self.score:.2g} (allowed {SCORE_TOLERANCE:g})"
            + ("" if self.precision == "fp32" else ", in fp32"),
        ]
        for part in self.detections:
            if not max(part.torch, part.file):
                lines.append(f"detections at conf {part.conf:.3g}: none in these pictures, by either")
                continue
            edge = f", {part.borderline} on a threshold" if part.borderline else ""
            lines.append(
                f"detections at conf {part.conf:.3g}: {part.same} of {max(part.torch, part.file)} the same{edge}, "
                f"within {part.box_px:.2g} px and {part.score:.2g}"
            )
        lines += [*self._accuracy(), *self._speed()]
        for provider, verdict in self.delegates.items():
            parts = f"{verdict['partitions']} partition{'s' if verdict['partitions'] != 1 else ''}"
            suits = "suits" if verdict["suits"] else "does not suit"
            lines.append(f"{provider}: {verdict['nodes']} of {verdict['of']} operators in {parts}, {suits}")
        lines += [f"{what}: {extra['path']}" for what, extra in self.extras.items()]
        return "\n".join([*lines, f"proof: {self.proof}"])

    def _accuracy(self) -> list[str]:
        if not self.accuracy:
            return []
        lines = []
        maps = [f"{name} {figures['map']:.1f}" for name, figures in self.accuracy.items() if "map" in figures]
        if maps:
            lines.append(f"mAP50-95 on val: {', '.join(maps)}")
        agreed = self.accuracy.get(self.precision, {})
        if "matched" in agreed:
            same = f"{100 * agreed['matched']:.1f} % of the detections the same"
            lines.append(f"{self.precision} beside fp32: {same}, scores off by {agreed['score_gap']:.3f}")
        if self.calibration:
            lines.append(
                f"calibrated on {self.calibration['pictures']} pictures ({self.calibration['method']}); in fp32: "
                f"{', '.join(self.calibration['kept'])}"
            )
        return lines

    def _speed(self) -> list[str]:
        timed = ", ".join(f"{name} {ms:.1f}" for name, ms in self.ms.items())
        lines = [f"ms a picture on {self.threads} thread{'s' if self.threads != 1 else ''}: {timed}"]
        if self.precision != "fp32":
            ratio = self.ms["fp32"] / self.ms[self.precision]
            slower = "; slower on this CPU than fp32, see what the target is for" if round(ratio, 2) < 1 else ""
            lines[0] += f" ({ratio:.2f}x fp32; {self.file_bytes / self.fp32_bytes:.2f} of its size{slower})"
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain values; paths of this machine by name only, as the proof travels with the file."""
        plain = dataclasses.asdict(self)
        for key in ("path", "proof", "source"):
            plain[key] = Path(plain[key]).name
        for extra in plain["extras"].values():
            extra["path"] = Path(extra["path"]).name
        return plain
