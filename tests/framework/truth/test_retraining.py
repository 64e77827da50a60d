"""Exact unlearning has the closed form's answer where there is one, and the target's own where nothing is deleted."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ddm_framework.data.splits import DataInfo, ImageSet
from ddm_framework.network.networks import Network
from ddm_framework.network.training import start, train
from ddm_framework.recipe.settings import Training

NUM_SAMPLES, NUM_FEATURES, PENALTY = 24, 3, 0.1


class Ridge(nn.Module):
    """A linear regression whose cross entropy for class 0 is half the squared residual.

    An image holds the features and the observed value. The logits are -r²/2 and log(1 - exp(-r²/2)), which sum to one
    as probabilities, so minus the log of the first is r²/2.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(NUM_FEATURES, dtype=torch.float64))

    def forward(self, images: Tensor) -> Tensor:
        values = images.flatten(1)
        half = (values[:, :-1] @ self.weight - values[:, -1]).square() / 2
        return torch.stack([-half, torch.log(-torch.expm1(-half))], 1)


def problem() -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    features = torch.randn(NUM_SAMPLES, NUM_FEATURES, dtype=torch.float64, generator=random)
    noise = torch.randn(NUM_SAMPLES, dtype=torch.float64, generator=random)
    return features, features @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) + noise


def closed_form(features: Tensor, observed: Tensor, kept: Tensor) -> Tensor:
    """Minimum of Σ_kept r²/2 / N + λ|w|²/2: deleted terms are left out, and N stays."""
    gram = (features * kept[:, None]).T @ features / NUM_SAMPLES + PENALTY * torch.eye(
        NUM_FEATURES, dtype=torch.float64
    )
    return torch.linalg.solve(gram, features.T @ (kept * observed) / NUM_SAMPLES)


def test_ridge_regression_without_some_samples_is_the_closed_form() -> None:
    features, observed = problem()
    masks = torch.ones(5, NUM_SAMPLES, dtype=torch.float64)
    masks[1, :6] = masks[2, 6:9] = masks[3, 20:] = masks[4, ::2] = 0
    info = DataInfo((1, 1, NUM_FEATURES + 1), 2, (0.0,), (1.0,), ("half", "rest"))
    network = Network(Ridge(), info, NUM_FEATURES)
    settings = Training(epochs=2000, lr=0.3, batch_size=NUM_SAMPLES, weight_decay=PENALTY)
    images = torch.cat([features, observed[:, None]], 1)[:, None, None]
    state = start({"weight": torch.zeros(NUM_FEATURES, dtype=torch.float64)}, len(masks))
    *_, last = train(network, state, ImageSet(images, torch.zeros(NUM_SAMPLES, dtype=torch.int64)), masks, settings, 0)
    expected = torch.stack([closed_form(features, observed, mask) for mask in masks])
    torch.testing.assert_close(last.parameters["weight"], expected, rtol=1e-9, atol=1e-9)
