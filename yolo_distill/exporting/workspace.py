"""Where an export goes, where it is made before, and how it gets from there to here."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from yolo_distill.errors import RequestError
from yolo_distill.files import cannot_write
from yolo_distill.temporary import temporary_folder

#: Each folder that the host exports holds one of these.
_MARKS = ("metadata.yaml", "metadata.json", "Manifest.json")
#: Each model card holds this.
CARD_MARK = "<!-- Written by yolo-distill export, which writes over it: keep words of your own in another file. -->"
#: What the further files of an export end in: ONNX Runtime's own format, and its list of operators.
EXTRAS = (".ort", ".operators.config")


def destination(out: str | Path | None, source: Path, suffix: str, infix: str) -> Path:
    """Return the file or folder to write.

    Args:
        out: what the user gave: a name with the suffix, a folder that exists, or None for beside the checkpoint.
        source: the checkpoint, which gives the name where the user did not.
        suffix: what the name ends in, such as `.onnx` or `_ncnn_model`.
        infix: between that name and the suffix, so that files of several precisions lie side by side.

    Raises:
        RequestError: it is neither, or a folder with something else in it.
    """
    path = source.parent if out is None else Path(out).expanduser()
    if not path.name.lower().endswith(suffix) or len(path.name) == len(suffix):
        if not path.is_dir():
            raise RequestError(f"out={out}: give a folder that exists, or a name that ends in {suffix}")
        path = path / f"{source.stem}{infix}{suffix}"
    if path.is_dir() and any(path.iterdir()) and not any((path / mark).is_file() for mark in _MARKS):
        raise RequestError(f"out={path}: is a folder, but not an exported one; give another name")
    return path


@contextlib.contextmanager
def workspace(path: Path, out: str | Path | None) -> Iterator[Path]:
    """Give a temporary folder on the same disk as `path`, so that the finished file can be moved in one step.

    Raises:
        RequestError: it cannot be made.
        DistillError: the disk failed within.
    """
    said = f"out={out}" if out is not None else f"{path}"
    if not path.parent.is_dir():
        raise RequestError(f"{said}: there is no folder {path.parent}; make it first")
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(temporary_folder(path.parent, ".yolo-distill-export-"))
        except OSError as error:
            why = f"cannot write into {path.parent} ({error.strerror})"
            raise RequestError(f"{said}: {why}; give another out=") from error
        try:
            yield folder
        except OSError as error:
            raise cannot_write(path, error) from error


def earlier_extras(proof: Path) -> list[Path]:
    """Return the further files that an earlier export put beside its proof, and which a new one makes obsolete.

    Their names are its own with `EXTRAS`: what else a proof names is not ours to remove.

    Raises:
        RequestError: a file of that name is there and is no proof of ours.
    """
    if not proof.exists():
        return []
    try:
        earlier = json.loads(proof.read_text(encoding="utf-8"))
        if "source_sha256" not in earlier:
            raise ValueError("no proof")
        named = {Path(extra["path"]).name for extra in earlier.get("extras", {}).values()}
        own = map(proof.with_suffix, EXTRAS)
        return [place for place in own if place.name in named and place.is_file()]
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise RequestError(f"{proof}: would be overwritten by the proof, and is none; give another out=") from error


def check_card(card: Path) -> None:
    """Check that what a model card is going to replace is one.

    Raises:
        RequestError: it is not.
    """
    if card.exists() and not (card.is_file() and CARD_MARK in card.read_text(encoding="utf-8", errors="replace")):
        raise RequestError(f"{card}: would be overwritten by the model card, and is none; give another out=")


def put_in_place(files: Sequence[tuple[Path, Path]], folder: Path, obsolete: Sequence[Path] = ()) -> None:
    """Move all of several files and folders into place, or none of them.

    Args:
        files: each as it was made, and its place; the one that people look for last.
        folder: for what was there before, on the same disk.
        obsolete: what has to go.

    Raises:
        OSError: one could not be moved; what was there before is there again.
    """
    before: dict[Path, Path] = {}
    new: list[Path] = []
    try:
        for number, place in enumerate([*obsolete, *(place for _, place in files)]):
            aside = folder / f"before-{number}"
            if place.is_dir():
                place.rename(aside)
            elif place.exists():
                shutil.copy2(place, aside)
            else:
                continue
            before[place] = aside
        for made, place in files:
            made.replace(place)
            new.append(place)
        for place in obsolete:
            if place not in new:
                place.unlink(missing_ok=True)
    except BaseException:
        for place in new:
            if place.is_dir():
                shutil.rmtree(place)
            elif place not in before:
                place.unlink()
        for place, aside in before.items():
            aside.replace(place)
        raise
