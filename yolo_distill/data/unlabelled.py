"""Gathers pictures that nobody labelled into one folder of links, where the host finds no labels for them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from ultralytics.data.utils import img2label_paths
from ultralytics.utils import LOCAL_RANK, LOGGER, TQDM, colorstr
from ultralytics.utils.patches import imread
from ultralytics.utils.torch_utils import torch_distributed_zero_first

from yolo_distill.data.dataset import pictures_of
from yolo_distill.data.mixed_batches import ratio_of
from yolo_distill.data.samples import shown_of
from yolo_distill.errors import RequestError
from yolo_distill.files import for_opencv, is_address, link, size_of
from yolo_distill.models.checkpoint import no_auto_install
from yolo_distill.recipe import Recipe
from yolo_distill.runtime.writers import encoded
from yolo_distill.sources import Sources, find_sources, split
from yolo_distill.teachers.stored import PICTURES, holds_answers
from yolo_distill.temporary import temporary_folder

PREFIX = colorstr("unlabeled: ")
_DONE = "unlabeled.json"
#: Threads that read pictures; how many files they are given at a time; how many that can't be read are named.
READERS, MANY, MOST_NAMED = 4, 512, 5


def gather_unlabelled(recipe: Recipe, data: Mapping[str, Any], runs: Path) -> Path:
    """Return a folder with all of a recipe's unlabelled pictures, made now or found again.

    Links, so that labels beside the pictures are not found, and nothing is written beside them; frames of videos are
    written there. Pictures of `train` among them are left out: these are labelled.

    The folder goes into that of the runs.

    Raises:
        RequestError: there are none, or some are pictures of val or test.
    """
    said = f"unlabeled={recipe.unlabeled}"
    sources, held_out, train, folder = _look_for(recipe, data, runs)
    with torch_distributed_zero_first(LOCAL_RANK):
        if (folder / _DONE).is_file():
            return folder / "images"
        kept = _without_known(sources.pictures, held_out, train, said)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder.parent, ".unlabeled-") as staged:
            made = staged / folder.name
            images = made / "images"
            images.mkdir(parents=True)
            for number, file in enumerate(map(Path, kept)):
                link(file, images / f"{number:06d}_{_short(file)}{file.suffix}")
            films = enumerate(sources.videos, len(kept))
            frames = sum(_write_frames(Path(video), images, number, recipe.unlabeled_every) for number, video in films)
            _require_some(bool(kept or frames), said)
            # The host does not train on a folder without any label file; these say nothing about their pictures.
            labels = made / "labels"
            labels.mkdir()
            for label in img2label_paths([str(file) for file in images.iterdir()]):
                Path(label).touch()
            (made / _DONE).write_text(json.dumps({"pictures": len(kept), "frames": frames}))
            if folder.is_dir() and not (folder / _DONE).is_file():
                shutil.rmtree(folder)  # of a copy that was cut off
            try:
                made.rename(folder)
            except OSError:
                if not (folder / _DONE).is_file():  # else a run beside this one was faster, and trains from it
                    raise
    LOGGER.info(f"{PREFIX}{len(kept)} pictures and {frames} frames of {len(sources.videos)} videos, in {folder}")
    return folder / "images"


def unlabelled_ratio(recipe: Recipe, data: Mapping[str, Any], runs: Path, fraction: Any) -> float:
    """Return how many unlabelled pictures a run of `fraction=` shows for each labelled one; see `gather_unlabelled`."""
    if not recipe.unlabeled:
        return 0.0
    gathered = pictures_of({"train": str(gather_unlabelled(recipe, data, runs))}, "train")
    labelled = shown_of(len(pictures_of(dict(data), "train")), fraction)
    return recipe.unlabeled_ratio or ratio_of(len(gathered), labelled)


def check_unlabelled(recipe: Recipe, data: Mapping[str, Any], runs: Path) -> None:
    """Refuse what `gather_unlabelled` would refuse, and write nothing.

    Videos are not opened, and what is gathered already is not looked at again.

    Raises:
        RequestError: as `gather_unlabelled`.
    """
    said = f"unlabeled={recipe.unlabeled}"
    sources, held_out, train, folder = _look_for(recipe, data, runs)
    if not (folder / _DONE).is_file():
        kept = _without_known(sources.pictures, held_out, train, said)
        _require_some(bool(kept or sources.videos), said)


def _look_for(recipe: Recipe, data: Mapping[str, Any], runs: Path) -> tuple[Sources, list[str], list[str], Path]:
    """Return the pictures, those held out, those of train, and the folder that the first are gathered in."""
    sources = find_unlabelled(str(recipe.unlabeled))
    held_out, train = pictures_of(dict(data), "val"), pictures_of(dict(data), "train")
    if data.get("test"):
        with suppress(RequestError):  # data sets often name a test split that is not there
            held_out += pictures_of(dict(data), "test")
    names = ([[Path(file).name, size_of(file)] for file in files] for files in (held_out, train))
    content = json.dumps([sources.given, sources.digest, recipe.unlabeled_every, *names])
    return sources, held_out, train, runs / f"unlabeled-{hashlib.sha256(content.encode()).hexdigest()[:8]}"


def find_unlabelled(unlabeled: str) -> Sources:
    """Return the pictures and videos that `unlabeled=` names.

    Raises:
        RequestError: there are none.
    """
    if is_address(unlabeled):
        raise RequestError(f"unlabeled={unlabeled}: is an address; fetch it into a folder, and give that")
    try:
        # Of results, which are left out, there are none here: nothing lies below a file.
        return find_sources(",".join(map(_pictures_of_label, split(unlabeled))), Path(_DONE))
    except RequestError as error:
        raise RequestError(str(error).replace("source=", "unlabeled=")) from None


def _require_some(found: bool, said: str) -> None:
    if not found:
        raise RequestError(f"{said}: all of its pictures are in train already; give others, or leave it out")


def _pictures_of_label(part: str) -> str:
    """Return where the pictures are of a folder that `yolo-distill label` wrote; anything else as it is."""
    inside = Path(part) / PICTURES
    return str(inside) if holds_answers(part) and inside.is_dir() else part


@no_auto_install()
def _without_known(pictures: Sequence[str], held_out: Sequence[str], train: Sequence[str], said: str) -> list[str]:
    """Return the pictures that can be read and are not in train; refuse those that are in val or test, by content."""
    secret = {content: file for file, content in _looked_at(held_out, _content)}
    labelled = {content for _, content in _looked_at(train, _content)}
    kept, known, unread = [], 0, []
    for file, content in _looked_at(pictures, _content_of_picture, "looking at unlabelled pictures"):
        if content is None:
            unread.append(file)
        elif content in secret:
            raise RequestError(
                f"{said}: {file} is {secret[content]}, on which the student is measured; take the pictures of val and "
                "test out"
            )
        elif content in labelled:
            known += 1
        else:
            kept.append(file)
    if known:
        LOGGER.info(f"{PREFIX}{known} pictures left out that are in train, with labels")
    if unread:
        named = ", ".join(unread[:MOST_NAMED])
        more = f", and {len(unread) - MOST_NAMED} more" if len(unread) > MOST_NAMED else ""
        LOGGER.warning(f"{PREFIX}{len(unread)} pictures left out that can't be read: {named}{more}")
    if pictures and len(unread) == len(pictures):
        raise RequestError(f"{said}: none of its {len(pictures)} pictures can be read; give others")
    return kept


def _looked_at(
    files: Sequence[str], look: Callable[[str], bytes | None], doing: str | None = None
) -> Iterator[tuple[str, bytes | None]]:
    """Yield each file with what there is to know of it, read ahead by some threads."""
    with ThreadPoolExecutor(READERS) as pool:
        # Not all at once, or the threads run far ahead.
        parts = (files[start : start + MANY] for start in range(0, len(files), MANY))
        contents = chain.from_iterable(pool.map(look, part) for part in parts)
        some = not doing or len(files) <= MANY
        yield from TQDM(zip(files, contents, strict=True), total=len(files), desc=doing, disable=some)


def _content(file: str) -> bytes | None:
    try:
        return hashlib.sha1(Path(file).read_bytes(), usedforsecurity=False).digest()
    except OSError:  # the host says so itself
        return None


def _content_of_picture(file: str) -> bytes | None:
    """Return a digest of a picture's file, None if it is no picture: what can't be decoded is not left to the host."""
    try:
        picture = imread(file)
        return None if picture is None or picture.dtype != np.uint8 else _content(file)
    except (OSError, cv2.error):
        return None


def _write_frames(video: Path, folder: Path, index: int, every: int) -> int:
    """Write every n-th frame of a video under names that begin with `index`, and return how many that were."""
    stream = cv2.VideoCapture(for_opencv(video))
    count = number = 0
    while stream.grab():
        if number % every == 0:
            read, frame = stream.retrieve()
            if read:
                (folder / f"{index:06d}_{_short(video)}_{number:06d}.jpg").write_bytes(encoded(frame, ".jpg", 95))
                count += 1
        number += 1
    stream.release()
    if not count:
        LOGGER.warning(f"{PREFIX}{video} left out: no frame of it can be read")
    return count


def _short(file: Path) -> str:
    """Return the beginning of a file's name, so that something can be put in front of it."""
    return os.fsdecode(os.fsencode(file.stem)[:150])
