"""The data contract: images and labels of the train, validation and test splits, checked once when they are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ddm_framework.data.images import Images, StoredImages, content_digest, statistics, taken
from ddm_framework.errors import DataError, shown


@dataclass(frozen=True, slots=True)
class DataInfo:
    """What a network must know about a data set.

    Attributes:
        shape: (C, H, W) of one image.
        num_classes: number of classes.
        mean, std: per channel, of pixels in [0, 1]; images are (pixels - mean) / std.
        class_names: one name per class.
    """

    shape: tuple[int, int, int]
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...]

    @property
    def num_values(self) -> int:
        """Number of values in one image."""
        channels, height, width = self.shape
        return channels * height * width

    def normalise(self, pixels: Tensor) -> Tensor:
        """Pixels (..., C, H, W) in [0, 1] -> network inputs, float32."""
        return (pixels.float() - self.channels(self.mean, pixels)) / self.channels(self.std, pixels)

    def to_pixels(self, images: Tensor) -> Tensor:
        """Network inputs (..., C, H, W) -> pixels, clamped to [0, 1], float32."""
        return (images * self.channels(self.std, images) + self.channels(self.mean, images)).clamp(0, 1)

    def channels(self, values: tuple[float, ...], like: Tensor) -> Tensor:
        """One value per channel as a tensor (C, 1, 1), on the device of another tensor."""
        return torch.tensor(values, dtype=torch.float32, device=like.device)[:, None, None]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where samples come from, so that an answer about them leads back to it.

    Attributes:
        positions: of each sample in the source's own order, int64 (N,), on the CPU.
        files: path of each sample; empty where samples are no files.
    """

    positions: Tensor
    files: tuple[str, ...] = ()

    def take(self, index: Tensor) -> Origin:
        """Of the samples at these positions, int64 (M,)."""
        chosen = index.cpu()
        return Origin(self.positions[chosen], tuple(self.files[i] for i in chosen.tolist()) if self.files else ())


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Images float32 (N, C, H, W), normalised, and their labels int64 (N,).

    The images are a tensor, or `StoredImages`, which holds them as uint8 and is indexed and split like a tensor. Their
    origin is None where they were made here, as synthetic ones are.
    """

    images: Images
    labels: Tensor
    origin: Origin | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Tensor) -> ImageSet:
        """The samples at these positions, int64 (M,)."""
        origin = None if self.origin is None else self.origin.take(index)
        return ImageSet(taken(self.images, index), self.labels[index], origin)


Part = tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Origin]
"""Pixels (N, C, H, W), labels (N,) and where they come from; by default their own order is the source's."""


@dataclass(frozen=True, slots=True)
class Kept:
    """Which training samples are left after some were dropped.

    Attributes:
        total: how many there were.
        positions: of those that are left among them, int64 (N,).
    """

    total: int
    positions: Tensor


@dataclass(frozen=True, slots=True)
class DataSplits:
    """Train, validation (split from the training set) and test, and what they have in common.

    Attributes:
        train, validation, test: the splits.
        info: shape, classes and normalisation.
        notes: what whoever reads the results must know of how the data were read, a sentence each.
        kept: the training samples that are left, where some were dropped.
    """

    train: ImageSet
    validation: ImageSet
    test: ImageSet
    info: DataInfo
    notes: tuple[str, ...] = ()
    kept: Kept | None = None

    @classmethod
    def from_pixels(
        cls,
        train: Part,
        test: Part,
        *,
        class_names: tuple[str, ...],
        validation: float | Tensor = 0.1,
        split_seed: int = 0,
        notes: Sequence[str] = (),
    ) -> DataSplits:
        """Splits from pixels.

        The validation split is a stratified share of the training set; mean and standard deviation are those of
        what remains for training. uint8 pixels, in memory or memory-mapped, are stored unchanged and normalised when a
        batch of them is read, so that the data may be larger than the memory.

        Args:
            train: pixels (N, C, H, W), float in [0, 1] or uint8 from 0 to 255, and labels (N,); perhaps also an
                `Origin`, which says which file, and which sample in the source's own order, each of them is.
            test: the same for the test split.
            class_names: one name per class.
            validation: share of the training set that is held out, at least 0 and less than 1; or which of its samples
                are, bool (N,).
            split_seed: which samples are held out.
            notes: what must be known of how the data were read, a sentence each.
        Raises:
            DataError: for NaN, shapes or labels that do not fit, a class without images, or two classes of one name.
        """
        if len(class_names) < 2:
            raise DataError(
                f"the data have one class ({', '.join(class_names) or 'none'}), of which every network is right: there"
                " is nothing to tell apart or to attribute; bring data of two classes or more"
            )
        if twice := [name for name in class_names if class_names.count(name) > 1]:
            raise DataError(f"two classes have the name {shown(twice[0])}, and a name must tell which class is meant")
        for name, part in {"training": train, "test": test}.items():
            check_pixels(name, part[0], part[1], class_names)
        pixels, labels = train[0], train[1].long()
        if pixels.shape[1:] != test[0].shape[1:]:
            raise DataError(
                f"training images are {tuple(pixels.shape[1:])} and test images {tuple(test[0].shape[1:])}; "
                "both must have the same (C, H, W)"
            )
        kept, held = _cut(labels, validation, split_seed)
        missing = sorted(set(range(len(class_names))) - set(labels[kept].tolist()))
        if missing:
            names = ", ".join(class_names[c] for c in missing[:5])
            less = "hold out fewer" if isinstance(validation, Tensor) else f"lower `validation` ({validation})"
            if not set(missing) & set(labels.tolist()):  # nothing of it was held out
                less = "count classes from 0 without gaps"
            raise DataError(f"no training image is left for class {names}; give it images or {less}")
        mean, std = statistics(pixels, kept)
        shape = (pixels.shape[1], pixels.shape[2], pixels.shape[3])
        info = DataInfo(shape, len(class_names), mean, std, class_names)
        whole = _image_set(train, info)
        return cls(whole.take(kept), whole.take(held), _image_set(test, info), info, tuple(notes))

    def fingerprint(self) -> str:
        """A digest of all images, labels and names: the same digest means the same data."""
        parts = (self.train, self.validation, self.test)
        return content_digest(repr(self.info), [values for part in parts for values in (part.images, part.labels)])

    def normalised_by(self, mean: tuple[float, ...], std: tuple[float, ...]) -> DataSplits:
        """The same pixels with another normalisation: one mean and one standard deviation per channel."""
        info = replace(self.info, mean=mean, std=std)

        def renormalised(split: ImageSet) -> ImageSet:
            if isinstance(split.images, StoredImages):
                return replace(split, images=split.images.normalised_by(mean, std))
            old = self.info
            # Not `to_pixels`, which would clamp values outside of [0, 1].
            pixels = split.images * old.channels(old.std, split.images) + old.channels(old.mean, split.images)
            return replace(split, images=info.normalise(pixels))

        train, validation, test = map(renormalised, (self.train, self.validation, self.test))
        return replace(self, train=train, validation=validation, test=test, info=info)

    def to(self, device: torch.device) -> DataSplits:
        """The same splits on another device."""

        def moved(split: ImageSet) -> ImageSet:
            return replace(split, images=split.images.to(device), labels=split.labels.to(device))

        return replace(self, train=moved(self.train), validation=moved(self.validation), test=moved(self.test))


def _cut(labels: Tensor, validation: float | Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Positions kept and held out, by share or as they are given."""
    if isinstance(validation, Tensor):
        return (~validation).nonzero()[:, 0], validation.nonzero()[:, 0]
    return hold_out(labels, validation, seed)


def _image_set(part: Part, info: DataInfo) -> ImageSet:
    """A split as a network sees it."""
    pixels, labels, *given = part
    [origin] = given or [Origin(torch.arange(len(labels)))]
    return ImageSet(_inputs(pixels, info), labels.long(), origin)


def _inputs(pixels: Tensor, info: DataInfo) -> Images:
    """Network inputs of pixels; uint8 pixels stay stored as they are."""
    return info.normalise(pixels) if pixels.is_floating_point() else StoredImages.of(pixels, info.mean, info.std)


def hold_out(labels: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Positions kept and held out, sorted, int64: `share` of each class, rounded, is held out.

    Raises:
        DataError: if the share is not in [0, 1).
    """
    if not 0 <= share < 1:
        raise DataError(f"the share of held-out samples must be at least 0 and less than 1, not {share}")
    _, counts = labels.unique(return_counts=True)
    held = _drawn(labels, [round(share * count) for count in counts.tolist()], seed)
    kept = torch.ones(len(labels), dtype=torch.bool)
    kept[held] = False
    return kept.nonzero()[:, 0], held


def subset(labels: Tensor, size: int, seed: int) -> Tensor:
    """Positions of exactly `size` samples drawn at random, sorted, int64 (size,).

    Each class keeps its share of the whole, rounded down. The classes that lose most by rounding get one sample more,
    lower labels first.

    Args:
        labels: int64 (N,).
        size: from 1 to N.
        seed: which samples are drawn.
    Raises:
        DataError: if `size` is not between 1 and N.
    """
    if not 1 <= size <= len(labels):
        raise DataError(f"cannot take {size} of {len(labels)} samples; ask for 1 to {len(labels)}")
    _, counts = labels.unique(return_counts=True)
    quotas = counts * size // len(labels)
    remainders = counts * size % len(labels)
    quotas[remainders.argsort(descending=True, stable=True)[: size - int(quotas.sum())]] += 1
    return _drawn(labels, quotas.tolist(), seed)


def _drawn(labels: Tensor, quotas: Sequence[int], seed: int) -> Tensor:
    """Positions of so many samples of each class that occurs, drawn at random, sorted, int64."""
    generator = torch.Generator().manual_seed(seed)
    members = ((labels == label).nonzero()[:, 0] for label in labels.unique())
    drawn = [
        each[torch.randperm(len(each), generator=generator)[:quota]]
        for each, quota in zip(members, quotas, strict=True)
    ]
    return torch.cat(drawn).sort().values


def check_pixels(name: str, pixels: Tensor, labels: Tensor, class_names: tuple[str, ...]) -> None:
    """Refuse data that cannot be trained on.

    Raises:
        DataError: naming the split and the first offending sample.
    """
    if not pixels.is_floating_point() and pixels.dtype != torch.uint8:
        raise DataError(f"{name} images must be float in [0, 1] or uint8, found {pixels.dtype}")
    if pixels.ndim != 4:
        raise DataError(f"{name} images must be (N, C, H, W), found shape {tuple(pixels.shape)}")
    if len(pixels) != len(labels):
        raise DataError(f"{len(pixels)} {name} images but {len(labels)} labels")
    if len(pixels) == 0:
        raise DataError(f"there is no {name} image")
    bad = (~pixels.isfinite()).flatten(1).any(1).nonzero()[:, 0] if pixels.is_floating_point() else labels[:0]
    if len(bad):
        raise DataError(
            f"{len(bad)} {name} images hold NaN or infinity, the first at position {int(bad[0])}; remove or repair them"
        )
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(class_names):
        raise DataError(
            f"{name} labels run from {low} to {high}, but there are {len(class_names)} class names "
            f"(0 to {len(class_names) - 1})"
        )
