"""How strong a distillation term is at each moment of a run: its schedule, a factor of 0 to 1 on its gain.

- `ramp`: grows linearly over the first `ramp_epochs`, then stays. Projectors start random and a student out of its
  warm-up moves fast: neither is taught well at full strength.
- `constant`: full strength from the first batch on.
- `cosine`: grows like `ramp`, then falls along half a cosine to 0 at the end: imitation first, the task last
  (the cosine itself is Loshchilov and Hutter, "SGDR", ICLR 2017, arXiv 1608.03983, eq. 5).
- `mosaic`: grows like `ramp`, and ends where the host closes mosaic for the last epochs, from where on the student
  sees whole pictures as it will in use.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Course:
    """The landmarks of a run, in batches from its start.

    Attributes:
        ramp: over which the terms grow; 0 for none.
        total: of the whole run; infinite where nothing falls with it.
        mosaic: before the host closes mosaic; `total` when it never does.
    """

    ramp: int = 0
    total: float = math.inf
    mosaic: float = math.inf

    def strength(self, schedule: str, step: int) -> float:
        """Return the factor of a schedule at a batch, 0..1."""
        grown = min(1.0, step / self.ramp) if self.ramp and schedule != "constant" else 1.0
        if schedule == "mosaic":
            return grown if step < self.mosaic else 0.0
        if schedule == "cosine" and step > self.ramp and math.isfinite(self.total):
            gone = (step - self.ramp) / max(self.total - self.ramp, 1)
            return 0.5 * (1 + math.cos(math.pi * min(gone, 1.0)))
        return grown
