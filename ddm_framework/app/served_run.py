"""A run that is being served: its questions, and the answers that are kept until the next one."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Generic, TypeVar

import torch
from torch import Tensor

from ddm_framework.answers import Without
from ddm_framework.answers.member_shares import Shares, rough_shares
from ddm_framework.api import Run
from ddm_framework.app.requests import LeftOut
from ddm_framework.errors import DDMError
from ddm_framework.online import Amounts, Attribution, Objective, Queries
from ddm_framework.progress import SILENT
from ddm_framework.runs import replayed_epochs
from ddm_framework.runs.run_folder import NETWORKS

TEST, OWN = "test:", "own:"
"""How the key of a query begins: a test image by its position, an image of one's own by the number it was given."""
_T = TypeVar("_T")


class Kept(Generic[_T]):
    """The last few results of something slow, by what was asked."""

    def __init__(self, most: int) -> None:
        self._most, self._found = most, OrderedDict[Hashable, _T]()

    def get(self, asked: Hashable, work: Callable[[], _T]) -> _T:
        """What is kept, or what the work gives."""
        if asked not in self._found:
            self._found[asked] = work()
            while len(self._found) > self._most:
                self._found.popitem(last=False)
        self._found.move_to_end(asked)
        return self._found[asked]


@dataclass(frozen=True, slots=True)
class Estimated:
    """An estimated network and how long it took the first time."""

    found: Without
    seconds: float


class ServedRun:
    """A run and what is kept between two requests.

    Questions are asked one after the other, by one thread. A page holds its own ticks, so that two of them do not
    disturb each other.
    """

    def __init__(self, run: Run) -> None:
        self.run = replace(run, workspace=run.workspace.with_online())
        self.run.workspace.display = SILENT
        # Loaded before anything is copied, so that runs with another `online` share it.
        for name in ("data", "trained", "partition", "synset"):
            getattr(self.run.workspace, name)
        self.queries = self.run.workspace.queries_of("test")
        self._networks: Kept[Estimated] = Kept(8)
        self._attributions: Kept[tuple[Attribution, Tensor]] = Kept(32)
        self._amounts: Kept[Amounts | None] = Kept(32)
        self._shares: Kept[Shares] = Kept(256)
        self._own: OrderedDict[str, Queries] = OrderedDict()
        self._lock = threading.Lock()
        self._seconds_per_epoch = self._of_the_training()

    @cached_property
    def target(self) -> Without:
        """The network as it is: nothing is left out."""
        workspace = self.run.workspace
        count, samples = workspace.partition.num_clusters, len(workspace.partition.clusters)
        return Without(workspace, torch.ones(count), workspace.target, torch.zeros(samples, dtype=torch.bool))

    @cached_property
    def probabilities(self) -> Tensor:
        """Of the test images by the network as it is, (N, classes), on the processor."""
        return self.target.test_logits.softmax(1).cpu()

    @cached_property
    def own_replay(self) -> int:
        """Epochs that the recipe replays."""
        return replayed_epochs(self.run.workspace)

    @cached_property
    def replays(self) -> list[int]:
        """Numbers of epochs that may be replayed; the recipe's own alone where nothing else is possible."""
        workspace, total = self.run.workspace, self.run.workspace.recipe.training.epochs
        possible = []
        for epochs in sorted({0, *(total - epoch for epoch in workspace.trajectory if epoch < total)}):
            try:
                replayed_epochs(workspace.with_online(replay=epochs))
            except DDMError:
                continue
            possible.append(epochs)
        return sorted({*possible, self.own_replay})

    @property
    def seconds_per_epoch(self) -> float:
        """What an epoch of replay costs here: measured by the last network, before that by the run's own training."""
        return self._seconds_per_epoch

    def without(self, asked: LeftOut) -> Estimated:
        """`run.without` for what is ticked, with as much replay as was asked for.

        Raises:
            DDMError: as `run.without`.
        """
        replay = self.own_replay if asked.replay is None else asked.replay

        def work() -> Estimated:
            begun, kept = time.monotonic(), self._newest_network()
            found = self._with_replay(replay).without(*asked.ids)
            found.test_logits  # noqa: B018 - asked for now, so that the time says what the answer took
            spent = time.monotonic() - begun
            if replay and (kept is None or self._newest_network() != kept):  # not one that an earlier question left
                self._seconds_per_epoch = spent / replay
            return Estimated(found, spent)

        return self._networks.get((asked.ids, replay), work)

    def _with_replay(self, epochs: int) -> Run:
        return self.run if epochs == self.own_replay else self.run.with_online(replay=epochs)

    def attribution(self, key: str) -> tuple[Attribution, Tensor]:
        """`run.ask` for one query, and W of its predicted probabilities (K, classes).

        Raises:
            DDMError: if there is no such query.
        """
        query = self.query(key)

        def work() -> tuple[Attribution, Tensor]:
            found = self.run.ask(query, self.objective(query))
            return found, self.run.workspace.prediction_matrix(query, [0])[0]

        return self._attributions.get(key, work)

    def amounts(self, key: str) -> Amounts | None:
        """`run.amounts` for one query: probabilities without each cluster, where a certificate knows their intervals.

        Raises:
            DDMError: if there is no such query.
        """
        query = self.query(key)
        return self._amounts.get(key, lambda: self.run.amounts(query.images, query.labels))

    def shares(self, cluster: int, key: str | None) -> Shares:
        """Rough shares of a cluster's members, of the effect on one query if one is named.

        Raises:
            DDMError: if there is no such cluster or query.
        """
        query = None if key is None else self.query(key)
        return self._shares.get((cluster, key), lambda: rough_shares(self.run.workspace, cluster, query))

    def objective(self, query: Queries) -> Objective:
        """The recipe's first objective that measures one behaviour of one image, or else `output_shift`."""
        reference = self.run.workspace.reference(query)
        for each in self.run.workspace.objectives:
            if each.declaration.set_level or (each.declaration.needs_labels and query.labels is None):
                continue
            if each.measure(reference.target_logits, reference).shape[1] == 1:
                return each
        return self.run.objective("output_shift")

    def query(self, key: str) -> Queries:
        """One query by its key.

        Raises:
            DDMError: if there is none.
        """
        number = key.removeprefix(TEST)
        if key.startswith(TEST) and number.isascii() and number.isdecimal() and int(number) < len(self.queries):
            return self.queries.take(torch.tensor([int(number)]))
        with self._lock:
            if key in self._own:
                return self._own[key]
        raise DDMError("there is no such image; one of your own is kept until the server stops, or fifty came after it")

    def add(self, query: Queries) -> str:
        """Keep an image of one's own; returns its key."""
        with self._lock:
            number = 1 + max((int(key.removeprefix(OWN)) for key in self._own), default=0)
            key = f"{OWN}{number}"
            self._own[key] = query
            while len(self._own) > 50:
                self._own.popitem(last=False)
        return key

    def _newest_network(self) -> float | None:
        """When the last of the networks that the run folder keeps was written; None if there is none."""
        files = self.run.workspace.folder.file(NETWORKS).glob("*.safetensors")
        return max((each.stat().st_mtime for each in files), default=None)

    def _of_the_training(self) -> float:
        workspace = self.run.workspace
        return workspace.root.seconds().get("training", 0.0) / max(workspace.recipe.training.epochs, 1)
