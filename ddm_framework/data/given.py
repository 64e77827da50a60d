"""Images and labels as people have them in Python: tensors, arrays, data sets, loaders and samples of any shape."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Subset

from ddm_framework.errors import DataError

IMAGES = ("image", "images", "img", "pixel_values", "pixels", "input", "inputs", "x", "data")
LABELS = ("label", "labels", "target", "targets", "y", "class", "class_id")
WANTED = (
    "give (images, labels) as two tensors or arrays, a data set of (image, class id), or a loader of batches of these"
)
_CHANNELS = (1, 3, 4)
_ENTRIES = (Tensor, np.ndarray, int, np.integer, float, str)
_WIDE = (torch.uint16, torch.uint32, torch.uint64)
"""Types that PyTorch computes little with."""
_TRIED = 8
"""Samples of a data set that are read twice, to see whether it draws another picture each time."""
_SIZES = 5


def pair(split: Any, name: str) -> tuple[Tensor, Tensor, list[str]]:
    """Images (N, C, H, W), float32 or uint8, labels int64 (N,), and what is to be told of how they were understood.

    Args:
        split: two tensors or arrays, a map-style or iterable data set, or a loader.
        name: of the split, for messages.
    Raises:
        DataError: if they cannot be understood, in a sentence.
    """
    if isinstance(split, tuple | list) and len(split) == 2 and all(map(_is_many, split)):
        images, labels = split
    else:
        images, labels = _collected(split, name)
    pixels, notes = _pixels(images, name)
    return pixels, class_ids(labels, name), notes


def _is_many(each: Any) -> bool:
    """Whether something holds images or labels of many samples, and is no single sample."""
    if isinstance(each, Tensor | np.ndarray):
        return True
    if isinstance(each, tuple | range):
        return len(each) > 0 and all(isinstance(one, int | np.integer | float) for one in each)
    return isinstance(each, list) and bool(each) and all(isinstance(one, _ENTRIES) or _is_pil(one) for one in each)


def _is_pil(image: Any) -> bool:
    return hasattr(image, "convert") and hasattr(image, "mode")


def _collected(split: Any, name: str) -> tuple[Any, Any]:
    """All images and labels of a data set or loader, in order."""
    try:
        samples = _samples(split, name)
    except DataError:
        raise
    except Exception as error:  # a data set of the user's can raise anything
        told = _told(error)
        raise DataError(f"{name}: reading it fails with {type(error).__name__}: {told}; {WANTED}") from error
    if not samples:
        raise DataError(f"{name}: it holds no sample; {WANTED}")
    images = _same_size([_picture(image, name) for image, _ in samples], name)
    return torch.stack(images), [label for _, label in samples]


def _same_size(images: list[Tensor], name: str) -> list[Tensor]:
    """The images.

    Raises:
        DataError: if they differ in size or type.
    """
    sizes = sorted({tuple(image.shape) for image in images})
    if len(sizes) > 1:
        raise DataError(
            f"{name}: images have several sizes ({', '.join(map(str, sizes[:_SIZES]))}); resize them to one"
        )
    kinds = sorted({str(image.dtype).removeprefix("torch.") for image in images})
    if len(kinds) > 1:
        raise DataError(f"{name}: images are of several types ({', '.join(kinds)}); give all of them in one")
    return images


def _samples(split: Any, name: str) -> list[tuple[Any, Any]]:
    if isinstance(split, DataLoader):
        return _loaded(split, name)
    if isinstance(split, IterableDataset) or (isinstance(split, Iterable) and not hasattr(split, "__getitem__")):
        return [_sample(each, name) for each in split]
    plain = isinstance(split, str | bytes | Mapping)
    if plain or not (hasattr(split, "__len__") and hasattr(split, "__getitem__")):
        raise DataError(f"{name}: {WANTED}; found {type(split).__name__}")
    samples = [_sample(split[index], name) for index in range(len(split))]
    for index, (image, _) in enumerate(samples[:_TRIED]):
        again = _picture(_sample(split[index], name)[0], name)
        if again.shape != _picture(image, name).shape or not torch.equal(again, _picture(image, name)):
            raise DataError(
                f"{name}: sample {index} is another picture each time that it is read; give the data set without random"
                " augmentation"
            )
    return samples


def _loaded(loader: DataLoader[Any], name: str) -> list[tuple[Any, Any]]:
    """The samples of a loader, in the order of its data set where that is known."""
    dataset, sampler = loader.dataset, loader.sampler
    if isinstance(dataset, IterableDataset):
        return [sample for batch in loader for sample in _unbatched(batch, name, loader.batch_size is None)]
    source = source_of(loader)
    if source is not dataset:
        return _samples(source, name)
    count, drawn = len(dataset), len(list(sampler))
    if drawn != count or getattr(sampler, "replacement", False):
        raise DataError(f"{name}: the loader draws {drawn} samples of {count} in a way of its own; give its data set")
    return _samples(dataset, name)


def source_of(split: Any) -> Any:
    """The data set behind a loader, in whose order its samples are taken, or the part that its sampler draws."""
    if not isinstance(split, DataLoader) or isinstance(split.dataset, IterableDataset):
        return split
    chosen = getattr(split.sampler, "indices", None)
    return split.dataset if chosen is None else Subset(split.dataset, sorted(map(int, chosen)))


def _unbatched(batch: Any, name: str, single: bool) -> Iterable[tuple[Any, Any]]:
    images, labels = _sample(batch, name)
    return [(images, labels)] if single else zip(images, labels, strict=True)


def _sample(sample: Any, name: str) -> tuple[Any, Any]:
    """Image and label of a sample or batch, which may be a tuple, a list or a dict."""
    if isinstance(sample, Mapping):
        image = next((sample[key] for key in IMAGES if key in sample), None)
        label = next((sample[key] for key in LABELS if key in sample), None)
        if image is not None and label is not None:
            return image, label
        keys = ", ".join(map(repr, list(sample)[:6]))
        raise DataError(
            f"{name}: a sample holds {keys}; call the image `image` and the class `label`, or give (image, class id)"
        )
    if isinstance(sample, Sequence) and not isinstance(sample, str) and len(sample) == 2:
        return sample[0], sample[1]
    found = f"a {type(sample).__name__}" + (f" of {len(sample)}" if isinstance(sample, tuple | list) else "")
    raise DataError(f"{name}: {WANTED}; a sample is {found}")


def _picture(image: Any, name: str) -> Tensor:
    """One image as a tensor; PIL images and arrays have their channels last or none."""
    if isinstance(image, Tensor):
        return _at_hand(image, f"{name}: images")
    if _is_pil(image):
        values = torch.from_numpy(np.array(image if image.mode in ("L", "RGB") else image.convert("RGB")))
        return values[None] if values.ndim == 2 else values.permute(2, 0, 1)
    if isinstance(image, np.ndarray):
        return _tensor(image, name)
    raise DataError(f"{name}: {WANTED}; an image is a {type(image).__name__}")


def _at_hand(values: Tensor, what: str) -> Tensor:
    """A tensor as plain values on the processor.

    Raises:
        DataError: if it has none.
    """
    if values.is_meta:
        raise DataError(f"{what} are on the device `meta`, without values; give what holds them")
    try:
        found = values.detach().cpu()
        found = found.dequantize() if found.is_quantized else found
        found = found if found.layout == torch.strided and not found.is_nested else found.to_dense()
        return found.to(torch.int64) if found.dtype in _WIDE else found
    except (RuntimeError, NotImplementedError) as error:
        raise DataError(f"{what} are no plain tensor ({_told(error)}); give one of values side by side") from error


def _told(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _tensor(values: Any, name: str) -> Tensor:
    if isinstance(values, Tensor):
        return _at_hand(values, f"{name}: images")
    if isinstance(values, list) and all(map(_is_pil, values)):
        return torch.stack(_same_size([_picture(each, name) for each in values], name))
    try:
        arrays = [
            _at_hand(each, f"{name}: images").numpy() if isinstance(each, Tensor) else np.asarray(each)
            for each in values
        ]
        return _at_hand(torch.from_numpy(np.ascontiguousarray(np.stack(arrays))), f"{name}: images")
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: images are no array of numbers of one size ({_told(error)}); {WANTED}") from None


def _pixels(images: Any, name: str) -> tuple[Tensor, list[str]]:
    """Pixels (N, C, H, W), float32 or uint8."""
    values, notes = _tensor(images, name), list[str]()
    if values.is_complex():
        raise DataError(f"{name}: images are complex numbers; give their real values")
    if values.dtype == torch.bool:
        values = values.to(torch.uint8) * 255
    if values.is_floating_point():
        values = values.float()
    elif values.dtype != torch.uint8:
        low, high = (int(values.min()), int(values.max())) if values.numel() else (0, 0)
        if low < 0 or high > 255:
            raise DataError(f"{name}: whole-numbered images run from {low} to {high}; pixels run from 0 to 255")
        values = values.to(torch.uint8)
    if values.ndim == 3:
        notes.append(f"{name} images have no channels; they are taken as images of one channel.")
        values = values[:, None]
    if values.ndim == 4 and values.shape[1] not in _CHANNELS and values.shape[3] in _CHANNELS:
        notes.append(f"{name} images have their channels last; they are turned to (N, C, H, W).")
        values = values.permute(0, 3, 1, 2)
    if values.ndim != 4:
        raise DataError(f"{name} images must be (N, C, H, W), found shape {tuple(values.shape)}")
    return values.contiguous(), notes


def class_ids(labels: Any, name: str) -> Tensor:
    """Class ids int64 (N,) of labels (N,), (N, 1), whole-numbered floats, or one-hot rows (N, classes).

    Raises:
        DataError: for labels that are no classes.
    """
    if isinstance(labels, Tensor):
        values = _at_hand(labels, f"{name}: labels")
    else:
        listed = (
            labels
            if isinstance(labels, np.ndarray)
            else [each.tolist() if isinstance(each, Tensor | np.ndarray) else each for each in labels]
        )
        try:
            array = np.asarray(listed)
            array = np.asarray(array.tolist()) if array.dtype == object else array
            values = _at_hand(torch.as_tensor(array), f"{name}: labels")
        except (TypeError, ValueError, RuntimeError, OverflowError):
            found = next(iter(np.ravel(np.asarray(listed, dtype=object))), None)
            raise DataError(f"{name}: labels must be class ids, whole numbers from 0; found {found!r}") from None
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim == 2 and bool(((values == 0) | (values == 1)).all()) and bool((values.sum(1) == 1).all()):
        return values.argmax(1)
    if values.ndim != 1:
        raise DataError(
            f"{name}: labels have shape {tuple(values.shape)}; give one class id a sample, (N,), or one-hot rows"
        )
    if values.is_complex():
        raise DataError(f"{name}: labels are complex numbers; give class ids from 0")
    whole = values.to(torch.int64)
    if values.is_floating_point() and not bool((values == whole).all()):
        raise DataError(f"{name}: labels are not whole ({values[values != whole][0].item()}); give class ids from 0")
    return whole


def _each_channel(values: Sequence[float] | None, usual: float, channels: int) -> list[float]:
    given = [usual] if values is None else list(values)
    if len(given) not in (1, channels):
        raise DataError(f"mean and std hold one number per channel: the images have {channels}, found {len(given)}")
    return given * channels if len(given) == 1 else given


def as_pixels(
    train: Tensor, test: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[Tensor, Tensor, list[float], list[float], list[str]]:
    """Floats outside [0, 1] as pixels with the normalisation that gives them back.

    Args:
        train, test: images (N, C, H, W), uint8 or float32.
        mean, std: one number a channel or one for all, where the user gave them.
    Returns:
        Both as pixels, their mean and std, and what is to be told.
    Raises:
        DataError: if such floats come with a mean and std of their own, or the other split is uint8.
    """
    channels = train.shape[1]
    if (mean is None) != (std is None):
        raise DataError("mean and std go together: give both or neither")
    plain = _each_channel(mean, 0.0, channels), _each_channel(std, 1.0, channels)
    if train.is_floating_point() != test.is_floating_point():
        floats = train if train.is_floating_point() else test
        if floats.numel() and not (float(floats.min()) >= 0 and float(floats.max()) <= 1):
            raise DataError(
                "one split is uint8, from 0 to 255, and the other float outside [0, 1]; give both in the same way"
            )
        train, test = (each if each.is_floating_point() else each.float() / 255 for each in (train, test))
    if not train.is_floating_point() or not train.numel() or not test.numel():
        return train, test, *plain, []
    low, high = min(float(train.min()), float(test.min())), max(float(train.max()), float(test.max()))
    if not (low < 0 or high > 1) or not np.isfinite([low, high]).all():
        return train, test, *plain, []
    if mean is not None:
        raise DataError(
            f"images run from {low:.3g} to {high:.3g}, so they are normalised already or no pixels in [0, 1]; leave"
            " mean and std out, or give pixels in [0, 1]"
        )
    width = high - low
    told = (
        f"Images run from {low:.3g} to {high:.3g}, outside [0, 1]: they are taken as the module's inputs as they are,"
        " and pictures show that range."
    )
    train, test = ((each - low) / width for each in (train, test))
    return train, test, [-low / width] * channels, [1 / width] * channels, [told]
