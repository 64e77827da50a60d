"""Reverse gradient matching: distil each cluster into images whose gradient undoes the cluster's (Eq. 6, Alg. 1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.func import grad, vmap

from ddm_framework.cluster_gradients import cluster_gradients
from ddm_framework.data import ImageSet
from ddm_framework.errors import DivergenceError
from ddm_framework.networks import (
    Gradient,
    Network,
    Parameters,
    broadcast,
    chunk_size,
    chunks,
    flat,
    negative,
    norms,
    num_weights,
)
from ddm_framework.pairing import Pair, draw_pairs
from ddm_framework.partition import Partition
from ddm_framework.randomness import generator
from ddm_framework.settings import Matching

Distance = Callable[[Gradient, Gradient], Tensor]
SECOND_ORDER_COPIES = 16
"""Activations that second-order differentiation keeps at a time, in forward passes; for sizing chunks."""


@dataclass(frozen=True, slots=True)
class Synset:
    """Synthetic images of K clusters.

    Attributes:
        images: network inputs, float32 (K, images_per_cluster, C, H, W).
        labels: probabilities, float32 (K, images_per_cluster, classes).
        cosine: float32 (K,), of the synthetic gradient with what it was to match, over all pairs.
        real_norm: float32 (K,), length of the cluster's summed gradient over the real ends of the pairs.
    """

    images: Tensor
    labels: Tensor
    cosine: Tensor
    real_norm: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def tensors(self, prefix: str = "") -> dict[str, Tensor]:
        """For a safetensors file."""
        return {prefix + each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], prefix: str = "") -> Synset:
        """Back from a safetensors file."""
        return cls(**{each.name: tensors[prefix + each.name] for each in fields(cls)})

    @classmethod
    def joined(cls, parts: Sequence[Synset]) -> Synset:
        """The clusters of several synsets in one."""
        return cls(*(torch.cat([getattr(part, each.name) for part in parts]) for each in fields(cls)))


def synthetic_loss(network: Network, parameters: Parameters, images: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy of one cluster's images (M, C, H, W) under their own probabilities (M, classes)."""
    return network.loss(parameters, images, labels).mean()


def cluster_chunks(
    network: Network, pairs: Sequence[Pair], settings: Matching, total: int, memory_mb: int
) -> list[slice]:
    """Clusters that are matched at a time: their real gradients and their second-order graph must fit the memory."""
    weights = num_weights(dict(network.module.named_parameters()))
    real = len({real for real, _ in pairs}) * weights
    graph = SECOND_ORDER_COPIES * settings.images_per_cluster * network.activation_values + 6 * weights
    return list(chunks(total, chunk_size(memory_mb, real + graph, most=1024)))


def match(
    network: Network,
    trajectory: Mapping[int, Parameters],
    data: ImageSet,
    partition: Partition,
    clusters: slice,
    distance: Distance,
    settings: Matching,
    seed: int,
    memory_mb: int,
    advance: Callable[[], None] = lambda: None,
    real: Mapping[int, Gradient] | None = None,
) -> Synset:
    """Match one chunk of clusters, all at once.

    Args:
        network: the architecture.
        trajectory: parameters by epoch, from θ_0 to θ_τ.
        data: the training split.
        partition: of the training split.
        clusters: which of its clusters.
        distance: of two gradients; the target is already reversed.
        settings: of the matching.
        seed: of pairs and starts; a cluster's start depends on the seed and its id alone, not on the chunk.
        memory_mb: bounds the work on real gradients.
        advance: called after each step.
        real: the clusters' real gradients, where they are known already.
    Returns:
        The synset of these clusters.
    Raises:
        DivergenceError: naming the cluster and the setting to lower.
    Source: Eq. 6, Alg. 1 l.3-11.
    """
    pairs = draw_pairs(sorted(trajectory), settings)
    if real is None:
        real = real_gradients(network, trajectory, data, partition, clusters, pairs, memory_mb)
    targets = {epoch: negative(each) if settings.direction == "reverse" else each for epoch, each in real.items()}
    real_norm = _summed_norm(real) * partition.sizes[clusters]
    images, logits = start_images(data, partition, clusters, network.info.num_classes, settings, seed)
    objective = _objective(network, distance)
    gradients = vmap(grad(objective, argnums=(0, 1)), in_dims=(0, 0, 0, None))
    optimizer, scheduler = _optimizer(images, logits, settings)
    for step, (at, synthetic) in enumerate(_draw(pairs, settings.steps, seed)):
        images.grad, label_gradient = gradients(images, logits, targets[at], trajectory[synthetic])
        logits.grad = label_gradient if settings.labels == "learned" else torch.zeros_like(logits)
        optimizer.step()
        scheduler.step()
        finite = torch.isfinite(images).flatten(1).all(1) & ~torch.isnan(logits).flatten(1).any(1)
        _check_finite(finite, clusters, partition, step, settings)
        advance()
    labels = logits.softmax(-1)
    cosine = _mean_cosine(network, trajectory, images, labels, targets, pairs)
    _check_finite(torch.isfinite(cosine), clusters, partition, settings.steps - 1, settings)
    return Synset(images, labels, cosine, real_norm)


def _objective(network: Network, distance: Distance) -> Callable[..., Tensor]:
    """The distance that one cluster's images and label logits are to make small."""

    def objective(images: Tensor, logits: Tensor, target: Gradient, parameters: Parameters) -> Tensor:
        def loss(theta: Parameters) -> Tensor:
            return synthetic_loss(network, theta, images, logits.softmax(-1))

        return distance(grad(loss)(parameters), target)

    return objective


def real_gradients(
    network: Network,
    trajectory: Mapping[int, Parameters],
    data: ImageSet,
    partition: Partition,
    clusters: slice,
    pairs: Sequence[Pair],
    memory_mb: int,
) -> dict[int, Gradient]:
    """∇L(θ_t, D_κ) of some clusters, stacked, by the epoch t of each pair's real end (Alg. 1 l.7)."""
    chosen = ((partition.clusters >= clusters.start) & (partition.clusters < clusters.stop)).nonzero()[:, 0]
    part = data.take(chosen)
    ids = partition.clusters[chosen] - clusters.start
    count = clusters.stop - clusters.start
    return {
        epoch: cluster_gradients(network, trajectory[epoch], part.images, part.labels, ids, count, memory_mb)
        for epoch in sorted({real for real, _ in pairs})
    }


def class_gradients(real: Mapping[int, Gradient], partition: Partition, num_classes: int) -> dict[int, Gradient]:
    """Gradients of the mean loss of each class, from those of all its clusters: their mean, weighted by their sizes."""
    clusters = torch.arange(partition.num_clusters, device=partition.classes.device)
    sizes = partition.sizes
    totals = sizes.new_zeros(num_classes).index_add(0, partition.classes, sizes)
    merged = {}
    for epoch, gradient in real.items():
        first = next(iter(gradient.values()))
        share = first.new_zeros(num_classes, partition.num_clusters)
        share[partition.classes, clusters] = sizes.to(first.dtype) / totals[partition.classes]
        merged[epoch] = {name: torch.tensordot(share, each, dims=1) for name, each in gradient.items()}
    return merged


def _summed_norm(real: Mapping[int, Gradient]) -> Tensor:
    """Length (K,) of each cluster's gradient, summed over the epochs."""
    names = next(iter(real.values()))
    return norms({name: torch.stack([gradient[name] for gradient in real.values()]).sum(0) for name in names})


def start_images(
    data: ImageSet, partition: Partition, clusters: slice, num_classes: int, settings: Matching, seed: int
) -> tuple[Tensor, Tensor]:
    """Images (K, M, C, H, W), from real members or noise, and label logits (K, M, classes)."""
    count, starts = settings.images_per_cluster, []
    for cluster in range(clusters.start, clusters.stop):
        random = generator(seed, "synthetic", partition.num_clusters, cluster)
        if settings.init == "noise":
            starts.append(
                torch.randn(count, *data.images.shape[1:], generator=random).to(data.labels.device, data.images.dtype)
            )
        else:
            members = partition.members(cluster)
            rounds = -(-count // len(members))
            order = torch.cat([torch.randperm(len(members), generator=random) for _ in range(rounds)])[:count]
            starts.append(data.images[members[order.to(members.device)]])
    images = torch.stack(starts).clone()
    classes = partition.classes[clusters]
    if settings.labels == "learned":
        logits = images.new_zeros(len(images), count, num_classes)
    else:
        certain = images.new_full((len(images), count, num_classes), float("-inf"))
        logits = certain.scatter(2, classes[:, None, None].expand(-1, count, 1), 0.0)
    return images, logits


def _optimizer(
    images: Tensor, logits: Tensor, settings: Matching
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Both optimisers work value by value, so a stack of clusters is optimised as each would be alone."""
    groups = [{"params": [images], "lr": settings.lr}]
    if settings.labels == "learned":
        groups.append({"params": [logits], "lr": settings.label_lr})
    kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.SGD
    optimizer: torch.optim.Optimizer = kind(groups)
    if settings.schedule == "cosine":
        return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    return optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


def _draw(pairs: Sequence[Pair], steps: int, seed: int) -> Iterator[Pair]:
    """One random pair a step, the same for every chunk of clusters (Alg. 1 l.4)."""
    for index in torch.randint(len(pairs), (steps,), generator=generator(seed, "pairs")).tolist():
        yield pairs[index]


def _check_finite(finite: Tensor, clusters: slice, partition: Partition, step: int, settings: Matching) -> None:
    """Name the first of the clusters whose images or gradients are not finite, bool (K,)."""
    if not finite.all():
        cluster = clusters.start + int((~finite).nonzero()[0, 0])
        raise DivergenceError(
            f"matching diverged at step {step + 1}: the synthetic images of cluster {cluster} "
            f"(class {int(partition.classes[cluster])}) or their gradients are NaN or infinite; lower matching.lr "
            f"({settings.lr}) or matching.label_lr ({settings.label_lr})"
        )


def _mean_cosine(
    network: Network,
    trajectory: Mapping[int, Parameters],
    images: Tensor,
    labels: Tensor,
    targets: Mapping[int, Gradient],
    pairs: Sequence[Pair],
) -> Tensor:
    """Cosine (K,) of the whole gradient with its target, mean over all pairs; 0 where a gradient is zero."""
    total = images.new_zeros(len(images))
    tiny = torch.finfo(images.dtype).tiny
    for real, synthetic in pairs:
        gradient = synset_gradients(network, trajectory[synthetic], images, labels)
        total += torch.cosine_similarity(flat(gradient), flat(targets[real]), dim=1, eps=tiny)
    return total / len(pairs)


def synset_gradients(network: Network, parameters: Parameters, images: Tensor, labels: Tensor) -> Gradient:
    """∇L(θ, S_κ) of each of K clusters at one θ, stacked.

    Args:
        parameters: of one network.
        images: (K, M, C, H, W).
        labels: (K, M, classes).
    """
    return paired_gradients(network, broadcast(parameters, len(images)), images, labels)


def paired_gradients(network: Network, stack: Parameters, images: Tensor, labels: Tensor) -> Gradient:
    """∇L(θ_i, S_i) of each of M networks on its own synthetic images, stacked; shapes as `synset_gradients`."""
    return network.gradients(stack, images, labels, images.new_full(images.shape[:2], 1 / images.shape[1]))
