"""Enough optimizer steps: `nbs` is lowered where a run on few pictures would take too few of them.

The host adds up the gradients of several batches until they are `nbs` pictures, 64 by default, and takes one step then.
On a small set that leaves a run a few hundred steps, which is too few for any student, and costs nothing to mend: with
`nbs` at the batch size each batch is a step, in the same time. What it is worth: tests/benchmarks/MEASURED.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from ultralytics.cfg import DEFAULT_CFG_DICT
from ultralytics.utils import LOGGER, colorstr

from yolo_distill.data.dataset import pictures_of
from yolo_distill.data.mixed_batches import labelled_of
from yolo_distill.data.samples import shown_of

#: Steps below which more were better in every setting that was tried; see MEASURED.md, "Optimizer steps".
ENOUGH = 5000
PREFIX = colorstr("steps: ")


def settled_nbs(pictures: int, settings: Mapping[str, Any], ratio: float = 0.0) -> int:
    """Return `nbs` for a run: the largest up to the host's own that makes `ENOUGH` optimizer steps, or the batch size.

    A batch size that the host has yet to find, a run that ends by the clock, and a given `nbs` leave it as it is.

    Args:
        pictures: labelled ones of the training split.
        settings: the host's, of the run.
        ratio: unlabelled pictures that the run shows for each of them.
    """
    given = {**DEFAULT_CFG_DICT, **settings}
    nbs, batch = int(given["nbs"]), given["batch"]
    if settings.get("nbs") is not None or given["time"] or batch < 1:
        return nbs
    gathered = batches_a_step(int(batch), nbs)
    wanted = min(gathered, max(batches_of(pictures, given, ratio) // ENOUGH, 1))
    return nbs if wanted == gathered else wanted * int(batch)


def batches_a_step(batch: int, nbs: int) -> int:
    """Return how many batches the host adds up for a step."""
    return max(round(nbs / batch), 1)


def batches_of(pictures: int, settings: Mapping[str, Any], ratio: float = 0.0) -> int:
    """Return the batches of a whole run; see `settled_nbs`."""
    labelled = labelled_of(settings["batch"], ratio) if ratio else settings["batch"]
    return math.ceil(shown_of(pictures, settings["fraction"]) / labelled) * int(settings["epochs"])


def count_steps(pictures: int, settings: Mapping[str, Any], ratio: float = 0.0) -> int:
    """Return the optimizer steps of a whole run, as the host's loop takes them; see `settled_nbs`.

    Relies on: the host adds up no more batches than there are, and in its warm-up grows them from one to all.
    """
    given = {**DEFAULT_CFG_DICT, **settings}
    batches = batches_of(pictures, given, ratio)
    gathered = min(batches_a_step(given["batch"], given["nbs"]), batches)
    warming = round(min(given["warmup_epochs"], max(given["epochs"] - 1, 0)) * batches / given["epochs"])
    steps, last, now = 0, -1, gathered
    for number in range(batches):
        if warming and number <= warming:
            now = max(1, int(np.interp(number, [0, warming], [1, gathered]).round()))
        if number - last >= now:
            steps, last = steps + 1, number
    return steps


def expected_steps(pictures: int, settings: Mapping[str, Any]) -> int | None:
    """Return the optimizer steps that a run will take once its `nbs` is settled, without unlabelled pictures.

    None where that is not known beforehand: of a batch size that the host has yet to find, or a run that ends by the
    clock.
    """
    given = {**DEFAULT_CFG_DICT, **settings}
    if given["time"] or given["batch"] < 1:
        return None
    return count_steps(pictures, {**settings, "nbs": settled_nbs(pictures, settings)})


def with_enough_steps(pictures: int, settings: Mapping[str, Any], ratio: float = 0.0) -> dict[str, Any]:
    """Return the host's settings with `nbs` as `settled_nbs` has it, and say so where that is not the host's own."""
    nbs = settled_nbs(pictures, settings, ratio)
    if nbs == {**DEFAULT_CFG_DICT, **settings}["nbs"]:
        return dict(settings)
    few, enough = (count_steps(pictures, {**settings, **own}, ratio) for own in ({}, {"nbs": nbs}))
    LOGGER.info(
        f"{PREFIX}nbs={nbs} gives this run {enough} optimizer steps; Ultralytics' nbs={DEFAULT_CFG_DICT['nbs']} would "
        f"give it {few}, and takes as long; nbs={DEFAULT_CFG_DICT['nbs']} keeps it"
    )
    return {**settings, "nbs": nbs}


class EnoughSteps:
    """Settles the `nbs` of a trainer of the host where none was given.

    Relies on: the host reads `args.nbs` in `_build_train_pipeline`, and its workers of several devices are built with
    `overrides=vars(self.args)`.
    """

    def __init__(self, overrides: Mapping[str, Any] | None) -> None:
        self._open = (overrides or {}).get("nbs") is None

    def settle(self, trainer: Any) -> None:
        """Settle it as soon as the batch size is known: before the run, or once the host has found one."""
        if not self._open or trainer.resume or trainer.batch_size < 1:
            return
        self._open = False
        settings = {key: value for key, value in vars(trainer.args).items() if key != "nbs"}
        pictures = len(pictures_of(trainer.data, "train"))
        settled = with_enough_steps(pictures, {**settings, "batch": trainer.batch_size}, trainer.unlabelled_ratio)
        trainer.args.nbs = settled.get("nbs", trainer.args.nbs)
