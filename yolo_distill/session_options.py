"""What every session of ONNX Runtime is opened with here."""

from __future__ import annotations

#: Without it int8 products overflow on x86 CPUs that have no VNNI: answers are then off by a tenth of a score and more.
#: It changes nothing elsewhere.
EXACT_INT8 = ("session.x64quantprecision", "1")
