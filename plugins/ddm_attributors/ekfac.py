"""Influence functions with eigenvalue-corrected Kronecker-factored curvature (EK-FAC), by kronfluence."""

from __future__ import annotations

import gc
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from itertools import product
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from ddm_attributors.isolation import undisturbed
from ddm_attributors.libraries import needed
from ddm_attributors.slopes import gathered, slopes
from ddm_framework import attributor
from ddm_framework.network import LogitsModule, num_weights
from ddm_framework.online import Objective, Queries
from ddm_framework.runs import Workspace

Batch = tuple[Tensor, Tensor]


@attributor(linear=True)
def attribute(
    workspace: Workspace,
    queries: Queries,
    objective: Objective,
    /,
    *,
    strategy: Literal["ekfac", "kfac", "diagonal"] = "ekfac",
    damping: Annotated[float, Field(gt=0)] | None = 1e-5,
    fisher: Literal["exact", "sampled"] = "exact",
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)] = 128,
) -> Tensor:
    """Effect of deleting each cluster: ∇f·(G + λ)⁻¹Σ∇L / n at the target, by kronfluence's Analyzer.

    G is the Fisher information of the mean training loss. Only the weights and biases of convolutions and linear layers
    are tracked; those of normalisation layers are held fixed.

    Args:
        queries: N of them.
        objective: with m behaviours and a gradient.
        strategy: how G is approximated: Kronecker factors with corrected eigenvalues, without them, or a diagonal.
        damping: λ, to which weight decay is added; if null, a tenth of each layer's mean eigenvalue.
        fisher: `exact` weights every label by its predicted probability, in as many passes as there are classes;
            `sampled` draws one label per image, a noisy estimate for a confident network.
        batch_size: images in one pass.
    Returns:
        Behaviour without the cluster minus behaviour of the target, float64 (N, K, m); N = 1 for a set-level objective.
        They rank clusters well, but with little damping they are many times too large to be amounts.
    Raises:
        DDMError: if kronfluence is not installed or the objective has no gradient.
    Source: Grosse et al. 2023, Studying Large Language Model Generalization with Influence Functions, Sec. 2.3, 3.1.
    """
    library, arguments = needed("kronfluence.analyzer", "ekfac"), needed("kronfluence.arguments", "ekfac")
    train, reference, partition = workspace.data.train, workspace.reference(queries), workspace.partition
    directions = slopes(objective, reference.target_logits, reference)
    curvature = arguments.FactorArguments(strategy, covariance_max_examples=None, lambda_max_examples=None)
    scoring = arguments.ScoreArguments(None if damping is None else damping + workspace.recipe.training.weight_decay)
    plain = workspace.logits_module(workspace.target)
    task = _task(
        needed("kronfluence.task", "ekfac").Task, fisher, workspace.generator("ekfac"), _tracked(plain, workspace)
    )
    shape = (len(directions), len(queries), partition.num_clusters)
    effect = torch.zeros(shape, dtype=torch.float64, device=workspace.device)
    with undisturbed(workspace.device), _own_state(), _quick_collection(), tempfile.TemporaryDirectory() as folder:
        with workspace.offline_work():
            module = library.prepare_model(plain, task)
            on_cpu = workspace.device.type == "cpu"
            analyzer = library.Analyzer("ekfac", module, task, cpu=on_cpu, disable_tqdm=True, output_dir=folder)
            labelled = TensorDataset(train.images[:], train.labels)
            drawn = labelled if fisher == "sampled" else EveryLabel(train.images[:], directions.shape[2])
            analyzer.fit_all_factors("curvature", drawn, batch_size, factor_args=_in(curvature, directions.dtype))
        size = _queries_at_a_time(workspace, len(queries))
        scoring.query_gradient_accumulation_steps = math.ceil(size / batch_size)
        for behaviour, low in product(range(len(directions)), range(0, len(queries), size)):
            name = f"{behaviour}_from_{low}"
            asked = TensorDataset(queries.images[low : low + size], directions[behaviour, low : low + size])
            analyzer.compute_pairwise_scores(
                name,
                "curvature",
                asked,
                labelled,
                batch_size,
                batch_size,
                score_args=_in(scoring, directions.dtype),
            )
            scores = analyzer.load_pairwise_scores(name)["all_modules"].to(workspace.device)
            effect[behaviour, low : low + size].index_add_(1, partition.clusters, scores.double() / len(train))
    return gathered(objective, effect)


class EveryLabel(Dataset[tuple[Tensor, int]]):
    """Each image with each label in turn."""

    def __init__(self, images: Tensor, num_classes: int) -> None:
        self.images, self.num_classes = images, num_classes

    def __len__(self) -> int:
        return len(self.images) * self.num_classes

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = divmod(index, self.num_classes)
        return self.images[image], label


def _tracked(module: nn.Module, workspace: Workspace) -> list[str] | None:
    """Names of the layers in which weights are trained; None, which is all, where there are no others."""
    inner = module.network if isinstance(module, LogitsModule) else module
    if all(name in workspace.target for name, _ in inner.named_parameters()):
        return None
    trained = {id(each) for name, each in inner.named_parameters() if name in workspace.target}
    return [
        name
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d) and id(layer.weight) in trained
    ]


def _task(base: Any, fisher: str, generator: torch.Generator, tracked: list[str] | None) -> Any:
    """A kronfluence task: the training loss, the labels of the Fisher information, the objective and the layers."""

    class Classification(base):  # type: ignore[misc]
        def compute_train_loss(self, batch: Batch, model: nn.Module, sample: bool = False) -> Tensor:
            images, labels = batch
            logits = model(images)
            if not sample:
                return F.cross_entropy(logits, labels, reduction="sum")
            probabilities = logits.detach().softmax(1)
            if fisher == "sampled":
                labels = torch.multinomial(probabilities.cpu(), 1, generator=generator)[:, 0].to(labels.device)
                return F.cross_entropy(logits, labels, reduction="sum")
            # Every label occurs equally often: with these weights, the mean of squared gradients is their expectation.
            weights = (probabilities.shape[1] * probabilities.gather(1, labels[:, None])[:, 0]).sqrt()
            return (weights * F.cross_entropy(logits, labels, reduction="none")).sum()

        def get_influence_tracked_modules(self) -> list[str] | None:
            return tracked

        def compute_measurement(self, batch: Batch, model: nn.Module) -> Tensor:
            images, directions = batch
            return (model(images) * directions).sum()

    return Classification()


def _in(arguments: Any, dtype: torch.dtype) -> Any:
    """Arguments of kronfluence with every precision set to that of the network."""
    for each in fields(arguments):
        if each.name.endswith("_dtype") and each.name not in ("amp_dtype", "eigendecomposition_dtype"):
            setattr(arguments, each.name, dtype)
    return arguments


def _queries_at_a_time(workspace: Workspace, most: int) -> int:
    """Queries whose gradients and scores fit into memory; each batch takes one pass over the training set."""
    values = 2 * num_weights(workspace.target) + len(workspace.data.train)
    return workspace.budget.items(values, most)


@contextmanager
def _own_state() -> Iterator[None]:
    """Kronfluence keeps the first device for the whole process: reset that, and restore it afterwards."""
    shared = needed("kronfluence.utils.state", "ekfac").State._shared_state
    before = dict(shared)
    shared.clear()
    try:
        yield
    finally:
        shared.clear()
        shared.update(before)


@contextmanager
def _quick_collection() -> Iterator[None]:
    """Kronfluence collects garbage ten times an answer, and each time Python would look at every object of PyTorch.

    That took half a second, and nearly all of the time of a small network. What was there before is put aside.
    """
    if gc.get_freeze_count():  # put aside by somebody else, who may count on it
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
