"""What every test stands on: a host that stays offline and tidy, the real data folder, and a tiny data set."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

_HOST = Path(tempfile.mkdtemp(prefix="yolo-distill-tests-"))
atexit.register(shutil.rmtree, _HOST, ignore_errors=True)

# At import, because the host reads these once, when it is first imported; subprocesses inherit them.
os.environ["YOLO_OFFLINE"] = "true"
os.environ["YOLO_AUTOINSTALL"] = "false"
os.environ["YOLO_CONFIG_DIR"] = str(_HOST)
os.environ["MPLBACKEND"] = "Agg"
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts background jobs with Ctrl-C switched off, and they hand that on; the tests of Ctrl-C need it on.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _work_in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test in a folder of its own, so that whatever is written to a relative path lands there."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real pictures: `YOLO_DISTILL_DATA`, or `../shared/data` beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("YOLO_DISTILL_DATA") or beside)
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (YOLO_DISTILL_DATA says where it is)")
    return folder.resolve()


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the data.yaml of 8 train, 4 val and 4 test pictures of discs and squares, 96 x 96, always the same."""
    import cv2
    import numpy as np

    root = tmp_path_factory.mktemp("tiny")
    rng = np.random.default_rng(0)
    side, cell = 96, 48
    for split, count in (("train", 8), ("val", 4), ("test", 4)):
        images, labels = root / "images" / split, root / "labels" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for number in range(count):
            picture = rng.integers(60, 120, (side, side, 3), dtype=np.uint8)
            rows = []
            # One shape a quarter of the picture at most, so that none hides another; both classes in every picture.
            for place, quarter in enumerate(rng.permutation(4)[: rng.integers(2, 5)]):
                kind = place % 2
                half = int(rng.integers(9, 19))  # the shape covers pixels centre - half to centre + half
                x, y = (int(rng.integers(half, cell - half)) + cell * int(k) for k in (quarter % 2, quarter // 2))
                colour = [int(value) for value in rng.integers(170, 256, 3)]
                if kind == 0:
                    cv2.circle(picture, (x, y), half, colour, -1)
                else:
                    cv2.rectangle(picture, (x - half, y - half), (x + half, y + half), colour, -1)
                box = ((x + 0.5) / side, (y + 0.5) / side, (2 * half + 1) / side, (2 * half + 1) / side)
                rows.append(" ".join([str(kind), *(f"{value:.6f}" for value in box)]))
            cv2.imwrite(str(images / f"{number}.png"), picture)
            (labels / f"{number}.txt").write_text("\n".join(rows) + "\n")
    data = root / "data.yaml"
    data.write_text(
        f"path: {root}\ntrain: images/train\nval: images/val\ntest: images/test\nnames:\n  0: disc\n  1: square\n"
    )
    return data
