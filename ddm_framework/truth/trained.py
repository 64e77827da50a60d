"""Train the networks that a bank lacks, in chunks of stacked networks that the run's engine shares among its workers.

Small networks gain nothing from a second thread, so a run with `threads: 1` trains one chunk on every core. A chunk is
values and comes back as values; only this process writes to the bank.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ddm_framework.data import ImageSet
from ddm_framework.network import TRAINING, Network, Parameters, chunks, concatenate, start_each, take, train
from ddm_framework.network.memory import halved
from ddm_framework.network.networks import initial_weights
from ddm_framework.recipe import Training
from ddm_framework.runs import Workspace
from ddm_framework.truth.bank import Retraining, save_network


@dataclass(frozen=True, slots=True)
class Together:
    """What all chunks have in common.

    Attributes:
        network: the architecture.
        data: N images.
        settings: of the training.
        workers: that share the cores, so that each network's share of the time is known.
        control: θ_τ where stacks round by their size: the target, trained again in each, shows by how much, and
            differences from it count.
    """

    network: Network
    data: ImageSet
    settings: Training
    workers: int
    control: Parameters | None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Networks that are trained side by side.

    Attributes:
        initial: θ_0 of each.
        kept: (R, N); 0 = the sample is left out.
        seeds: of each batch order; one for all networks that have it in common.
    """

    initial: Sequence[Parameters]
    kept: Tensor
    seeds: int | Sequence[int]


def train_missing(workspace: Workspace, missing: Mapping[Path, Retraining]) -> None:
    """Train networks and save each to its file.

    Raises:
        DDMError: if a training diverges or a file cannot be written.
    """
    listed = list(missing.items())
    parts = _parts(workspace, len(listed))
    epochs, engine = workspace.recipe.training.epochs, workspace.engine
    control = None if workspace.same_rounding else workspace.target
    workers = min(engine.workers, len(parts))
    common = Together(workspace.network, workspace.data.train, workspace.recipe.training, workers, control)
    tasks = (_chunk(workspace, [wanted for _, wanted in listed[part]]) for part in parts)
    with workspace.display.bar("retraining exactly (epochs)", len(parts) * epochs) as advance:
        results = engine.results(train_chunk, common, tasks, len(parts), units=epochs, advance=advance)
        with closing(results):
            for number, (networks, seconds) in results:
                for row, (file, _) in enumerate(listed[parts[number]]):
                    save_network(file, take(networks, row), seconds)


def _parts(workspace: Workspace, count: int) -> list[slice]:
    """Chunks of networks that are trained side by side; the same, however many processes share them.

    Their number is even, so that two processes have the same work.
    """
    fitting = workspace.budget.fitting(workspace.network, TRAINING, workspace.recipe.training.batch_size)
    pairs = -(-count // (2 * fitting))
    return list(chunks(count, max(2, -(-count // (2 * pairs)))))


def _chunk(workspace: Workspace, wanted: Sequence[Retraining]) -> Chunk:
    """A chunk as values."""
    seeds, common = [each.seed for each in wanted], workspace.recipe.general.seed
    kept = torch.stack([each.kept for each in wanted]).float().to(workspace.device)
    return Chunk([_initial(workspace, seed) for seed in seeds], kept, common if set(seeds) == {common} else seeds)


def _initial(workspace: Workspace, seed: int) -> Parameters:
    """θ_0 of a seed."""
    if seed == workspace.recipe.general.seed:
        return workspace.initial
    return initial_weights(workspace.network, workspace.recipe.backbone, seed, workspace.device)


def train_chunk(common: Together, chunk: Chunk, advance: Callable[[], None]) -> tuple[Parameters, float]:
    """Train one chunk of networks side by side.

    Returns:
        The networks, stacked, and the seconds that each took.
    """
    begun = time.monotonic()

    def some(part: slice) -> Parameters:
        seeds = chunk.seeds if isinstance(chunk.seeds, int) else chunk.seeds[part]
        return _trained(common, Chunk(chunk.initial[part], chunk.kept[part], seeds), advance)

    networks = concatenate(each for _, each in halved(len(chunk.kept), some, "networks in training"))
    return networks, (time.monotonic() - begun) / len(chunk.kept) / common.workers


def _trained(common: Together, chunk: Chunk, advance: Callable[[], None]) -> Parameters:
    initial, kept = list(chunk.initial), chunk.kept
    control = common.control if isinstance(chunk.seeds, int) else None  # the target has the order of one seed
    if control is not None:
        initial, kept = [*initial, initial[0]], torch.cat([kept, torch.ones_like(kept[:1])])
    state = start_each(initial)
    for reached in train(common.network, state, common.data, kept, common.settings, chunk.seeds):
        state = reached
        advance()
    if control is None:
        return state.parameters
    return {name: each[:-1] - each[-1:] + control[name] for name, each in state.parameters.items()}
