"""The one-way law of imports: losses and teachers below the engine, the runtime and the command line without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import yolo_distill

PACKAGE = Path(yolo_distill.__file__).parent
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

HEAVY = {"torch", "torchvision", "ultralytics", "onnx", "onnxslim", "pydantic"}
#: What the extra [serve] brings, and who stands on it.
EXTRA_OF_SERVE = {
    "cryptography", "segno", "starlette", "uvicorn", "h11", "platformdirs", "yolo_distill.serve.app",
    "yolo_distill.serve.server",
}  # fmt: skip
ON_EXTRA = {"serve/app.py", "serve/server.py"}
#: What may run the runtime beside torch, to prove that both say the same.
PROOFS = {"engine/proof.py", "engine/agreement.py", "engine/form_proof.py"}
TRAINING = {"yolo_distill.losses", "yolo_distill.teachers", "yolo_distill.engine"}


def imports(source: str, file: str, inside_functions: bool) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of every import, `from a import b` as `a.b`; those for type checkers left out."""
    package = ["yolo_distill", *Path(file).parent.parts]
    pending: list[ast.AST] = [ast.parse(source)]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            yield from ((node.lineno, ".".join([*base, *filter(None, [node.module, a.name])])) for a in node.names)
        elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func) and node.args:
            yield node.lineno, str(getattr(node.args[0], "value", ""))
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
        elif inside_functions or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            pending.extend(ast.iter_child_nodes(node))


def breaches(source: str, file: str) -> list[str]:
    """Return what `file`, given relative to the package, imports against the law."""
    room = file.split("/")[0]
    everywhere: set[str] = set()
    at_import: set[str] = set()
    if room == "runtime":
        everywhere = HEAVY | TRAINING
    elif room == "serve":
        everywhere = HEAVY | TRAINING
        at_import = (
            set() if file in ON_EXTRA else EXTRA_OF_SERVE | {"yolo_distill.serve.app", "yolo_distill.serve.server"}
        )
    elif room in {"losses", "teachers"}:
        everywhere = {"yolo_distill.engine"}
    elif room == "graphs":
        everywhere = TRAINING | {"torch", "torchvision", "ultralytics"}
    above = {"commands", "demo", "comparison", "labelling", "benchmark", "serve", "__init__.py"}
    if room == "engine":
        everywhere = {"yolo_distill.labelling", "yolo_distill.comparison", "yolo_distill.demo", "yolo_distill.commands"}
    if room != "runtime" and room not in above and file not in PROOFS:
        everywhere = everywhere | {"yolo_distill.runtime"}
    if room not in {"losses", "teachers", "engine", "graphs", "demo", "comparison", "labelling", "recipe.py"}:
        at_import = at_import | HEAVY | TRAINING
    if room in {"commands", "cli.py", "__init__.py", "settings.py", "errors.py", "paths.py"}:
        at_import = at_import | {"onnxruntime", "cv2", "yolo_distill.runtime", "yolo_distill.recipe"}

    def within(name: str, rooms: set[str]) -> bool:
        return any(name == other or name.startswith(f"{other}.") for other in rooms)

    return [
        f"{file}:{line}: imports {name}{where}"
        for banned, inside, where in ((everywhere, True, ""), (at_import, False, " at import"))
        for line, name in imports(source, file, inside)
        if within(name, banned)
    ]


@pytest.mark.parametrize("file", FILES)
def test_imports_go_one_way(file):
    assert breaches((PACKAGE / file).read_text(encoding="utf-8"), file) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("runtime/a.py", "def f():\n    import torch.nn"),
        ("runtime/a.py", "def f():\n    from importlib import import_module\n    import_module('ultralytics')"),
        ("runtime/a.py", "from ..engine import trainer"),
        ("serve/a.py", "def f():\n    import torch"),
        ("serve/a.py", "from cryptography import x509"),
        ("serve/a.py", "from yolo_distill.serve.server import Server"),
        ("runtime/a.py", "from yolo_distill import losses"),
        ("losses/a.py", "def f():\n    from yolo_distill.engine.terms import x"),
        ("teachers/a.py", "from yolo_distill.engine import classes"),
        ("teachers/a.py", "from yolo_distill.runtime import nms"),
        ("engine/a.py", "def f():\n    from yolo_distill.runtime.detector import Detector"),
        ("engine/a.py", "from yolo_distill.labelling import run"),
        ("commands/a.py", "import torch"),
        ("commands/a.py", "try:\n    from yolo_distill.engine import run\nexcept ImportError:\n    pass"),
        ("commands/a.py", "from yolo_distill.runtime.detector import Detector"),
        ("commands/a.py", "class A:\n    import cv2"),
        ("benchmark/a.py", "from ultralytics import YOLO"),
        ("graphs/a.py", "def f():\n    import torch"),
        ("benchmark/a.py", "from yolo_distill.engine.evaluate import evaluate"),
        ("cli.py", "from ultralytics import YOLO"),
        ("files.py", "import torch"),
    ],
)
def test_a_breach_is_seen(file, source):
    assert len(breaches(source, file)) >= 1


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("engine/proof.py", "from yolo_distill.runtime.detector import Detector"),
        ("engine/a.py", "import torch\nfrom yolo_distill.losses import logit"),
        ("commands/a.py", "def run(settings):\n    from yolo_distill.engine.run import train\n    import torch"),
        ("serve/a.py", "from yolo_distill.runtime.detector import Detector\ndef f():\n    import segno"),
        ("runtime/a.py", "import cv2\nimport onnxruntime\nfrom .nms import nms"),
        ("benchmark/a.py", "from yolo_distill.runtime.detector import Detector\ndef f():\n    import torch"),
        ("__init__.py", "if TYPE_CHECKING:\n    from yolo_distill.engine.trainer import DistillationTrainer"),
    ],
)
def test_what_the_law_allows(file, source):
    assert breaches(source, file) == []


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_loads_nothing_heavy():
    run(
        "import sys, yolo_distill\n"
        "dir(yolo_distill), yolo_distill.__version__\n"
        "loaded = {'torch', 'ultralytics', 'cv2', 'onnx', 'onnxruntime', 'numpy', 'pydantic'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )


def test_the_detector_needs_only_the_base_install():
    run(
        f"import sys\nfor name in {sorted(HEAVY | EXTRA_OF_SERVE)}:\n    sys.modules[name] = None\n"
        "import yolo_distill\n"
        "from yolo_distill import Detections, Detector, DistillError\n"
        "import pkgutil, importlib, yolo_distill.benchmark, yolo_distill.runtime, yolo_distill.serve\n"
        "import yolo_distill.commands\n"
        "for room in (yolo_distill.benchmark, yolo_distill.runtime, yolo_distill.serve, yolo_distill.commands):\n"
        "    for module in pkgutil.iter_modules(room.__path__, room.__name__ + '.'):\n"
        "        if module.name not in {'yolo_distill.serve.app', 'yolo_distill.serve.server'}:\n"
        "            importlib.import_module(module.name)\n"
        "try:\n    yolo_distill.DistillationTrainer\n"
        "except ImportError:\n    pass\n"
        "else:\n    raise AssertionError('the trainer loaded without torch')"
    )


def test_public_names_are_what_they_say():
    pytest.importorskip("ultralytics")
    assert set(yolo_distill.__all__) == set(dir(yolo_distill))
    for name in yolo_distill.__all__:
        assert getattr(yolo_distill, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Detektor'"):
        yolo_distill.Detektor  # noqa: B018
