"""Labelled and unlabelled pictures in one batch.

An unlabelled picture is not background: nobody has said what is in it. It is taught by the teacher alone, and the
task's own loss never sees it (`labelled_part`). The two kinds are two data sets of the host, so none of its mosaics,
mixups or other mixtures puts the two together.

Relies on: the host's batch sampler takes its indices from the `sampler` in its loader, which asks for them anew in each
epoch; the host's `collate_fn` leaves keys that it does not know as tuples; an epoch's loader is reset by `reset()`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler
from ultralytics.data import YOLODataset

from yolo_distill.errors import RequestError
from yolo_distill.teachers.answer import each_tensor

#: Of a batch: whether each picture is labelled, a tuple of bools.
LABELLED = "labelled"
#: Unlabelled pictures for each labelled one, at most, where the user has not said how many.
MOST = 1.0


def labelled_of(batch: int, ratio: float) -> int:
    """Return the labelled pictures of a batch that has `ratio` unlabelled ones for each, both at least once."""
    return max(1, min(batch - 1, round(batch / (1 + ratio))))


def ratio_of(unlabelled: int, labelled: int) -> float:
    """Return how many unlabelled pictures are shown for each labelled one, where nobody has said it."""
    return min(MOST, unlabelled / labelled)


class MixedPictures(Dataset[dict[str, Any]]):
    """The host's data set of labelled pictures, and behind it one of unlabelled ones, both made for training.

    What the host asks a data set about (labels to plot and to weigh classes by, transforms) is answered by the labelled
    one.
    """

    collate_fn = staticmethod(YOLODataset.collate_fn)

    def __init__(self, labelled: YOLODataset, unlabelled: YOLODataset) -> None:
        self.labelled, self.unlabelled = labelled, unlabelled

    def __len__(self) -> int:
        return len(self.labelled) + len(self.unlabelled)

    def __getitem__(self, index: int) -> dict[str, Any]:
        dataset, own = self._find(index)
        return {**dataset[own], LABELLED: dataset is self.labelled}

    def __getattr__(self, name: str) -> Any:
        if name in {"labelled", "unlabelled"}:  # a copy that is being made has none yet
            raise AttributeError(name)
        return getattr(self.labelled, name)

    @property
    def buffer(self) -> list[int]:
        """The numbers of the pictures that mosaics draw from, of either kind from their own."""
        behind = len(self.labelled)
        return [*self.labelled.buffer, *(behind + index for index in self.unlabelled.buffer)]

    def load_image(self, index: int) -> Any:
        """Load a picture as its data set does, which puts it into its buffer."""
        dataset, own = self._find(index)
        return dataset.load_image(own)

    def _find(self, index: int) -> tuple[YOLODataset, int]:
        """Return the data set that a picture is in, and its number there."""
        behind = index - len(self.labelled)
        return (self.labelled, index) if behind < 0 else (self.unlabelled, behind)

    def close_mosaic(self, hyp: Any) -> None:
        """Close mosaic in both."""
        for dataset in (self.labelled, self.unlabelled):
            dataset.close_mosaic(hyp)


class MixedSampler(Sampler[int]):
    """Yields the pictures of an epoch so that every batch holds both kinds, labelled ones first.

    An epoch shows every labelled picture once; of the unlabelled ones as many as the batches hold, drawn anew.

    Attributes:
        share: labelled pictures of a full batch.
        generator: draws the epochs.
    """

    def __init__(
        self, dataset: MixedPictures, batch: int, ratio: float, *, rank: int = 0, world: int = 1, seed: int = 0
    ) -> None:
        """Sample batches with `ratio` unlabelled pictures for each labelled one, of which each process has its share.

        The seed is the same in all processes.
        """
        self._counts = len(dataset.labelled), len(dataset.unlabelled)
        self.share = labelled_of(batch, ratio)
        self._rest = max(1, batch - self.share)
        self._rank, self._world = rank, world
        self.generator = torch.Generator().manual_seed(seed)

    @property
    def _own(self) -> int:
        """Labelled pictures of this process, the same number in each."""
        return -(-self._counts[0] // self._world)

    def __len__(self) -> int:
        return self._own + self._rest * -(-self._own // self.share)

    def __iter__(self) -> Iterator[int]:
        # One draw an epoch: of the stream of unlabelled pictures processes read different lengths.
        number = int(torch.randint(2**63 - 1, (), generator=self.generator))
        generator = torch.Generator().manual_seed(number)
        order = torch.randperm(self._counts[0], generator=generator).tolist()
        order = list(itertools.islice(itertools.cycle(order), self._own * self._world))[self._rank :: self._world]
        others = itertools.islice(self._unlabelled(generator), self._rank, None, self._world)
        for start in range(0, len(order), self.share):
            yield from order[start : start + self.share]
            yield from itertools.islice(others, self._rest)

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: every epoch is drawn from where the last one stopped, alike in all processes."""

    def _unlabelled(self, generator: torch.Generator) -> Iterator[int]:
        first, count = self._counts
        while True:
            yield from (torch.randperm(count, generator=generator) + first).tolist()


def mix(loader: Any, ratio: float | None, *, rank: int, world: int, seed: int) -> MixedSampler:
    """Let a loader of the host over `MixedPictures` mix its batches.

    With `ratio` unlabelled pictures for each labelled one; None for as many as there are, up to `MOST`. Of the host's
    ranks -1 is that of the only process.

    Raises:
        RequestError: its batches are of one picture.
    """
    dataset: MixedPictures = loader.dataset
    if loader.batch_size < 2:
        raise RequestError("unlabeled=: a batch of one picture can't hold both kinds; give batch=2 or more")
    if ratio is None:
        ratio = ratio_of(len(dataset.unlabelled), len(dataset.labelled))
    sampler = MixedSampler(dataset, loader.batch_size, ratio, rank=max(rank, 0), world=max(world, 1), seed=seed)
    loader.batch_sampler.sampler.sampler = sampler
    object.__setattr__(loader, "sampler", sampler)  # the loader refuses a new one, as its iterator has the old one
    loader.reset()
    return sampler


def labelled_part(preds: Any, batch: Mapping[str, Any], *, overlap: bool = True) -> tuple[Any, dict[str, Any]] | None:
    """Return what the task's loss may see of predictions and batch: the labelled pictures; None where these are all.

    Predictions are the student's raw head output: tensors with one row a picture, in dicts, lists and tuples. Masks are
    one a picture with `overlap`, the host's `overlap_mask`; else one an object, and all objects are of labelled ones.
    """
    labelled = batch.get(LABELLED)
    if labelled is None or all(labelled):
        return None
    rows = torch.tensor([i for i, own in enumerate(labelled) if own], device=batch["img"].device)
    number = (torch.tensor(labelled, device=rows.device).cumsum(0) - 1).to(batch["batch_idx"].dtype)
    of_pictures = ("masks", "sem_masks") if overlap else ("sem_masks",)
    part = {
        **batch,
        **{key: batch[key][rows] for key in of_pictures if key in batch},
        "img": batch["img"][rows],
        "batch_idx": number[batch["batch_idx"].long()],
        "im_file": [file for file, own in zip(batch["im_file"], labelled, strict=True) if own],
    }
    return each_tensor(preds, lambda tensor: tensor[rows]), part
