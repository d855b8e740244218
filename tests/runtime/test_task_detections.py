"""Masks, keypoints and turned boxes of what was found: as numbers, in the forms of others, and drawn."""

from __future__ import annotations

import json
import tracemalloc

import cv2
import numpy as np
import pytest
from made_detector import NAMES

from yolo_distill import Detections
from yolo_distill.errors import RequestError
from yolo_distill.runtime.drawing import colour_of
from yolo_distill.runtime.keypoints import Keypoints
from yolo_distill.runtime.masks import Masks, Piece, mask_iou

TALL, WIDE = 60, 100
XYXY = np.array([[20, 10, 50, 40], [60, 20, 90, 50]], np.float32)
SCORES, CLASSES = np.array([0.9, 0.6], np.float32), np.array([0, 1])


def disc(side):
    return cv2.circle(np.zeros((side, side), np.uint8), (side // 2, side // 2), side // 2 - 1, 1, -1).astype(bool)


def found(**own):
    return Detections(XYXY, SCORES, CLASSES, NAMES, (TALL, WIDE), **own)


TWO_PARTS = np.zeros((30, 30), bool)
TWO_PARTS[2:12, 2:12] = TWO_PARTS[18:28, 20:28] = True
SEGMENTED = found(masks=Masks([Piece(10, 20, disc(30)), Piece(20, 60, TWO_PARTS)], (TALL, WIDE)))
POSED = found(keypoints=Keypoints(np.array([[[25, 15, 0.9], [40, 30, 0.1]], [[65, 25, 1], [80, 45, 1]]], np.float32)))
TURNED = found(turned=np.array([[35, 25, 30, 10, np.pi / 2], [75, 35, 20, 10, np.pi / 4]], np.float32))


def test_some_of_them():
    for all_of_them, name in ((SEGMENTED, "masks"), (POSED, "keypoints"), (TURNED, "turned")):
        for which in (1, slice(1, None), [False, True], np.array([1])):
            one = all_of_them[which]
            assert (len(one), len(getattr(one, name)), one.orig_shape) == (1, 1, (TALL, WIDE))
        assert all(getattr(all_of_them, other) is None for other in {"masks", "keypoints", "turned"} - {name})
    np.testing.assert_array_equal(SEGMENTED[1].masks.data[0], SEGMENTED.masks.data[1])


def test_masks():
    whole = SEGMENTED.masks.data
    assert (whole.shape, whole.dtype) == ((2, TALL, WIDE), np.bool_)
    assert [int(mask.sum()) for mask in whole] == [disc(30).sum(), TWO_PARTS.sum()]
    for mask, outline in zip(whole, SEGMENTED.masks.xy, strict=True):
        painted = cv2.fillPoly(np.zeros((TALL, WIDE), np.uint8), [outline.astype(np.int32)], 1).astype(bool)
        # Two parts are joined by a bridge of one pixel's width.
        assert (painted & mask).sum() == mask.sum()
        assert (painted & ~mask).sum() <= 12
    pieces = SEGMENTED.masks.pieces
    assert mask_iou(pieces[0], pieces[0]) == 1
    assert mask_iou(*pieces) == 0
    moved = pieces[0]._replace(left=25)
    both = [Masks([one], (TALL, WIDE)).data[0] for one in (pieces[0], moved)]
    assert mask_iou(pieces[0], moved) == pytest.approx((both[0] & both[1]).sum() / (both[0] | both[1]).sum())


def test_corners_of_turned_boxes():
    upright, slanted = TURNED.xyxyxyxy
    assert sorted(upright.round(3).tolist()) == [[30, 10], [30, 40], [40, 10], [40, 40]]
    assert cv2.contourArea(slanted) == pytest.approx(200, rel=1e-4)
    assert TURNED.obb is TURNED
    assert found().obb is None
    assert not hasattr(found(), "xywhr")  # by which the host's trackers know


@pytest.mark.parametrize(
    ("some", "rows"),
    [
        (POSED[:1], ["0 0.35 0.416667 0.3 0.5 0.25 0.25 0.9 0.4 0.5 0.1"]),
        (TURNED[0], ["0 0.3 0.666667 0.4 0.666667 0.4 0.166667 0.3 0.166667"]),
    ],
)  # fmt: skip
def test_yolo_labels(some, rows):
    assert some.to_yolo().splitlines() == rows
    assert some.to_yolo(with_confidence=True).splitlines()[0] == f"{rows[0]} 0.9"


def test_yolo_labels_of_masks(tmp_path):
    """The host reads them as what was found."""
    reading = pytest.importorskip("ultralytics.data.utils", reason="the host is not installed")
    dot = Detections(
        XYXY[:1], SCORES[:1], CLASSES[:1], NAMES, (TALL, WIDE), Masks([Piece(3, 4, disc(3)[1:2])], (60, 100))
    )
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((TALL, WIDE, 3), np.uint8))
    (tmp_path / "a.txt").write_text(SEGMENTED.to_yolo() + dot.to_yolo())
    read = reading.verify_image_label((str(tmp_path / "a.png"), str(tmp_path / "a.txt"), "", False, 3, 0, 0, False))
    labels, outlines, said = read[1], read[3], read[-1]
    assert (said, labels[:, 0].tolist()) == ("", [0, 1, 0])
    np.testing.assert_allclose(outlines[0] * [WIDE, TALL], SEGMENTED.masks.xy[0], atol=1e-3)


def test_coco():
    mask_utils = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    results = json.loads(json.dumps(SEGMENTED.to_coco(7, {0: 1, 1: 5})))
    assert [(one["image_id"], one["category_id"], one["score"], one["bbox"]) for one in results] == [
        (7, 1, 0.9, [20, 10, 30, 30]),
        (7, 5, 0.6, [60, 20, 30, 30]),
    ]
    for one, mask in zip(results, SEGMENTED.masks.data, strict=True):
        np.testing.assert_array_equal(mask_utils.decode(one["segmentation"]), mask)
        assert one["segmentation"]["counts"] == mask_utils.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
    assert POSED.to_coco("a")[0]["keypoints"] == [25, 15, 0.9, 40, 30, 0.1]
    assert TURNED.to_coco(1)[0]["segmentation"] == [[30, 40, 40, 40, 40, 10, 30, 10]]
    assert [some[:0].to_coco(1) for some in (SEGMENTED, POSED, TURNED)] == [[], [], []]


def test_run_lengths_of_large_pictures():
    """From the pieces alone: laid out, these masks would take two gigabytes."""
    mask_utils = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    size = (3000, 4000)
    ends = [
        Piece(0, 0, np.ones((3, 2), bool)),
        Piece(2991, 3991, np.ones((9, 9), bool)),
        Piece(3000, 9, np.ones((0, 0))),
    ]
    masks = Masks([*ends, Piece(20, 600, disc(30))] * 40, size)
    tracemalloc.start()
    told = masks.to_rle()
    assert tracemalloc.get_traced_memory()[1] < 12e6
    tracemalloc.stop()
    for one, mask in zip(told[:4], masks[:4].data, strict=True):
        assert one == {
            "size": [*size],
            "counts": mask_utils.encode(np.asfortranarray(mask, np.uint8))["counts"].decode(),
        }


def test_plain_values():
    assert json.loads(POSED.to_json())[0]["keypoints"] == [[25, 15, 0.9], [40, 30, 0.1]]
    row = TURNED.to_dicts()[0]
    assert (row["xywhr"], row["xyxyxyxy"]) == ([35, 25, 30, 10, 1.5708], [[30, 40], [40, 40], [40, 10], [30, 10]])
    assert np.array(SEGMENTED.to_dict()["polygon"][0]).shape[1] == 2


@pytest.mark.parametrize("way", ["to_supervision", "from_ultralytics"])
def test_supervision(way):
    sv = pytest.importorskip("supervision", reason="supervision is not installed")
    make = Detections.to_supervision if way == "to_supervision" else sv.Detections.from_ultralytics
    np.testing.assert_array_equal(make(SEGMENTED).mask, SEGMENTED.masks.data)
    np.testing.assert_array_equal(make(TURNED).data["xyxyxyxy"], TURNED.xyxyxyxy)
    np.testing.assert_array_equal(sv.KeyPoints.from_ultralytics(POSED).xy, POSED.keypoints.xy)
    for some in (SEGMENTED, POSED, TURNED):
        assert len(make(some)) == 2
        assert len(make(some[:0])) == 0


def test_drawing():
    image = np.zeros((TALL, WIDE, 3), np.uint8)
    tinted = SEGMENTED.plot(image)
    assert tuple(tinted[25, 35]) == tuple(np.array(colour_of(0)) // 2)
    assert not tinted[37, 23].any()  # in the box, not in the mask
    with pytest.raises(RequestError, match=r"the picture is 60x99, and the masks are of one of 60x100 \(height x"):
        SEGMENTED.plot(image[:, 1:])
    pointed = POSED.plot(image)
    assert tuple(pointed[15, 25]) == colour_of(0)
    assert tuple(pointed[45, 80]) == colour_of(1)
    assert not pointed[30, 40].any()  # too unsure
    slanted = TURNED.plot(image)
    assert slanted[25, 30].any()
    assert not slanted[27, 62].any()
    assert not slanted[27, 86].any()
