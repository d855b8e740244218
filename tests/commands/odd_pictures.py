"""Writes pictures as people have them, whole and broken, under any name, and says what each should be read as."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

SIDE = 64


class Odd(NamedTuple):
    """A file, and what it should be read as.

    Attributes:
        name: of the file.
        write: writes it.
        expected: (H, W, 3), blue, green, red; `None` if it cannot be read.
        tolerance: how far a pixel may be from it, in levels: a codec's loss.
    """

    name: str
    write: Callable[[Path], Any]
    expected: np.ndarray | None
    tolerance: int = 0


def picture(seed: int, shape: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    """Return a picture whose corners differ, so that one that was turned can be told."""
    random = np.random.default_rng(seed)
    rows, columns = np.linspace(0, 1, shape[0])[:, None], np.linspace(0, 1, shape[1])[None]
    slopes = random.uniform(0.2, 1, (3, 2))
    planes = [60 + 150 * (down * rows + right * columns) / (down + right) for down, right in slopes]
    return np.stack(planes, 2).astype(np.uint8)


def odd_pictures(rounds: int = 12) -> Iterator[Odd]:
    """Yield files of every kind, `rounds` times with other pictures."""
    for seed in range(rounds):
        for kind in (whole, sixteen_bit, with_pillow, turned, named, sized, broken):
            yield from kind(seed)


def encoded(suffix: str, image: np.ndarray, *settings: int) -> bytes:
    done, data = cv2.imencode(suffix, image, settings)
    assert done
    return data.tobytes()


def file(name: str, data: bytes, expected: np.ndarray | None, tolerance: int = 0) -> Odd:
    return Odd(name, lambda path: path.write_bytes(data), expected, tolerance)


def whole(seed: int) -> Iterator[Odd]:
    """Formats, with and without colour and alpha."""
    image = picture(seed)
    grey = image[..., 0]
    alpha = np.dstack([image, picture(seed + 1000)[..., 0]])
    for suffix in (".png", ".bmp", ".dib", ".tif", ".tiff", ".ppm", ".jpg", ".JPEG", ".jp2"):
        loss = {".jpg": 16, ".JPEG": 16, ".jp2": 8}.get(suffix, 0)
        yield file(f"colour-{seed}{suffix}", encoded(suffix, image), image, loss)
    yield file(f"lossless-{seed}.webp", encoded(".webp", image, cv2.IMWRITE_WEBP_QUALITY, 101), image)
    for suffix in (".png", ".bmp", ".tif", ".pgm", ".jpg"):
        yield file(f"grey-{seed}{suffix}", encoded(suffix, grey), in_colour(grey), 8 if suffix == ".jpg" else 0)
    for suffix in (".png", ".tif"):
        yield file(f"alpha-{seed}{suffix}", encoded(suffix, alpha), image)
    yield file(f"progressive-{seed}.jpg", encoded(".jpg", image, cv2.IMWRITE_JPEG_PROGRESSIVE, 1), image, 16)
    yield file(f"rest-{seed}.jpg", encoded(".jpg", image) + b"appended by a telephone", image, 16)
    yield file(f"really-a-png-{seed}.jpg", encoded(".png", image), image)


def in_colour(grey: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)


def sixteen_bit(seed: int) -> Iterator[Odd]:
    """16 bits a channel; the lower eight are noise that has to go."""
    image = picture(seed)
    deep = image.astype(np.uint16) * 256 + np.random.default_rng(seed).integers(0, 120, image.shape, dtype=np.uint16)
    for suffix in (".png", ".tif"):
        yield file(f"deep-{seed}{suffix}", encoded(suffix, deep), image)
        yield file(f"deep-grey-{seed}{suffix}", encoded(suffix, deep[..., 0]), in_colour(image[..., 0]))
        yield file(f"deep-alpha-{seed}{suffix}", encoded(suffix, np.dstack([deep, deep[..., 0]])), image)


def saved(image: Any, kind: str, **settings: Any) -> bytes:
    """Return what Pillow writes."""
    stream = io.BytesIO()
    image.save(stream, kind, **settings)
    return stream.getvalue()


def with_pillow(seed: int) -> Iterator[Odd]:
    """What OpenCV cannot write: CMYK, palettes, bits, several pages."""
    from PIL import Image

    image = picture(seed)
    made = Image.fromarray(np.ascontiguousarray(image[..., ::-1]))
    yield file(f"cmyk-{seed}.jpg", saved(made.convert("CMYK"), "JPEG", quality=95), image, 16)
    colours = np.random.default_rng(seed).integers(0, 256, (16, 3), dtype=np.uint8)
    indices = image[..., 1] // 16
    palette = Image.fromarray(indices, "L")
    palette.putpalette(np.ascontiguousarray(colours[:, ::-1]).tobytes())
    yield file(f"palette-{seed}.png", saved(palette, "PNG"), colours[indices])
    yield file(f"palette-clear-{seed}.png", saved(palette, "PNG", transparency=3), colours[indices])
    bits = image[..., 2] > 120
    yield file(f"bits-{seed}.png", saved(Image.fromarray(bits), "PNG"), in_colour(bits.astype(np.uint8) * 255))
    pages = saved(made, "TIFF", save_all=True, append_images=[Image.fromarray(255 - image)])
    yield file(f"pages-{seed}.tif", pages, image)


def turned(seed: int) -> Iterator[Odd]:
    """Pictures that lie as the sensor did, and say so."""
    from PIL import Image

    upright = picture(seed, (SIDE, 48))
    # How each orientation of the EXIF standard is made from the upright picture.
    lying = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }
    orientation = 1 + seed % 8
    exif = Image.Exif()
    exif[0x0112] = orientation
    made = Image.fromarray(np.ascontiguousarray(lying[orientation][..., ::-1]))
    for kind, suffix, loss in (("PNG", "png", 0), ("TIFF", "tif", 0), ("JPEG", "jpg", 16)):
        settings = {"quality": 95} if kind == "JPEG" else {}
        yield file(f"turned-{orientation}-{seed}.{suffix}", saved(made, kind, exif=exif, **settings), upright, loss)


def named(seed: int) -> Iterator[Odd]:
    """Names that a path, a pattern or a format string could trip over."""
    image = picture(seed)
    names = ["with space", "größe-日本-🐟", "100%", "%d-%s-{0}", "a[1]", "-v", "a..b", "quote'\"", "a\\b", "x=y,z"]
    for suffix in ("png", "PnG"):
        yield file(f"{names[seed % len(names)]}-{seed}.{suffix}", encoded(".png", image), image)


def sized(seed: int) -> Iterator[Odd]:
    """One pixel, and a panorama."""
    for height, width in ((1, 1), (1, 2 + seed), (2 + seed, 1), (3, 30_000 if seed == 0 else 400)):
        image = picture(seed, (height, width))
        yield file(f"sized-{height}x{width}-{seed}.png", encoded(".png", image), image)


def broken(seed: int) -> Iterator[Odd]:
    """What is no picture, or no longer."""
    image = picture(seed)
    share = (0.05, 0.3, 0.6, 0.9, 0.99)[seed % 5]
    for suffix in (".jpg", ".png", ".webp", ".tif", ".bmp", ".jp2"):
        data = encoded(suffix, image)
        yield file(f"cut-{seed}{suffix}", data[: int(len(data) * share)], None)
    contents = {
        "text.jpg": b"no picture, just words\n" * 9,
        "empty.png": b"",
        "zeros.jpg": bytes(5000),
        "noise.png": np.random.default_rng(seed).bytes(3000),
        "head.png": encoded(".png", image)[:8] + b"\xff" * 500,
        "floats.tif": encoded(".tif", image.astype(np.float32) / 255),  # whose white is not known
    }
    for name, data in contents.items():
        yield file(f"{seed}-{name}", data, None)
    yield Odd(f"folder-{seed}.jpg", lambda path: path.mkdir(), None)
    yield Odd(f"link-{seed}.jpg", lambda path: path.symlink_to("nothing"), None)
