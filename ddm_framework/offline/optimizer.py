"""Adam and gradient descent of synthetic images and their labels.

Both are elementwise, so a stack of clusters is optimised exactly as each cluster would be alone. They are those of
`torch.optim`, whose first use imports PyTorch's compiler and takes a second of every process.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ddm_framework.recipe.settings import Matching

EPS = 1e-8


@dataclass(slots=True)
class Optimizer:
    """Changes one tensor in place, step by step.

    Attributes:
        values: what is optimised.
        lr: before the schedule.
        settings: the optimiser, Adam's betas, the schedule and the number of steps.
    """

    values: Tensor
    lr: float
    settings: Matching
    _steps: int = 0
    _moments: tuple[Tensor, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self._moments = (torch.zeros_like(self.values), torch.zeros_like(self.values))

    def step(self, gradient: Tensor) -> None:
        """One step down the gradient.

        Source: Kingma and Ba, Adam, 2015, Alg. 1; the cosine schedule without restarts.
        """
        lr = self.lr
        if self.settings.schedule == "cosine":
            lr *= (1 + math.cos(math.pi * self._steps / self.settings.steps)) / 2
        self._steps += 1
        if self.settings.optimizer == "sgd":
            self.values.sub_(gradient, alpha=lr)
            return
        (beta, square_beta), (mean, square) = self.settings.betas, self._moments
        mean.lerp_(gradient, 1 - beta)
        square.mul_(square_beta).addcmul_(gradient, gradient, value=1 - square_beta)
        root = square.sqrt().div_(math.sqrt(1 - square_beta**self._steps)).add_(EPS)
        self.values.addcdiv_(mean, root, value=-lr / (1 - beta**self._steps))
