"""Reverse gradient matching: distil each cluster into images whose gradient undoes the cluster's (Eq. 6, Alg. 1).

Why that works, in the paper's steps. Training on all data ends at θ_τ = θ_0 - η Σ_t ∇L(θ_t, D); without cluster κ it
would end at θ_τ^κ, the same sum less the terms ∇L(θ_t^κ, D_κ); and fine-tuning on the synset ends at
θ_τ - η Σ_t ∇L(θ_t, S_κ) (Eq. 3). The last two are equal if the synthetic gradients sum to the reverse of the real
ones (Eq. 4). It is enough that they agree in pairs: the synthetic gradient at θ_{τ-t} is the reverse of the real one at
θ_t, and both are taken along the target's own trajectory (Eq. 5). Eq. 6 minimises their distance over the images. Which
checkpoints are paired is an option (`pairing`), as are the distance and the labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.func import grad, vmap

from ddm_framework.errors import DDMError, DivergenceError
from ddm_framework.network.constants import Constants
from ddm_framework.network.layer_gradients import LEAST_IMAGES, NO_CONSTANTS, LayerGradients
from ddm_framework.network.memory import SECOND_ORDER, Budget, chunks
from ddm_framework.network.networks import Network
from ddm_framework.network.stacks import Gradient, Parameters, flat, negative, norms, take
from ddm_framework.network.target import Target
from ddm_framework.offline.directions import Distance, distance_gradients
from ddm_framework.offline.optimizer import Optimizer
from ddm_framework.offline.pairing import Pair, possible_pairs
from ddm_framework.offline.partition import Divided, Partition
from ddm_framework.offline.real_gradients import trajectory_gradients
from ddm_framework.offline.synset import Synset, synset_gradients, synthetic_loss
from ddm_framework.randomness import generator
from ddm_framework.recipe.settings import Matching

LOOKED = 25
"""Steps after which it is checked that nothing is NaN or infinite."""


def cluster_chunks(
    network: Network, pairs: Sequence[Pair], settings: Matching, total: int, budget: Budget
) -> list[slice]:
    """Chunks of clusters that are matched together; their real gradients and second-order graph must fit the memory."""
    return list(chunks(total, _at_a_time(network, pairs, settings, budget)))


def _at_a_time(network: Network, pairs: Sequence[Pair], settings: Matching, budget: Budget) -> int:
    real = len({real for real, _ in pairs})
    return budget.fitting(network, SECOND_ORDER, settings.images_per_cluster, kept=real)


def match(
    target: Target,
    divided: Divided,
    clusters: slice,
    distance: Distance,
    settings: Matching,
    seed: int,
    *,
    budget: Budget,
    advance: Callable[[], None] = lambda: None,
    real: Mapping[int, Gradient] | None = None,
) -> Synset:
    """Match one chunk of clusters in one stack.

    Args:
        target: the network and its trajectory, θ_0 to θ_τ.
        divided: the training data and their clusters.
        clusters: which of the clusters.
        distance: of two gradients; the target gradient is already reversed.
        settings: of the matching.
        seed: of the pairs and the initial images, which do not depend on how clusters are divided into chunks.
        budget: bounds the memory for computing real gradients.
        advance: called after each step.
        real: the real gradients of the clusters, if they are known already.
    Returns:
        The synset of these clusters.
    Raises:
        DivergenceError: naming the cluster and the setting to lower.
    Source: Eq. 6, Alg. 1 l.3-11.
    """
    trajectory, partition = target.trajectory, divided.partition
    pairs = possible_pairs(sorted(trajectory), settings)
    if real is None:
        real = trajectory_gradients(target, divided, clusters, pairs, budget)
    targets = {epoch: negative(each) if settings.direction == "reverse" else each for epoch, each in real.items()}
    real_norm = _summed_norm(real) * partition.sizes[clusters]
    images, logits = start_images(divided, clusters, target.network.info.num_classes, settings, seed)
    count = len(images)
    wanted = max(target.network.padded_size(count, shared=False), -(-LEAST_IMAGES // settings.images_per_cluster))
    # Where the memory does not hold so many, chunks round by their size, which follows from the memory alone.
    size = max(count, min(wanted, _at_a_time(target.network, pairs, settings, budget)))
    if size > count:
        rows = torch.arange(size, device=images.device).clamp_max(count - 1)
        images, logits = images[rows], logits[rows]
        targets = {epoch: take(each, rows) for epoch, each in targets.items()}
    gradients = image_gradients(target, distance)
    by_image, by_label = Optimizer(images, settings.lr, settings), Optimizer(logits, settings.label_lr, settings)
    broken_at = torch.full((len(images),), settings.steps, device=images.device)
    for step, (at, synthetic) in enumerate(_draw(pairs, settings.steps, seed)):
        image_gradient, label_gradient = gradients(
            images, logits, targets[at], trajectory[synthetic], target.constants.get(synthetic, {})
        )
        by_image.step(image_gradient)
        if settings.labels == "learned":
            by_label.step(label_gradient)
        finite = torch.isfinite(images).flatten(1).all(1) & ~torch.isnan(logits).flatten(1).any(1)
        broken_at = torch.where(finite, broken_at, broken_at.clamp_max(step))
        # To look is to wait for the device, and what is NaN once stays so.
        if (step + 1) % LOOKED == 0 or step + 1 == settings.steps:
            first = int(broken_at.min())
            _check_finite(broken_at > first if first < settings.steps else finite, clusters, partition, first, settings)
        advance()
    labels = logits.softmax(-1)
    cosine = _mean_cosine(target, images, labels, targets, pairs)
    _check_finite(torch.isfinite(cosine), clusters, partition, settings.steps - 1, settings)
    return Synset(images[:count], labels[:count], cosine[:count], real_norm)


def image_gradients(target: Target, distance: Distance) -> Callable[..., tuple[Tensor, Tensor]]:
    """Derivatives of Eq. 6 of each cluster, as a function of (images, label logits, targets, θ, constants).

    Images are (K, M, C, H, W), logits (K, M, classes), targets stacked (K, ...); θ is common to all, as are the
    constants of its checkpoint, where they differ from those of θ_τ. With g_k the synthetic gradient,
    ∂Dist = ∂⟨g_k, v_k⟩ where v_k = ∂Dist/∂g_k is held constant, which `LayerGradients` knows without a graph of the
    weights' gradients. Networks that it does not know are differentiated twice under a vmap, and those that no vmap
    takes one at a time.

    Raises:
        DDMError: from the function, if the network has no second derivative.
    """
    network = target.network
    layers = None if network.alone else LayerGradients.of(network, target.final)
    if layers is None:
        return _differentiated_twice(network, distance)

    def gradients(
        images: Tensor, logits: Tensor, targets: Gradient, theta: Parameters, constants: Constants = NO_CONSTANTS
    ) -> tuple[Tensor, Tensor]:
        images, logits = images.detach().requires_grad_(), logits.detach().requires_grad_()
        found = layers(theta, images, logits.softmax(-1), constants)
        by_images, by_logits = found.of_products(
            distance_gradients(distance, found.gradients, targets), (images, logits)
        )
        return by_images, by_logits

    return gradients


def _differentiated_twice(network: Network, distance: Distance) -> Callable[..., tuple[Tensor, Tensor]]:
    """The same without knowledge of the layers: all clusters under a vmap, or one after the other where it refuses."""
    one_by_one = bool(network.alone)

    def gradients(
        images: Tensor, logits: Tensor, targets: Gradient, theta: Parameters, constants: Constants = NO_CONSTANTS
    ) -> tuple[Tensor, Tensor]:
        nonlocal one_by_one
        own = network.with_constants(constants)
        if not one_by_one:
            try:
                together = vmap(grad(matching_loss(own, distance), argnums=(0, 1)), in_dims=(0, 0, 0, None))
                by_images, by_logits = together(images, logits, targets, theta)
                return by_images, by_logits
            except RuntimeError:  # an operation without a rule for vmap; whether it has derivatives shows alone
                one_by_one = True
        each = [
            _alone(own, distance, images[row], logits[row], take(targets, row), theta) for row in range(len(images))
        ]
        return torch.stack([found[0] for found in each]), torch.stack([found[1] for found in each])

    return gradients


def _alone(
    network: Network, distance: Distance, images: Tensor, logits: Tensor, target: Gradient, theta: Parameters
) -> tuple[Tensor, Tensor]:
    """Derivatives of Eq. 6 of one cluster, by ordinary autograd."""
    images, logits = images.detach().requires_grad_(), logits.detach().requires_grad_()
    leaves = {name: each.detach().requires_grad_() for name, each in theta.items()}
    try:
        loss = synthetic_loss(network, leaves, images, logits.softmax(-1))
        slopes = torch.autograd.grad(loss, list(leaves.values()), create_graph=True, materialize_grads=True)
        apart = distance(dict(zip(leaves, slopes, strict=True)), target)
        by_images, by_logits = torch.autograd.grad(apart, (images, logits), materialize_grads=True)
    except RuntimeError as error:
        raise DDMError(
            "the backbone is not twice differentiable, as matching gradients needs:"
            f" {' '.join(str(error).split())[:300]}; replace that operation, or detach nothing on the way to the logits"
        ) from error
    return by_images, by_logits


def matching_loss(network: Network, distance: Distance) -> Callable[..., Tensor]:
    """Eq. 6 of one cluster: Dist(∇L(θ, S_κ), target), as a function of (images, label logits, target, θ).

    The target is already reversed (see `match`), so a distance need not know the direction of matching.
    """

    def objective(images: Tensor, logits: Tensor, target: Gradient, parameters: Parameters) -> Tensor:
        def loss(theta: Parameters) -> Tensor:
            return synthetic_loss(network, theta, images, logits.softmax(-1))

        return distance(grad(loss)(parameters), target)

    return objective


def _summed_norm(real: Mapping[int, Gradient]) -> Tensor:
    """Length (K,) of each cluster's gradient, summed over the epochs."""
    names = next(iter(real.values()))
    return norms({name: torch.stack([gradient[name] for gradient in real.values()]).sum(0) for name in names})


def start_images(
    divided: Divided, clusters: slice, num_classes: int, settings: Matching, seed: int
) -> tuple[Tensor, Tensor]:
    """Initial images (K, M, C, H, W), from real members or noise, and label logits (K, M, classes)."""
    data, partition = divided.data, divided.partition
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


def _draw(pairs: Sequence[Pair], steps: int, seed: int) -> Iterator[Pair]:
    """One random pair per step, the same for every chunk of clusters (Alg. 1 l.4)."""
    for index in torch.randint(len(pairs), (steps,), generator=generator(seed, "pairs")).tolist():
        yield pairs[index]


def _check_finite(finite: Tensor, clusters: slice, partition: Partition, step: int, settings: Matching) -> None:
    """Raise an error that names the first cluster for which `finite`, bool (K,), is false."""
    if not finite.all():
        cluster = clusters.start + int((~finite).nonzero()[0, 0])
        raise DivergenceError(
            f"matching diverged at step {step + 1}: the synthetic images of cluster {cluster} "
            f"(class {int(partition.classes[cluster])}) or their gradients are NaN or infinite; lower matching.lr "
            f"({settings.lr}) or matching.label_lr ({settings.label_lr})"
        )


def _mean_cosine(
    target: Target, images: Tensor, labels: Tensor, targets: Mapping[int, Gradient], pairs: Sequence[Pair]
) -> Tensor:
    """Cosine (K,) of the whole gradient with its target, mean over all pairs; 0 where a gradient is zero."""
    total = images.new_zeros(len(images))
    tiny = torch.finfo(images.dtype).tiny
    for real, synthetic in pairs:
        gradient = synset_gradients(target.at(synthetic), target.trajectory[synthetic], images, labels)
        total += torch.cosine_similarity(flat(gradient), flat(targets[real]), dim=1, eps=tiny)
    return total / len(pairs)
