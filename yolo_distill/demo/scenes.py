"""Drawn scenes: a small labelled data set of shapes that resemble each other, made from nothing but a seed.

A scene is planned first and painted then, so that its labels come from the same masks as its pixels. Shapes are drawn
four times larger than the picture and averaged down; a box is the extent of what is left to see of a shape after the
shapes in front of it, to a quarter of a pixel. No shape is hidden by more than half, and none goes without a label.
"""

from __future__ import annotations

import colorsys
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import yaml

CLASSES = ("disc", "hexagon", "square", "triangle", "star", "ring")

_FINE = 4  # how much larger shapes are drawn than the picture
_LEAST_VISIBLE = 0.5
_CORNERS = {"disc": 48, "ring": 48, "hexagon": 6, "square": 4, "triangle": 3}

Floats = npt.NDArray[np.float32]
Masks = npt.NDArray[np.bool_]
Picture = npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class Shape:
    """One object of a scene; lengths are in pixels of the picture.

    Attributes:
        kind: one of `CLASSES`.
        centre: x and y.
        radius: of the circle around the shape.
        squash: length of its second axis relative to its first.
        angle: of its first axis, in radians.
        hole: radius of a ring's hole relative to its own.
        colour: blue, green, red; 0 to 255.
        shade: change of brightness across the picture's width, of the colour alone.
    """

    kind: str
    centre: tuple[float, float]
    radius: float
    squash: float
    angle: float
    hole: float
    colour: tuple[float, float, float]
    shade: float


@dataclasses.dataclass(frozen=True)
class Scene:
    """A planned picture.

    Attributes:
        background: (H, W, 3), blue, green, red, 0 to 255.
        shapes: from back to front.
        noise: (H, W, 3), added at the end.
        blur: standard deviation of the lens, in pixels.
    """

    background: Floats
    shapes: tuple[Shape, ...]
    noise: Floats
    blur: float


def plan(random: np.random.Generator, size: int = 128) -> Scene:
    """Plan a square scene, about which `random` decides everything, of a side in pixels of at least 32."""
    background = _background(random, size)
    shapes: list[Shape] = []
    masks: list[Masks] = []  # what is to be seen of each
    areas: list[int] = []  # of all of each
    wanted = int(random.integers(4, 9))
    for _ in range(4 * wanted):
        if len(shapes) == wanted:
            break
        shape = _any_shape(random, size)
        mask = _mask(shape, size)
        left = [behind & ~mask for behind in masks]
        if all(seen.sum() >= _LEAST_VISIBLE * full for seen, full in zip(left, areas, strict=True)):
            shapes.append(shape)
            masks = [*left, mask]
            areas.append(int(mask.sum()))
    noise = random.normal(0, random.uniform(2, 10), (size, size, 3)).astype(np.float32)
    return Scene(background, tuple(shapes), noise, float(random.uniform(0.3, 1.1)))


def paint(scene: Scene) -> Picture:
    """Return the picture of a scene: (H, W, 3), blue, green, red."""
    size = len(scene.background)
    slope = np.linspace(-0.5, 0.5, size, dtype=np.float32)[None, :, None]
    picture = scene.background.copy()
    for shape, seen in zip(scene.shapes, _seen(scene), strict=True):
        share = cv2.resize(seen.astype(np.float32), (size, size), interpolation=cv2.INTER_AREA)[..., None]
        picture += share * (np.asarray(shape.colour, np.float32) + shape.shade * slope - scene.background)
    picture = cv2.GaussianBlur(picture, (0, 0), scene.blur) + scene.noise
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def boxes(scene: Scene) -> npt.NDArray[np.float64]:
    """Return the boxes of what is to be seen of each shape: (N, 4), x1, y1, x2, y2 in pixels."""
    found = [cv2.boundingRect(seen.view(np.uint8)) for seen in _seen(scene)]
    return np.array([(x, y, x + width, y + height) for x, y, width, height in found]).reshape(-1, 4) / _FINE


def label_text(scene: Scene) -> str:
    """Return a scene's labels as YOLO text: class, centre x, centre y, width, height, all relative to the picture."""
    size = len(scene.background)
    lines = []
    for shape, (x1, y1, x2, y2) in zip(scene.shapes, boxes(scene) / size, strict=True):
        numbers = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
        lines.append(" ".join([str(CLASSES.index(shape.kind)), *(f"{number:.6f}" for number in numbers)]))
    return "".join(f"{line}\n" for line in lines)


def make_data(folder: Path, pictures: Mapping[str, int], *, seed: int = 0, size: int = 128) -> Path:
    """Draw a data set in the host's layout and return its `data.yaml`, with relative paths.

    Args:
        folder: where it goes.
        pictures: how many of each split (`train`, `val`, `test`).
        seed: decides every picture; one more picture changes none of the others.
        size: side of the pictures in pixels.
    """
    for number, (split, count) in enumerate(pictures.items()):
        images, labels = folder / "images" / split, folder / "labels" / split
        images.mkdir(parents=True, exist_ok=True)
        labels.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            scene = plan(np.random.default_rng([seed, number, index]), size)
            coded = cv2.imencode(".jpg", paint(scene), [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
            (images / f"{index:04d}.jpg").write_bytes(coded.tobytes())
            (labels / f"{index:04d}.txt").write_text(label_text(scene), encoding="utf-8")
    content: dict[str, Any] = {split: f"images/{split}" for split in pictures}
    content["names"] = dict(enumerate(CLASSES))
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def _any_shape(random: np.random.Generator, size: int) -> Shape:
    radius = size * float(np.exp(random.uniform(np.log(0.08), np.log(0.17))))
    x, y = random.uniform(0.6 * radius, size - 0.6 * radius, 2)
    number = int(random.integers(len(CLASSES)))
    # Every class has a colour that it mostly has, but its neighbours' reach into it: the colour says half.
    hue = (number + random.normal(0, 0.5)) / len(CLASSES) % 1
    light = colorsys.hsv_to_rgb(hue, random.uniform(0.4, 0.9), random.uniform(0.35, 0.95))
    red, green, blue = (255 * level for level in light)
    return Shape(
        kind=CLASSES[number],
        centre=(float(x), float(y)),
        radius=radius,
        squash=float(random.uniform(0.75, 1)),
        angle=float(random.uniform(-0.5, 0.5)),
        hole=float(random.uniform(0.35, 0.65)),
        colour=(blue, green, red),
        shade=float(random.uniform(-60, 60)),
    )


def _mask(shape: Shape, size: int) -> Masks:
    """Return where a shape is, at `_FINE` times the picture's size: (F * H, F * W)."""
    mask = np.zeros((_FINE * size, _FINE * size), np.uint8)
    cv2.fillPoly(mask, [_outline(shape, 1.0)], 1)
    if shape.kind == "ring":
        cv2.fillPoly(mask, [_outline(shape, shape.hole)], 0)
    return mask.view(np.bool_)


def _seen(scene: Scene) -> list[Masks]:
    """Return the part of each shape that none in front of it covers, as `_mask` has it."""
    size = len(scene.background)
    covered: Masks = np.zeros((_FINE * size, _FINE * size), bool)
    seen = []
    for shape in reversed(scene.shapes):
        mask = _mask(shape, size)
        seen.append(mask & ~covered)
        covered |= mask
    return seen[::-1]


def _outline(shape: Shape, scale: float) -> npt.NDArray[np.int32]:
    """Return a shape's outline in fine pixels: (K, 2)."""
    if shape.kind == "star":
        turns, radii = np.arange(10) / 10, np.where(np.arange(10) % 2, 0.45, 1.0)
    else:
        corners = _CORNERS[shape.kind]
        turns, radii = np.arange(corners) / corners, np.ones(corners)
    points = (radii * scale * shape.radius)[:, None] * np.stack(
        [np.cos(2 * np.pi * turns), shape.squash * np.sin(2 * np.pi * turns)], 1
    )
    cos, sin = np.cos(shape.angle), np.sin(shape.angle)
    turned = points @ np.array([[cos, sin], [-sin, cos]]) + shape.centre
    return np.rint(_FINE * turned - 0.5).astype(np.int32)


def _background(random: np.random.Generator, size: int) -> Floats:
    """Return a gradient with stains, and with strokes, arcs and open corners that belong to no class."""
    tone = random.uniform(60, 195)
    ends = (tone + random.normal(0, 14, (2, 2, 3))).astype(np.float32)
    picture = cv2.resize(ends, (size, size), interpolation=cv2.INTER_LINEAR)
    stains = random.normal(0, 6, (int(random.integers(4, 12)),) * 2 + (3,)).astype(np.float32)
    picture = np.clip(picture + cv2.resize(stains, (size, size), interpolation=cv2.INTER_CUBIC), 0, 255)
    for _ in range(int(random.integers(2, 8))):
        colour = (random.uniform(20, 235) + random.normal(0, 25, 3)).clip(0, 255).tolist()
        x, y = (int(value) for value in random.integers(0, size, 2))
        reach = int(random.integers(size // 20, size // 4))
        thick = int(random.integers(1, 3))
        kind = int(random.integers(3))
        if kind == 0:
            end = (x + int(random.integers(-2 * reach, 2 * reach)), y + int(random.integers(-2 * reach, 2 * reach)))
            cv2.line(picture, (x, y), end, colour, thick, cv2.LINE_AA)
        elif kind == 1:
            start, span = (int(value) for value in random.integers(40, 250, 2))
            cv2.ellipse(picture, (x, y), (reach, reach), 0, start, start + span, colour, thick, cv2.LINE_AA)
        else:
            corners = random.integers(-reach, reach, (3, 2)) + (x, y)
            cv2.polylines(picture, [corners.astype(np.int32)], False, colour, thick, cv2.LINE_AA)
    return picture.astype(np.float32)
