"""The synset: synthetic images of each cluster, and the gradients that they give (Eq. 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ddm_framework.network.networks import Network
from ddm_framework.network.stacks import Gradient, Parameters, broadcast


@dataclass(frozen=True, slots=True)
class Synset:
    """Synthetic images of K clusters.

    Attributes:
        images: network inputs, float32 (K, images_per_cluster, C, H, W).
        labels: probabilities, float32 (K, images_per_cluster, classes).
        cosine: float32 (K,), of the synthetic gradient with its target, mean over all pairs.
        real_norm: float32 (K,), norm of the cluster's gradient, summed over its samples and the pairs' real epochs.
    """

    images: Tensor
    labels: Tensor
    cosine: Tensor
    real_norm: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def tensors(self, prefix: str = "") -> dict[str, Tensor]:
        """The fields as tensors for a safetensors file."""
        return {prefix + each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], prefix: str = "") -> Synset:
        """A synset from the tensors of a safetensors file."""
        return cls(**{each.name: tensors[prefix + each.name] for each in fields(cls)})

    @classmethod
    def joined(cls, parts: Sequence[Synset]) -> Synset:
        """The clusters of several synsets in one."""
        return cls(*(torch.cat([getattr(part, each.name) for part in parts]) for each in fields(cls)))


def synthetic_loss(network: Network, parameters: Parameters, images: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy of one cluster's images (M, C, H, W) under their own probabilities (M, classes)."""
    return network.loss(parameters, images, labels).mean()


def synset_gradients(network: Network, parameters: Parameters, images: Tensor, labels: Tensor) -> Gradient:
    """∇L(θ, S_κ) of each of K clusters at one θ, stacked.

    Args:
        parameters: of one network.
        images: (K, M, C, H, W).
        labels: (K, M, classes).
    """
    if network.is_large:
        weights = images.new_full(images.shape[1:2], 1 / images.shape[1])
        each = [
            network.gradient(parameters, own, own_labels, weights)
            for own, own_labels in zip(images, labels, strict=True)
        ]
        return {name: torch.stack([found[name] for found in each]) for name in parameters}
    return paired_gradients(network, broadcast(parameters, len(images)), images, labels)


def paired_gradients(network: Network, stack: Parameters, images: Tensor, labels: Tensor) -> Gradient:
    """∇L(θ_i, S_i) of each of M networks on its own synthetic images, stacked; shapes as `synset_gradients`."""
    return network.gradients(stack, images, labels, images.new_full(images.shape[:2], 1 / images.shape[1]))
