"""The wheel: recipes and export targets travel inside it, and it works outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.package
ROOT = Path(__file__).resolve().parents[1]


def run(*command: object, **options: object) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=300, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Build the wheel with the backend that the test extra brings along, so that nothing is fetched."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """Install the wheel into an environment of its own and return its Python; dependencies come from this one."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    # Behind its own packages; a .pth of this environment (an editable install) is not followed from there.
    (site / "dependencies.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    return python


def test_the_wheel_holds_code_recipes_and_targets(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {f"yolo_distill/{path.relative_to(ROOT / 'yolo_distill').as_posix()}" for path in _sources()}
    for folder in ("cfg", "cfg/models", "cfg/spaces", "export"):
        expected |= {f"yolo_distill/_data/{folder}/{path.name}" for path in (ROOT / folder).glob("*.yaml")}
    assert expected <= names
    assert {"yolo_distill/py.typed", "yolo_distill/_data/cfg/default.yaml"} <= names
    assert "yolo_distill/_data/export/web/index.html" in names
    assert not [name for name in names if "node_modules" in name]
    assert not [name for name in names if name.startswith(("tests/", "weights/"))]
    assert not [name for name in names if name.endswith((".pt", ".onnx", ".pyc"))]


def _sources() -> list[Path]:
    """Return the code, and the templates and styles of its pages."""
    return [path for path in (ROOT / "yolo_distill").rglob("*") if path.suffix in {".py", ".html", ".css"}]


def test_the_installed_wheel_finds_its_files_outside_the_checkout(installed, tmp_path):
    found = run(
        installed,
        "-c",
        "from yolo_distill import paths; print(paths.__file__, paths.cfg_dir(), paths.export_dir(), sep='\\n')",
        cwd=tmp_path,
    )
    environment = installed.parents[1]
    code, cfg, export = map(Path, found.splitlines())
    assert all(path.is_relative_to(environment) for path in (code, cfg, export))
    assert (cfg / "default.yaml").is_file()
    assert list(export.iterdir())


def test_the_installed_command_works_outside_the_checkout(installed, tmp_path):
    script = installed.with_name("yolo-distill.exe" if os.name == "nt" else "yolo-distill")
    assert "usage: yolo-distill COMMAND" in run(script, "--help", cwd=tmp_path)
    assert "model=" in run(script, "predict", "--help", cwd=tmp_path)
