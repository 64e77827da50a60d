"""Augmentation is keyed by epoch and sample: the same window whatever batch or network a sample meets it in."""

import pytest
import torch
import torch.nn.functional as F

from ddm_framework.network.augmentation import augmentations, augmented
from ddm_framework.recipe.settings import Training

CPU = torch.device("cpu")


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(12, 3, 16, 24, generator=torch.Generator().manual_seed(0))


def drawn(images: torch.Tensor, *kinds: str, seeds: tuple[int, ...] = (0,), epoch: int = 0):
    return augmentations(Training(augmentation=list(kinds)), images.shape, seeds, epoch, CPU)


def test_nothing_is_drawn_where_nothing_is_asked_for(images: torch.Tensor) -> None:
    assert drawn(images) == []
    assert augmented(images, torch.arange(12), []) is images


def test_a_flip_mirrors_some_of_the_samples(images: torch.Tensor) -> None:
    [once] = drawn(images, "flip")
    seen = augmented(images, torch.arange(12), [once])
    assert 0 < int(once.flips.sum()) < 12
    for sample in range(12):
        assert torch.equal(seen[sample], images[sample].flip(2) if once.flips[sample] else images[sample])


def test_a_crop_is_a_window_of_the_padded_image(images: torch.Tensor) -> None:
    [once] = drawn(images, "crop")
    assert once.padding == 2 and not once.flips.any()
    padded, seen = F.pad(images, (2, 2, 2, 2)), augmented(images, torch.arange(12), [once])
    for sample, (row, column) in enumerate(once.shifts.tolist()):
        assert torch.equal(seen[sample], padded[sample, :, row : row + 16, column : column + 24])


def test_a_sample_looks_the_same_in_any_batch(images: torch.Tensor) -> None:
    once = drawn(images, "crop", "flip")
    whole = augmented(images, torch.arange(12), once)
    some = torch.tensor([7, 2, 11])
    assert torch.equal(augmented(images[some], some, once), whole[some])


def test_networks_with_seeds_of_their_own_see_their_own_windows(images: torch.Tensor) -> None:
    both = drawn(images, "crop", "flip", seeds=(3, 4))
    samples = torch.tensor([[0, 5], [5, 1]])
    seen = augmented(images[samples], samples, both)
    for row in range(2):
        assert torch.equal(seen[row], augmented(images[samples[row]], samples[row], both[row : row + 1]))


def test_each_epoch_and_seed_draws_anew(images: torch.Tensor) -> None:
    first, [later], [other] = drawn(images, "crop"), drawn(images, "crop", epoch=1), drawn(images, "crop", seeds=(1,))
    again = drawn(images, "crop")
    assert torch.equal(first[0].shifts, again[0].shifts)
    assert not torch.equal(first[0].shifts, later.shifts) and not torch.equal(first[0].shifts, other.shifts)
