"""What a run learns from, known by content: a file that was moved is the same, one that was changed is not."""

from __future__ import annotations

import hashlib
from pathlib import Path

from yolo_distill.engine.teachers import is_names_file, named
from yolo_distill.engine.unlabelled import find_unlabelled
from yolo_distill.files import size_of
from yolo_distill.recipe import Recipe
from yolo_distill.teachers.stored import PLAN, SOFT


def digest_of_teachers(teacher: str) -> str:
    """Return a hash of what `teacher=` names: of the files' contents, and of names where there is no file yet.

    Of stored answers, which may be many, that of their plan and of the parts' names and sizes.
    """
    digest = hashlib.sha256()
    for one in named(teacher):
        file = Path(one.file or one.text).expanduser()
        digest.update((one.torchvision or "").encode())
        if one.stored:
            digest.update((file / PLAN).read_bytes())
            parts = sorted((file / SOFT).glob("part-*.parquet"))
            digest.update(str([(part.name, size_of(part)) for part in parts]).encode())
        else:
            digest.update(file.read_bytes() if one.file and file.is_file() else one.text.encode())
    return digest.hexdigest()


def digests_of_files(recipe: Recipe) -> dict[str, str]:
    """Return digests of the files that a recipe names beside its teacher, by setting.

    Files by their content; of unlabelled pictures and videos, which may be many, name and size.

    Raises:
        RequestError: unlabelled pictures that are not there.
    """
    found = {}
    for key in ("teacher_weights", "teacher_names", "teacher_outputs", "class_map"):
        value = str(getattr(recipe, key))
        if key == "teacher_names" and not is_names_file(value):
            continue
        file = Path(value).expanduser()
        if file.is_file():
            found[key] = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    if recipe.unlabeled:
        found["unlabeled"] = find_unlabelled(recipe.unlabeled).digest
    return found
