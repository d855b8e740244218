"""The documents: commands that the command line reads, Python that compiles, links that lead somewhere, lengths."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import yolo_distill
from yolo_distill import cli, spelling
from yolo_distill.given_files import check_model_files
from yolo_distill.paths import cfg_dir, export_dir

ROOT = Path(__file__).parents[1]
FOLDERS = (".", ".github", "cfg", "weights", "export", "tests/benchmarks")
DOCUMENTS = sorted(file.relative_to(ROOT).as_posix() for folder in FOLDERS for file in (ROOT / folder).glob("*.md"))
README = (ROOT / "README.md").read_text(encoding="utf-8")

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

each_document = pytest.mark.parametrize("document", DOCUMENTS)


def blocks(document: str, language: str) -> list[str]:
    text = (ROOT / document).read_text(encoding="utf-8")
    return [code for said, code in FENCE.findall(text) if said == language]


def commands(document: str) -> Iterator[list[str]]:
    """Yield the words of each command in the bash blocks of a document."""
    for code in blocks(document, "bash"):
        code = re.sub(r"(^|\s)#.*$", "", code, flags=re.MULTILINE).replace("\\\n", " ")
        lexer = shlex.shlex(code, posix=True, punctuation_chars="&;|\n")
        lexer.whitespace, lexer.whitespace_split, lexer.commenters = " ", True, ""
        words: list[str] = []
        for word in [*lexer, "\n"]:
            if set(word) <= set("&;|\n"):
                if words:
                    yield words
                words = []
            else:
                words.append(word)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """Have no command run, and return what each passes on to the host."""
    passed: list[dict[str, str]] = []
    monkeypatch.setattr(spelling, "find_data_file", lambda data: None)  # it is the reader's, and so are models
    for name in cli.COMMANDS:
        command = cli._load(name)
        monkeypatch.setattr(command, "run", lambda settings, rest={}: passed.append(rest))
        if getattr(command, "LOOK_FIRST", None) is check_model_files:
            monkeypatch.setattr(command, "LOOK_FIRST", None)
    return passed


@each_document
def test_commands_are_what_the_command_line_reads(document: str, ran: list[dict[str, str]], capsys: Any) -> None:
    host = set(pytest.importorskip("ultralytics.cfg").DEFAULT_CFG_DICT)
    for program, *words in commands(document):
        if program == "yolo":
            assert {word.partition("=")[0] for word in words if "=" in word} <= host, words
        elif program == "python" and words[0].endswith(".py"):
            place = ROOT if words[0].startswith("tests/") else ROOT / "tests" / "benchmarks" / "results"
            assert (place / words[0]).is_file(), words[0]
        if program != "yolo-distill":
            continue
        assert words[0] in cli.COMMANDS, words
        if "..." in words:  # as in the command before
            table = cli._load(words[0]).SETTINGS
            lacking = [f"{key}=x" for key, setting in table.items() if setting.required]
            words = [words[0], *lacking, *(word for word in words[1:] if word != "...")]
        said = " ".join(words)
        assert cli.main(words) == 0, f"{said}: {capsys.readouterr().err}"
        assert set(ran[-1]) <= host, said
        for key, folder in (("recipe", cfg_dir()), ("target", export_dir())):
            for word in words:
                name, _, value = word.partition("=")
                assert name != key or (folder / f"{value}.yaml").is_file() or value.endswith(".yaml"), said


@each_document
def test_python_compiles_and_imports_what_exists(document: str) -> None:
    for code in blocks(document, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module == "yolo_distill":
                assert {name.name for name in node.names} <= set(yolo_distill.__all__)


def anchors(document: Path) -> set[str]:
    """Return what can stand behind the # of a link to a document, as GitHub makes it of headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", document.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@each_document
def test_links_lead_somewhere(document: str) -> None:
    text = FENCE.sub("", (ROOT / document).read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", link):
            continue
        name, _, anchor = link.partition("#")
        place = (ROOT / document).parent / name if name else ROOT / document
        assert place.exists(), link
        assert not anchor or anchor in anchors(place), link


def test_the_readme_is_short() -> None:
    lines = README.splitlines()
    assert len(lines) <= 150
    assert len(README.split()) <= 900
    assert lines.index("```bash") < 25


def test_the_sentences_of_the_readme_are_short() -> None:
    lines = [line for line in FENCE.sub("", README).splitlines() if not line.startswith(("#", "|", "[!", "!["))]
    prose = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"`[^`]*`", "code", "\n".join(lines)))
    sentences = [words for part in re.split(r"[.?!](?=\s)|\n(?=- )|\n\n", prose) if (words := part.split())]
    assert sum(map(len, sentences)) / len(sentences) < 15


def test_the_badges_say_what_the_package_says() -> None:
    package = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    low, high = map(int, re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', package).groups())
    (licence,) = re.findall(r'license = "(AGPL-3\.0)-only"', package)
    (oldest,) = re.findall(r'"ultralytics>=([\d.]+),', package)
    said = (f"Licence: {licence}", f"Python: 3.{low} to 3.{high - 1}", f"Ultralytics: {oldest} or newer")
    for badge in said:
        label, _, value = badge.partition(": ")
        picture = value.replace("-", "--").replace(" ", "_")
        assert f"[![{badge}](https://img.shields.io/badge/{label.lower()}-{picture}-blue)]" in README


def test_the_demo_is_what_the_readme_begins_with() -> None:
    assert list(commands("README.md"))[:2] == [["pip", "install", ".[train]"], ["yolo-distill", "demo"]]


def test_all_formats_are_in_the_table() -> None:
    pytest.importorskip("ultralytics")
    from yolo_distill.exporting.ultralytics_formats import host_formats
    from yolo_distill.exporting.ultralytics_parity import RUNTIMES

    section = (ROOT / "export" / "README.md").read_text(encoding="utf-8").partition("\n## All formats\n")[2]
    rows = re.findall(r"^\| `(\w+)`.*\| ([^|]*) \| ([^|]*) \|$", section.partition("\n## ")[0], re.MULTILINE)
    table = {name: (precisions, state) for name, precisions, state in rows}
    known = host_formats()
    assert known.keys() | {"onnx"} == table.keys()
    for name, format in known.items():
        precisions, state = table[name]
        assert precisions == ", ".join(format.precisions())
        assert state.startswith("passed on") == (name not in RUNTIMES)
