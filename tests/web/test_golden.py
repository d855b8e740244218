"""The golden files: the Python runtime still gives them, and so does its twin in the browser."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import subprocess
from pathlib import Path

import pytest

from yolo_distill.paths import export_dir

TESTS = Path(__file__).resolve().parent
GOLDEN = TESTS.parent / "golden"

_spec = importlib.util.spec_from_file_location("golden_make", GOLDEN / "make.py")
assert _spec
assert _spec.loader
make = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make)


@pytest.mark.parametrize("name", make.FILES)
def test_the_python_runtime(name):
    written = json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))
    assert same(json.loads(make.text(make.FILES[name]())), written)


def same(some, others):
    """Return whether two values are equal; a processor's own sines and products may differ in the last digits."""
    if isinstance(some, float) and isinstance(others, float):
        return math.isclose(some, others, rel_tol=1e-6, abs_tol=1e-5)
    if isinstance(some, dict):
        return some.keys() == others.keys() and all(same(one, others[key]) for key, one in some.items())
    if isinstance(some, list):
        return len(some) == len(others) and all(map(same, some, others))
    return some == others


def test_the_browser():
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node here, which runs the web app's modules")
    tests = [str(path) for path in sorted(TESTS.glob("*.test.mjs"))]
    done = subprocess.run([node, "--test", *tests], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def test_nothing_of_the_app_comes_from_elsewhere():
    """Addresses of namespaces apart, the app names none; nor does the lock file, so that any registry will do."""
    web = export_dir() / "web"
    for path in (one for one in web.rglob("*") if one.is_file() and "node_modules" not in one.parts):
        if path.suffix != ".png":
            assert "://" not in path.read_text("utf-8").replace("http://www.w3.org/2000/svg", ""), path
