"""Drawn scenes: labels are tight around what is to be seen, and a seed decides everything."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from yolo_distill.demo.scenes import CLASSES, Scene, Shape, boxes, label_text, make_data, paint, plan

SIZE = 96


def scene_of(seed: int, size: int = SIZE) -> Scene:
    return plan(np.random.default_rng(seed), size)


@pytest.mark.parametrize("seed", range(12))
def test_boxes_are_tight_around_what_is_to_be_seen(seed: int) -> None:
    scene = scene_of(seed)
    scene = dataclasses.replace(scene, noise=np.zeros_like(scene.noise), blur=0.05)
    for index, (x1, y1, x2, y2) in enumerate(boxes(scene)):
        # Where a shape is to be seen, its colour matters; in the pictures alone, whatever lies in front or behind.
        black, white = (
            paint(dataclasses.replace(scene, shapes=tuple(in_colour(scene.shapes, index, level)))).astype(int)
            for level in (0.0, 255.0)
        )
        seen = np.abs(white - black).max(-1) > 0
        columns, rows = np.flatnonzero(seen.any(0)), np.flatnonzero(seen.any(1))
        assert (columns[0], columns[-1] + 1) == (np.floor(x1), np.ceil(x2))
        assert (rows[0], rows[-1] + 1) == (np.floor(y1), np.ceil(y2))


def in_colour(shapes: Iterable[Shape], index: int, level: float) -> Iterator[Shape]:
    """Return the shapes with the one at `index` all black or all white."""
    for place, shape in enumerate(shapes):
        yield dataclasses.replace(shape, colour=(level,) * 3, shade=0.0) if place == index else shape


def shape_at(kind: str, x: float, y: float, radius: float) -> Shape:
    return Shape(kind, (x, y), radius, 1.0, 0.0, 0.5, (0.0, 0.0, 0.0), 0.0)


def empty(*shapes: Shape) -> Scene:
    blank = np.full((SIZE, SIZE, 3), 200, np.float32)
    return Scene(blank, shapes, np.zeros_like(blank), 0.05)


def test_the_box_of_a_half_hidden_shape_is_what_is_to_be_seen_of_it() -> None:
    # A square with its corners to the sides covers the disc's right half from x = 40 on.
    disc, square = shape_at("disc", 40, 48, 10), shape_at("square", 80, 48, 40)
    np.testing.assert_allclose(boxes(empty(disc)), [[30, 38, 50, 58]], atol=0.5)
    behind, front = boxes(empty(disc, square))
    assert behind[0] == pytest.approx(30, abs=0.5)
    assert behind[2] < 50
    np.testing.assert_allclose(front, [40, 8, 96, 88], atol=0.5)


def test_a_ring_can_be_looked_through() -> None:
    disc, ring = shape_at("disc", 48, 48, 8), shape_at("ring", 48, 48, 20)
    np.testing.assert_allclose(boxes(empty(disc, ring))[0], [40, 40, 56, 56], atol=0.5)
    assert paint(empty(disc, ring))[48, 48].tolist() == [0, 0, 0]
    alone = paint(empty(ring))
    assert alone[48, 48].tolist() == [200, 200, 200]


@pytest.mark.parametrize("seed", range(12))
def test_no_shape_is_hidden_by_more_than_half_and_all_lie_in_the_picture(seed: int) -> None:
    scene = scene_of(seed)
    found = boxes(scene)
    assert len(found)
    assert (found >= 0).all()
    assert (found <= SIZE).all()
    assert ((found[:, 2:] - found[:, :2]) > 2).all()
    for index, shape in enumerate(scene.shapes):
        alone = paint(empty(*in_colour([shape], 0, 0)))[..., 0] < 100
        others = in_colour([dataclasses.replace(one, colour=(200,) * 3, shade=0) for one in scene.shapes], index, 0)
        seen = paint(empty(*others))[..., 0] < 100
        assert seen.sum() >= 0.5 * alone.sum() - 0.1 * alone.sum() - 4  # whole pixels count, the rule is finer


def test_labels_are_relative_centres_and_sizes() -> None:
    text = label_text(empty(shape_at("star", 24, 48, 12), shape_at("ring", 72, 48, 12)))
    rows = np.array([line.split() for line in text.splitlines()], float)
    assert rows[:, 0].tolist() == [CLASSES.index("star"), CLASSES.index("ring")]
    np.testing.assert_allclose(rows[1, 1:], [0.75, 0.5, 0.25, 0.25], atol=0.01)


def test_every_class_is_drawn_and_none_like_another() -> None:
    counts = dict.fromkeys(CLASSES, 0)
    for seed in range(60):
        for shape in scene_of(seed).shapes:
            counts[shape.kind] += 1
    assert min(counts.values()) > 0.5 * np.mean(list(counts.values()))
    drawn = {paint(empty(shape_at(kind, 48, 48, 30))).tobytes() for kind in CLASSES}
    assert len(drawn) == len(CLASSES)


def content(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_seed_decides_every_picture(tmp_path: Path) -> None:
    counts = {"train": 3, "val": 2, "test": 2}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_data(tmp_path / name, counts, seed=seed, size=64)
    make_data(tmp_path / "more", {"train": 4, "val": 2, "test": 2}, seed=0, size=64)
    a, b, c, more = (content(tmp_path / name) for name in ("a", "b", "c", "more"))
    assert a == b
    assert more.items() >= a.items()
    pictures = [value for name, value in (*a.items(), *c.items()) if name.startswith("images")]
    assert len(set(pictures)) == len(pictures) == 14  # no two alike: not across splits, not across seeds


def test_data_is_in_the_hosts_layout_with_relative_paths(tmp_path: Path) -> None:
    data = yaml.safe_load(make_data(tmp_path, {"train": 2, "val": 1, "test": 1}, seed=5, size=64).read_text())
    paths = {split: f"images/{split}" for split in ("train", "val", "test")}
    assert data == {**paths, "names": dict(enumerate(CLASSES))}
    for picture in tmp_path.glob("images/*/*.jpg"):
        assert cv2.imread(str(picture)).shape == (64, 64, 3)
        label = tmp_path / "labels" / picture.parent.name / f"{picture.stem}.txt"
        rows = [line.split() for line in label.read_text().splitlines()]
        assert rows
        assert all(len(row) == 5 and int(row[0]) < len(CLASSES) for row in rows)
