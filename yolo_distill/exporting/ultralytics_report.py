"""What an export by the host says about itself: the proof beside the file, and its summary."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from yolo_distill.exporting.ultralytics_parity import HostProof


@dataclasses.dataclass(frozen=True)
class HostReport:
    """What was exported and how it was proved; the JSON file beside it holds the same.

    Attributes:
        path: the exported file or folder.
        note: the JSON file beside it.
        source: the checkpoint.
        format: the host's word for it.
        precision: `fp32`, `fp16` or `int8`.
        imgsz: height and width of the input, in pixels.
        end2end: whether the file holds the one-to-one branch, which needs no NMS.
        names: class index to name.
        file_bytes: size of all of it.
        sha256: of each file, by its name inside the folder.
        source_sha256: of the checkpoint.
        calibration: of int8: how many pictures of which split the host calibrated on.
        proof: what was measured; None where the file could not be run.
        not_proved: why not, else "".
        versions: of everything that had a part in it.
        seconds: wall-clock time.
    """

    path: str
    note: str
    source: str
    format: str
    precision: str
    imgsz: tuple[int, int]
    end2end: bool
    names: dict[int, str]
    file_bytes: int
    sha256: dict[str, str]
    source_sha256: str
    calibration: dict[str, Any]
    proof: HostProof | None
    not_proved: str
    versions: dict[str, str]
    seconds: float

    def summary(self) -> str:
        """Return the report in a few lines for a terminal."""
        lines = [
            f"{self.path}: {self.format}, {self.precision}, {self.file_bytes / 1e6:.1f} MB, "
            f"{self.imgsz[0]}x{self.imgsz[1]} px",
            "one-to-one branch, no NMS needed" if self.end2end else "one-to-many branch, NMS in the runtime",
        ]
        if self.calibration:
            lines.append(f"calibrated on {self.calibration['pictures']} pictures of {self.calibration['split']}")
        lines += [f"not proved: {self.not_proved}"] if self.proof is None else self._proved(self.proof)
        return "\n".join([*lines, f"proof: {self.note}"])

    def _proved(self, proof: HostProof) -> list[str]:
        found = proof.agreement
        torch_ms, ms = proof.ms["torch"], proof.ms[self.precision]
        raw = ""
        if proof.tolerances:
            raw = (
                f": boxes differ by at most {proof.box_px:.2g} px (allowed {proof.tolerances['box_px']:g}), scores by "
                f"{proof.score:.2g} (allowed {proof.tolerances['score']:g})"
            )
        lines = [
            f"run beside torch on {len(proof.pictures)} pictures{raw}",
            f"{found.detections} detections beside torch's: {found}",
        ]
        if proof.accuracy:
            maps = ", ".join(f"{name} {figures['map']:.1f}" for name, figures in proof.accuracy.items())
            lines.append(f"mAP50-95 on val: {maps}")
        lines.append(f"ms a picture: torch {torch_ms:.1f}, {self.precision} {ms:.1f} ({torch_ms / ms:.2f}x torch)")
        if proof.computes_in:
            lines.append(
                f"{self.format} computes in {proof.computes_in} on this processor unless told otherwise, as for ms: "
                f"then {proof.as_run}"
            )
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return the report as plain values; paths of this machine by name only, as the proof travels with the file."""
        plain = dataclasses.asdict(self)
        for key in ("path", "note", "source"):
            plain[key] = Path(plain[key]).name
        return plain
