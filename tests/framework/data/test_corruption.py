"""Exactly a share of the training images is spoilt, always the same ones, by noise of the size that is asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from run_fixtures import tiny

import ddm_framework
from ddm_framework import RecipeError
from ddm_framework.data.corruption import corrupt, corrupted
from ddm_framework.data.images import StoredImages
from ddm_framework.data.splits import DataSplits, ImageSet
from ddm_framework.recipe.settings import Corruption


def splits(*, stored: bool = False, count: int = 60) -> DataSplits:
    """Grey images of three classes, far from black and white, and a few test images."""
    pixels = torch.full((count, 2, 4, 4), 0.5) + 0.1 * torch.rand(count, 2, 4, 4)
    labels = torch.arange(count) % 3
    if stored:
        pixels = (255 * pixels).round().byte()
    return DataSplits.from_pixels((pixels, labels), (pixels[:6], labels[:6]), class_names=("a", "b", "c"))


def pixels_of(data: DataSplits) -> torch.Tensor:
    return data.info.to_pixels(data.train.images[:])


@pytest.mark.parametrize("stored", [False, True])
def test_a_share_of_the_images_gets_noise_and_nothing_else_changes(stored: bool) -> None:
    clean = splits(stored=stored)
    settings = Corruption(share=0.25)
    noisy = corrupt(clean, settings)
    chosen = corrupted(settings, len(clean.train)).samples
    assert chosen.sum() == round(0.25 * len(clean.train))
    difference = pixels_of(noisy) - pixels_of(clean)
    assert torch.equal((difference != 0).flatten(1).any(1), chosen)
    rms = difference[chosen].square().mean((1, 2, 3)).sqrt()
    torch.testing.assert_close(rms, torch.full_like(rms, 0.1), atol=0.004 if stored else 1e-5, rtol=0)
    assert torch.equal(noisy.train.labels, clean.train.labels)
    assert noisy.validation is clean.validation and noisy.test is clean.test and noisy.info == clean.info
    assert isinstance(noisy.train.images, StoredImages) == stored


def test_the_euclidean_norm_is_that_of_the_whole_image() -> None:
    clean = splits()
    settings = Corruption(share=0.2, noise=0.3, norm="euclidean")
    difference = pixels_of(corrupt(clean, settings)) - pixels_of(clean)
    lengths = difference[corrupted(settings, len(clean.train)).noisy].flatten(1).norm(dim=1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, 0.3))


def test_stored_and_plain_images_get_the_same_noise() -> None:
    """But for the rounding to grey levels."""
    stored = splits(stored=True)
    plain = replace(stored, train=ImageSet(stored.train.images[:], stored.train.labels))
    both = [pixels_of(corrupt(data, Corruption(share=1.0))) for data in (stored, plain)]
    torch.testing.assert_close(*both, atol=0.5 / 255 + 1e-5, rtol=0)


def test_noise_is_clipped_to_what_pixels_can_be() -> None:
    found = pixels_of(corrupt(splits(), Corruption(share=1.0, noise=10.0)))
    assert found.min() >= 0 and found.max() <= 1


def test_a_share_of_the_labels_becomes_another_one() -> None:
    clean = splits(count=300)
    settings = Corruption(labels=0.4)
    wrong = corrupt(clean, settings)
    changed = wrong.train.labels != clean.train.labels
    assert torch.equal(changed, corrupted(settings, len(clean.train)).relabelled)
    assert changed.sum() == round(0.4 * len(clean.train))
    assert set(wrong.train.labels.tolist()) == {0, 1, 2}
    shifts = (wrong.train.labels - clean.train.labels)[changed] % 3
    assert set(shifts.tolist()) == {1, 2}
    assert wrong.train.images is clean.train.images


def test_the_seed_of_the_corruption_decides_which_and_a_default_spoils_nothing() -> None:
    data = splits()
    first, again = (corrupt(data, Corruption(share=0.5, labels=0.5)).fingerprint() for _ in range(2))
    assert first == again
    assert corrupt(data, Corruption(share=0.5, labels=0.5, seed=1)).fingerprint() != first
    assert corrupt(data, Corruption()).fingerprint() == data.fingerprint()
    many = corrupted(Corruption(share=0.5, labels=0.5), 1000)
    assert 150 < (many.noisy & many.relabelled).sum() < 350  # drawn without regard to each other


def test_a_run_trains_on_spoilt_data_and_says_so_when_asked_again(tmp_path: Path) -> None:
    run = ddm_framework.run(tiny(tmp_path, corruption="{share: 0.5, labels: 0.25}"), out=tmp_path / "run")
    clean = ddm_framework.run(tiny(tmp_path), out=tmp_path / "clean")
    spoilt, was = run.workspace.data.train, clean.workspace.data.train
    found = corrupted(run.workspace.recipe.corruption, len(spoilt))
    assert torch.equal(spoilt.labels != was.labels, found.relabelled)
    opened = ddm_framework.open_run(run.path)
    assert torch.equal(opened.workspace.data.train.images[:], spoilt.images[:])
    with pytest.raises(ddm_framework.DDMError, match=r"corruption\.share"):
        ddm_framework.run(tiny(tmp_path, corruption="{share: 0.25, labels: 0.25}"), out=tmp_path / "run")


def test_a_share_above_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"share: input should be less than or equal to 1, found 2\.0"):
        ddm_framework.run(tiny(tmp_path, corruption="{share: 2.0}"), out=tmp_path / "run")


def test_data_of_a_network_trained_elsewhere_are_not_spoilt(tmp_path: Path) -> None:
    run = ddm_framework.run(tiny(tmp_path), out=tmp_path / "run")
    last = run.path / "offline" / "trajectory" / "epoch_004.safetensors"
    with pytest.raises(RecipeError, match="a network trained elsewhere never saw data that are corrupted here"):
        ddm_framework.run(
            tiny(tmp_path, target=f"{{checkpoint: {last}}}", corruption="{share: 0.5}"), out=tmp_path / "other"
        )
