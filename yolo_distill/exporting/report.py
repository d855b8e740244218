"""What an export says about itself: the proof beside the file, and its summary."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from ultralytics import __version__ as host_version

from yolo_distill.evaluation.detection_agreement import Agreement
from yolo_distill.exporting.detection_parity import TOLERANCES, Comparison, Gap
from yolo_distill.models.tasks import metric_of
from yolo_distill.version import __version__


@dataclasses.dataclass(frozen=True)
class _Report:
    """What every report holds; the JSON file beside the exported one holds the same.

    Attributes:
        path: the exported file or folder.
        source: the checkpoint.
        task: of it, in the host's word.
        imgsz: height and width of the input, in pixels.
        end2end: whether the file holds the one-to-one branch, which needs no NMS.
        data: name of the data set that mAP was measured on; empty where it was not.
        training: what the checkpoint says of its training, see `training_of`; empty where it says nothing.
        license: of the file, as its metadata has it.
        processor: what it was timed on.
        doubt: why the times may be wrong, "" where nothing speaks against them.
        versions: of everything that had a part in it.
        seconds: wall-clock time.
    """

    path: str
    source: str
    precision: str
    task: str
    imgsz: tuple[int, int]
    end2end: bool
    names: dict[int, str]
    data: str
    training: dict[str, Any]
    license: str
    processor: str
    doubt: str
    file_bytes: int
    source_sha256: str
    versions: dict[str, str]
    seconds: float

    _beside: ClassVar[str] = "proof"  # the field that names the JSON file

    @property
    def json_file(self) -> Path:
        """Where the JSON file lies."""
        return Path(getattr(self, self._beside))

    @property
    def card(self) -> Path:
        """Where the model card lies."""
        return self.json_file.with_suffix(".md")

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write the JSON file into a folder; return it, and its place beside the exported one."""
        file = folder / "proof.json"
        file.write_text(json.dumps(self.as_json(), indent=2) + "\n", encoding="utf-8")
        return file, self.json_file

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain values; paths of this machine by name only, as the proof travels with the file."""
        plain = dataclasses.asdict(self)
        for holder, key in ((plain, "path"), (plain, "source"), (plain, self._beside)):
            holder[key] = Path(holder[key]).name
        for extra in plain.get("extras", {}).values():
            extra["path"] = Path(extra["path"]).name
        return plain

    def _megabytes_and_size(self) -> str:
        return f"{self.file_bytes / 1e6:.1f} MB, {self.imgsz[0]}x{self.imgsz[1]} px"

    def _beside_it(self) -> list[str]:
        return [f"model card: {self.card}", f"proof: {self.json_file}"]

    @property
    def branch(self) -> str:
        """Return which outputs the file has, in words."""
        return "one-to-one branch, no NMS needed" if self.end2end else "one-to-many branch, NMS in the runtime"


@dataclasses.dataclass(frozen=True)
class ExportReport(_Report):
    """What was exported to ONNX and how it was proved; see `_Report`.

    Attributes:
        proof: the JSON file beside it.
        audience: who the file is for, in the target's words.
        tensors: `input` and `output`: name, type, shape and meaning.
        fp32_bytes: size of the fp32 file it was made from.
        pictures: names of the pictures that the fp32 file was proved on beside torch.
        box_px: largest difference of the fp32 file's boxes from torch's, in pixels of the input.
        score: largest difference of its scores.
        detections: what came out of both after post-processing, at one or two thresholds.
        tolerances: what `box_px` and `score` were allowed to be.
        accuracy: on `val` of the data: `torch`, `fp32` and the precision to mAP in points, and the number of
            `pictures`; or how far the detections of the file agree with those of fp32; empty for fp32 without labelled
            data.
        calibration: of int8: how ranges were chosen, on how many pictures, and the layers left in fp32.
        ms: milliseconds (the shortest time) of the bare network for one picture, measured in turns: `torch`, `fp32` and
            the precision, on `threads` threads of this machine's CPU.
        threads: see `ms`.
        delegates: of a phone target in fp32 or fp16: provider to the checker's verdict, see `check_suitability`.
        extras: further files by what they are: `path`, `file_bytes`, `sha256`.
        metadata: what the file says about itself.
    """

    proof: str
    target: str
    audience: str
    opset: int
    tensors: dict[str, dict[str, Any]]
    fp32_bytes: int
    sha256: str
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

    def summary(self) -> str:
        """Return the report in a few lines for a terminal."""
        lines = [
            f"{self.path}: {self.precision}, {self._megabytes_and_size()}, opset {self.opset}",
            f"for {self.audience}; {self.branch}",
            *self.proved(),
            *_maps(self.accuracy, self.task),
            self._speed(),
            *filter(None, [self.doubt]),
        ]
        for provider, verdict in self.delegates.items():
            parts = f"{verdict['partitions']} partition{'s' if verdict['partitions'] != 1 else ''}"
            suits = {"yes": "suits", "partly": "suits in part", "no": "does not suit"}[verdict["suits"]]
            why = f": {', '.join(verdict['why'])}" if verdict["why"] else ""
            lines.append(f"{provider}: {verdict['nodes']} of {verdict['of']} operators in {parts}, {suits}{why}")
        lines += [f"{what}: {extra['path']}" for what, extra in self.extras.items()]
        return "\n".join([*lines, *self._beside_it()])

    def proved(self) -> list[str]:
        """Return what the file was proved by, in a few lines."""
        lines = [
            f"proved on {len(self.pictures)} pictures: "
            + _apart(Gap(self.box_px, self.score), TOLERANCES)
            + ("" if self.precision == "fp32" else ", in fp32"),
            *map(_compared, self.detections),
        ]
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

    def _speed(self) -> str:
        timed = ", ".join(f"{name} {ms:.1f}" for name, ms in self.ms.items())
        line = f"ms a picture on {self.threads} thread{'s' if self.threads != 1 else ''}: {timed}"
        if self.precision == "fp32":
            return line
        ratio = self.ms["fp32"] / self.ms[self.precision]
        slower = "; slower on this CPU than fp32, see what the target is for" if round(ratio, 2) < 1 else ""
        return f"{line} ({ratio:.2f}x fp32; {self.file_bytes / self.fp32_bytes:.2f} of its size{slower})"


@dataclasses.dataclass(frozen=True)
class HostProof:
    """What was measured on a file of the host's formats.

    Attributes:
        pictures: names of the pictures that torch and the file were run on.
        box_px: largest difference of the boxes from torch's, in pixels of the input. For it and what is judged below
            OpenVINO and ncnn compute in fp32, also where they would take something faster on this processor: that is
            the processor's loss, not the file's.
        score: largest difference of the scores.
        tolerances: what the two were allowed to be; empty for fp16 and int8, which the detections are judged by.
        agreement: detections of the file beside torch's.
        accuracy: on `val` of the data: `torch` and the precision to `map` and `map50` in points, and the number of
            `pictures`; where the runtime computes in less than fp32 by itself, also what that gives.
        ms: milliseconds (the shortest time) of the bare network for one picture on this machine, `torch` and the
            precision in turns, each on the number of threads it takes by itself.
        computes_in: what the runtime computes in on this machine where it says so and it is not fp32, else "".
        as_run: the detections again, of the file as the host runs it here.
    """

    pictures: tuple[str, ...]
    box_px: float
    score: float
    tolerances: dict[str, float]
    agreement: Agreement
    accuracy: dict[str, dict[str, float]]
    ms: dict[str, float]
    computes_in: str
    as_run: Agreement


@dataclasses.dataclass(frozen=True)
class HostReport(_Report):
    """What was exported by the host and how it was proved; see `_Report`.

    Attributes:
        note: the JSON file beside it.
        format: the host's word for it.
        kpt_shape: of a pose model: keypoints, and numbers of each; None of others.
        sha256: of each file, by its name inside the folder.
        calibration: of int8: how many pictures of which split the host calibrated on.
        proof: what was measured; None where the file could not be run.
        not_proved: why not, else "".
    """

    note: str
    format: str
    kpt_shape: tuple[int, ...] | None
    sha256: dict[str, str]
    calibration: dict[str, Any]
    proof: HostProof | None
    not_proved: str

    _beside: ClassVar[str] = "note"

    def summary(self) -> str:
        """Return the report in a few lines for a terminal."""
        lines = [f"{self.path}: {self.format}, {self.precision}, {self._megabytes_and_size()}", self.branch]
        lines += self.proved()
        if self.proof is not None:
            torch_ms, ms = self.proof.ms["torch"], self.proof.ms[self.precision]
            lines += _maps(self.proof.accuracy, self.task)
            lines.append(f"ms a picture: torch {torch_ms:.1f}, {self.precision} {ms:.1f} ({torch_ms / ms:.2f}x torch)")
            lines += filter(None, [self.doubt])
        return "\n".join([*lines, *self._beside_it()])

    def proved(self) -> list[str]:
        """Return what the file was proved by, in a few lines; or why it was not."""
        lines = []
        if self.calibration:
            lines.append(f"calibrated on {self.calibration['pictures']} pictures of {self.calibration['split']}")
        if (proof := self.proof) is None:
            return [*lines, f"not proved: {self.not_proved}"]
        raw = f": {_apart(Gap(proof.box_px, proof.score), Gap(**proof.tolerances))}" if proof.tolerances else ""
        lines.append(f"run beside torch on {len(proof.pictures)} pictures{raw}")
        lines.append(f"{proof.agreement.detections} detections beside torch's: {proof.agreement}")
        if proof.computes_in:
            lines.append(
                f"{self.format} computes in {proof.computes_in} on this processor unless set otherwise, as for ms: "
                f"then {proof.as_run}"
            )
        return lines


def base_versions() -> dict[str, str]:
    """Return the versions of what takes part in every export."""
    return {
        "yolo_distill": __version__,
        "ultralytics": host_version,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }


def _apart(gap: Gap, allowed: Gap) -> str:
    return (
        f"boxes differ by at most {gap.box_px:.2g} px (allowed {allowed.box_px:g}), scores by {gap.score:.2g} "
        f"(allowed {allowed.score:g})"
    )


def _compared(part: Comparison) -> str:
    at, most = f"detections at conf {part.conf:.3g}", max(part.torch, part.file)
    if not most:
        return f"{at}: none in these pictures, by either"
    edge = f", {part.borderline} on a threshold" if part.borderline else ""
    words = {
        "mask_iou": "masks at least {:.4f} IoU",
        "keypoint_px": "keypoints {:.2g} px",
        "angle_deg": "angles {:.2g} degrees",
    }
    own = "".join(f"; {words[key].format(value)}" for key, value in part.own.items())
    return f"{at}: {part.same} of {most} the same{edge}, within {part.box_px:.2g} px and {part.score:.2g}{own}"


def _maps(accuracy: Mapping[str, Mapping[str, float]], task: str) -> list[str]:
    maps = [f"{name} {figures['map']:.1f}" for name, figures in accuracy.items() if "map" in figures]
    return [f"{metric_of(task)} on val: {', '.join(maps)}"] if maps else []
