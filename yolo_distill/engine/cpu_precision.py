"""Training on a CPU as fast as it can: channels-last order, and bf16 where the machine gains by it.

Relies on: the host builds the EMA copy and the optimizer after `set_model_attributes`, never uses autocast on a CPU of
its own accord, and runs forward and loss under `autocast(self.amp, device=...)`, which on a CPU means bf16.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.utils import LOGGER, colorstr
from ultralytics.utils.torch_utils import unwrap_model

from yolo_distill.data.samples import sample_pictures
from yolo_distill.engine.step_cost import FullPrecisionLoss, choose_student_precision
from yolo_distill.models.checkpoint import rounded_imgsz
from yolo_distill.timing import AT_A_TIME


class CpuPrecision:
    """Mixin for a host trainer.

    Attributes:
        precision: in which the trained model computes on a CPU, `fp32` or `bf16`; `amp=` of the host asks for it.
    """

    model: nn.Module
    args: Any
    data: dict[str, Any]
    device: torch.device
    amp: bool
    resume: bool
    precision = "fp32"

    @property
    def rounded_imgsz(self) -> int:
        """Side of the pictures as the host will round it, in pixels."""
        return rounded_imgsz(unwrap_model(self.model), self.args.imgsz)

    def samples(self, count: int) -> Tensor:
        """Return up to `count` pictures of the training split."""
        return sample_pictures(self.data, self.rounded_imgsz, count)

    def set_model_attributes(self) -> None:
        """Choose order and precision, now that model and device are known."""
        super().set_model_attributes()  # type: ignore[misc]
        if self.device.type != "cpu":
            if self.resume and self.args.amp == "fp32":  # which a CPU was faster in
                self.args.amp = True
            return
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.precision = choose_student_precision(unwrap_model(self.model), self.samples(AT_A_TIME), self.args.amp)
        if self.args.amp == "bf16":
            self.args.amp = True  # the host refuses the other on a CPU
        if self.precision != "fp32":
            what = Path(str(self.args.model)).stem
            LOGGER.info(f"{colorstr('precision: ')}{what} in bf16, losses in fp32; amp=False trains in fp32")

    def _setup_train(self) -> None:
        """Switch the host's autocast on, and keep the loss out of it."""
        super()._setup_train()  # type: ignore[misc]
        if self.precision == "bf16":
            model = unwrap_model(self.model)
            model.criterion = FullPrecisionLoss(getattr(model, "criterion", None) or model.init_criterion())
            self.amp = True

    def save_model(self) -> bool:
        """Save with the precision that was chosen: a run that is resumed goes on in it, whatever else runs by then.

        Relies on: the host writes `vars(self.args)` into its checkpoints, and takes `bf16` and `fp32` for `amp`.
        """
        if self.device.type != "cpu":
            return bool(super().save_model())  # type: ignore[misc]
        before = self.args.amp
        self.args.amp = self.precision if before is True else before
        try:
            return bool(super().save_model())  # type: ignore[misc]
        finally:
            self.args.amp = before

    def _load_checkpoint_state(self, ckpt: dict[str, Any]) -> None:
        """Restore a checkpoint, on resume and when the host recovers from NaN.

        Relies on: the host makes a new EMA copy of the model here. Our criterion must not be in it: the copy would
        carry the teacher, and validation would have our loss.
        """
        model = unwrap_model(self.model)
        ours, model.criterion = getattr(model, "criterion", None), None
        try:
            super()._load_checkpoint_state(ckpt)  # type: ignore[misc]
        finally:
            model.criterion = ours
