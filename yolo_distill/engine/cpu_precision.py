"""Training on a CPU as fast as it can: channels-last order, and bf16 where the machine gains by it.

Relies on: the host builds the EMA copy and the optimizer after `set_model_attributes`, never uses autocast on a CPU of
its own accord, and runs forward and loss under `autocast(self.amp, device=...)`, which on a CPU means bf16.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from ultralytics.utils import LOGGER, RANK, colorstr
from ultralytics.utils.torch_utils import unwrap_model

from yolo_distill.data.samples import sample_pictures
from yolo_distill.engine.step_cost import FullPrecisionLoss, choose_student_precision
from yolo_distill.engine.temporarily import temporarily
from yolo_distill.losses.devices import of_first_device
from yolo_distill.models.imgsz import rounded_imgsz
from yolo_distill.timing import AT_A_TIME


class CpuPrecision:
    """How a trainer of the host computes on a CPU.

    Attributes:
        chosen: `fp32` or `bf16`, which `amp=` of the host asks for; None elsewhere, where the host has its own ways.
    """

    chosen: str | None = None

    def choose(self, trainer: Any) -> None:
        """Choose order and precision, now that model and device are known."""
        args, model = trainer.args, unwrap_model(trainer.model)
        if trainer.device.type != "cpu":
            if trainer.resume and args.amp == "fp32":  # which a CPU was faster in
                args.amp = True
            return
        if args.channels_last is not False:
            trainer.model.to(memory_format=torch.channels_last)
        if trainer.resume and args.amp == "fp16":  # of a GPU
            args.amp = True
        if RANK in {-1, 0}:
            pictures = sample_pictures(trainer.data, rounded_imgsz(model, args.imgsz), AT_A_TIME)
            self.chosen = choose_student_precision(model, pictures, args.amp)
        self.chosen = of_first_device(self.chosen)
        if args.amp == "bf16":
            args.amp = True  # the host refuses the other on a CPU
        if self.chosen != "fp32":
            what = Path(str(args.model)).stem
            LOGGER.info(f"{colorstr('precision: ')}{what} in bf16, losses in fp32; amp=False trains in fp32")

    def apply(self, trainer: Any) -> None:
        """Switch the host's autocast on once training is set up, and keep the loss out of it."""
        if self.chosen == "bf16":
            model = unwrap_model(trainer.model)
            model.criterion = FullPrecisionLoss(getattr(model, "criterion", None) or model.init_criterion())
            trainer.amp = True

    def saved_in(self, args: Any) -> AbstractContextManager[None]:
        """Save with the precision that was chosen: a run that is resumed goes on in it, whatever else runs by then.

        Relies on: the host writes `vars(self.args)` into its checkpoints, and takes `bf16` and `fp32` for `amp`.
        """
        return temporarily(args, amp=self.chosen if self.chosen and args.amp is True else args.amp)
