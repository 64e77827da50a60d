"""What a user would run to learn which groups of training data made a network say what it says: one method a process.

    python benchmarks/peer_methods.py FOLDER METHOD OUT    (called by benchmarks/peers.py)

FOLDER holds what every user has: a trained network with its checkpoints, the images and labels, and which group each
training image is in. Each method is called by its library's own documented interface, and says how the margin of the
predicted class of each query (its logit less the log-sum-exp of the others) changes without each group. Nothing of ddm
is imported unless the method is ours.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.data import DataLoader, TensorDataset

BATCH = 64
MOST_ROWS = 4096
"""Training images whose gradients dattri holds at once; it transforms every query anew for each batch of them."""
CHECKPOINTS = 10
"""For TRAK and TracIn, evenly spaced, as in the recipes of fidelity."""


@dataclass(frozen=True)
class Task:
    """What the user has.

    Attributes:
        folder: where it lies.
        module: the trained network, an ordinary module.
        checkpoints: its weights by epoch, θ_0 first.
        images, labels, groups: of the training data, (N, C, H, W), (N,), (N,).
        queries, predicted: (Q, C, H, W), and the class that the network says, (Q,).
        training: epochs, lr, batch_size and the order of the samples in each epoch, (epochs, N).
    """

    folder: Path
    module: nn.Sequential
    checkpoints: dict[int, dict[str, Tensor]]
    images: Tensor
    labels: Tensor
    groups: Tensor
    queries: Tensor
    predicted: Tensor
    training: dict[str, Any]

    @property
    def num_groups(self) -> int:
        return int(self.groups.max()) + 1

    def grouped(self, scores: Tensor) -> Tensor:
        """Sums (K, Q) over the training images of each group of scores (N, Q)."""
        total = torch.zeros(self.num_groups, scores.shape[1], dtype=torch.float64)
        return total.index_add_(0, self.groups, scores.detach().double().cpu())

    def train_loader(self, batch_size: int) -> DataLoader[Any]:
        return DataLoader(TensorDataset(self.images, self.labels), batch_size, shuffle=False)

    def query_loader(self, batch_size: int = BATCH) -> DataLoader[Any]:
        return DataLoader(TensorDataset(self.queries, self.predicted), batch_size, shuffle=False)

    def evenly(self, count: int) -> list[int]:
        """Some of the saved epochs after θ_0, the last one among them."""
        later = sorted(epoch for epoch in self.checkpoints if epoch)
        count = min(count, len(later))
        return [later[round((index + 1) * len(later) / count) - 1] for index in range(count)]


@dataclass(frozen=True)
class Answer:
    """What a method says.

    Attributes:
        effects: change of the margin without each group, (K, Q).
        seconds_once: of what is done once for all queries.
        seconds_queries: of what the queries cost after that.
        settings: that were not the library's defaults, in words.
        amounts: whether effects are amounts, and not known up to a common factor alone.
    """

    effects: Tensor
    seconds_once: float
    seconds_queries: float
    settings: str = ""
    amounts: bool = False


def load(folder: Path) -> Task:
    """The task of a folder that `peers.py` prepared."""
    found = torch.load(folder / "task.pt", weights_only=False)  # our own file, written a moment ago
    return Task(folder, **found)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Logit of the label less the log-sum-exp of the others."""
    chosen = torch.arange(logits.shape[-1]) == labels[..., None]
    return logits.masked_fill(~chosen, 0.0).sum(-1) - logits.masked_fill(chosen, float("-inf")).logsumexp(-1)


# dattri: https://trais-lab.github.io/dattri


def _dattri_task(task: Task, *, of_loss: bool = False, checkpoints: int = 1) -> Any:
    """Loss of the training and margin of the queries, in the form that influence functions take."""
    from dattri.task import AttributionTask

    model = task.module.requires_grad_()

    def loss(params: dict[str, Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
        image, label = data
        return F.cross_entropy(functional_call(model, params, image), label)

    def wanted(params: dict[str, Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
        image, label = data
        return margin(functional_call(model, params, image), label).mean()

    weights = [task.checkpoints[epoch] for epoch in task.evenly(checkpoints)]
    return AttributionTask(loss, model, weights, None if of_loss else wanted)


def _dattri_influence(task: Task, attributor: Any, settings: str, sign: float = 1.0, queries: int = BATCH) -> Answer:
    rows = min(MOST_ROWS, len(task.labels))
    begun = time.perf_counter()
    attributor.cache(task.train_loader(rows))
    cached = time.perf_counter()
    scores = attributor.attribute(task.train_loader(rows), task.query_loader(queries))
    return Answer(sign * task.grouped(scores), cached - begun, time.perf_counter() - cached, settings)


def dattri_cg(task: Task) -> Answer:
    """Influence functions by conjugate gradients."""
    from dattri.algorithm.influence_function import IFAttributorCG

    attributor = IFAttributorCG(_dattri_task(task), max_iter=10, regularization=0.1)
    # All training images pass through the network for each query of a batch at once, which takes gigabytes.
    return _dattri_influence(task, attributor, "max_iter 10, regularization 0.1", queries=1)


def dattri_datainf(task: Task) -> Answer:
    """DataInf."""
    from dattri.algorithm.influence_function import IFAttributorDataInf

    attributor = IFAttributorDataInf(_dattri_task(task), regularization=0.1)
    return _dattri_influence(task, attributor, "regularization 0.1")


def dattri_ekfac(task: Task) -> Answer:
    """EK-FAC, which dattri has for linear layers alone: here the last one."""
    from dattri.algorithm.influence_function import IFAttributorEKFAC

    attributor = IFAttributorEKFAC(_dattri_task(task, of_loss=True), damping=1e-5)
    # It attributes the function that the curvature is of, the loss, which falls where the margin rises.
    return _dattri_influence(task, attributor, "damping 1e-5, last layer", sign=-1.0)


def dattri_trak(task: Task) -> Answer:
    """TRAK over ten checkpoints."""
    from dattri.algorithm.trak import TRAKAttributor
    from dattri.task import AttributionTask

    model = task.module.requires_grad_()

    def log_odds(params: dict[str, Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
        image, label = data
        return margin(functional_call(model, params, image.unsqueeze(0)), label.unsqueeze(0))[0]

    def probability(params: dict[str, Tensor], data: tuple[Tensor, Tensor]) -> Tensor:
        image, label = data
        loss = F.cross_entropy(functional_call(model, params, image.unsqueeze(0)), label.unsqueeze(0))
        return torch.exp(-loss)

    weights = [task.checkpoints[epoch] for epoch in task.evenly(CHECKPOINTS)]
    attributor = TRAKAttributor(
        AttributionTask(log_odds, model, weights),
        probability,
        projector_kwargs={"proj_dim": 512, "device": "cpu"},
        regularization=1e-4,
    )
    begun = time.perf_counter()
    attributor.cache(task.train_loader(BATCH))
    cached = time.perf_counter()
    scores = attributor.attribute(task.query_loader())
    told = f"{len(weights)} checkpoints, proj_dim 512, regularization 1e-4"
    return Answer(-task.grouped(scores), cached - begun, time.perf_counter() - cached, told)


# kronfluence: https://github.com/pomonam/kronfluence


def kronfluence_ekfac(task: Task) -> Answer:
    """EK-FAC over convolutions and linear layers."""
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import ScoreArguments
    from kronfluence.task import Task as KronfluenceTask

    class Classification(KronfluenceTask):
        def compute_train_loss(self, batch: Any, model: nn.Module, sample: bool = False) -> Tensor:
            images, labels = batch
            logits = model(images)
            if sample:
                with torch.no_grad():
                    labels = torch.multinomial(logits.softmax(1), 1)[:, 0]
            return F.cross_entropy(logits, labels, reduction="sum")

        def compute_measurement(self, batch: Any, model: nn.Module) -> Tensor:
            images, labels = batch
            return margin(model(images), labels).sum()

    torch.manual_seed(0)
    wanted, data = Classification(), TensorDataset(task.images, task.labels)
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        model = prepare_model(task.module, wanted)
        analyzer = Analyzer("peers", model, wanted, cpu=True, output_dir=folder, disable_tqdm=True)
        analyzer.fit_all_factors("ekfac", data, per_device_batch_size=BATCH)
        fitted = time.perf_counter()
        analyzer.compute_pairwise_scores(
            "scores",
            "ekfac",
            query_dataset=TensorDataset(task.queries, task.predicted),
            train_dataset=data,
            per_device_query_batch_size=BATCH,
            per_device_train_batch_size=BATCH,
            score_args=ScoreArguments(damping_factor=None),
        )
        scores = analyzer.load_pairwise_scores("scores")["all_modules"]
        done = time.perf_counter()
    return Answer(task.grouped(scores.T), fitted - begun, done - fitted, "damping_factor null")


# captum: https://captum.ai/api/influence.html


def captum_tracin(task: Task) -> Answer:
    """TracInCP over ten checkpoints, of the loss of the predicted class, which falls where the margin rises."""
    from captum.influence import TracInCP

    rate = float(task.training["lr"])

    def load_checkpoint(model: nn.Module, path: str) -> float:
        model.load_state_dict(torch.load(path, weights_only=True))
        return rate

    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for epoch in task.evenly(CHECKPOINTS):
            paths.append(str(Path(folder, f"{epoch}.pt")))
            torch.save(task.checkpoints[epoch], paths[-1])
        begun = time.perf_counter()
        tracin = TracInCP(
            task.module.requires_grad_(),
            TensorDataset(task.images, task.labels),
            paths,
            load_checkpoint,
            loss_fn=nn.CrossEntropyLoss(reduction="sum"),
            batch_size=BATCH,
            sample_wise_grads_per_batch=True,
        )
        parts = [tracin.influence((images, labels)) for images, labels in task.query_loader()]
    scores = torch.cat(parts).T
    return Answer(-task.grouped(scores), 0.0, time.perf_counter() - begun, f"{len(paths)} checkpoints")


# Plain PyTorch


_SHARED: dict[str, Task] = {}


def _begin(folder: str) -> None:
    torch.set_num_threads(1)
    _SHARED["task"] = load(Path(folder))


def retrain_without(group: int) -> Tensor:
    """Margins (Q,) of a network trained by an ordinary loop without a group."""
    task = _SHARED["task"]
    settings, kept = task.training, task.groups != group
    module = copy.deepcopy(task.module).requires_grad_()
    module.load_state_dict(task.checkpoints[0])
    optimizer = torch.optim.SGD(module.parameters(), lr=settings["lr"])
    for order in settings["orders"]:
        # As the target's training, each batch without its deleted images is divided by its full size.
        for batch in order.split(settings["batch_size"]):
            chosen = batch[kept[batch]]
            optimizer.zero_grad()
            loss = F.cross_entropy(module(task.images[chosen]), task.labels[chosen], reduction="sum")
            (loss / settings["batch_size"]).backward()
            optimizer.step()
    with torch.no_grad():
        return margin(module(task.queries), task.predicted)


def plain_retraining(task: Task) -> Answer:
    """Exact retraining without each group by plain PyTorch, in as many processes as cores."""
    begun = time.perf_counter()
    processes = multiprocessing.get_context("spawn")
    cores = len(os.sched_getaffinity(0))
    with processes.Pool(cores, _begin, (str(task.folder),)) as pool:
        margins = torch.stack(pool.map(retrain_without, range(task.num_groups), chunksize=1))
        pool.close()
        pool.join()
    with torch.no_grad():
        own = margin(task.module(task.queries), task.predicted)
    return Answer((margins - own).double(), time.perf_counter() - begun, 0.0, f"{cores} processes", amounts=True)


# ddm


def _ddm(task: Task, attributor: str, *, matched: bool) -> Answer:
    """An attributor of ours; matching the synset is counted where it needs one."""
    import ddm_framework
    from ddm_framework import Queries
    from ddm_framework.runs import open_account

    with tempfile.TemporaryDirectory(dir=task.folder) as fresh:
        run = shutil.copytree(task.folder / "run", Path(fresh, "run"))  # target and groups are there, as for the others
        again = task.folder / "matched.yaml"
        opened = ddm_framework.run(again, out=run, fresh=True) if matched else ddm_framework.open_run(run)
        workspace = opened.workspace
        once = workspace.folder.seconds()["matching"] if matched else 0.0
        queries = Queries(task.queries, task.predicted, tuple(map(str, range(len(task.queries)))))
        begun = time.perf_counter()
        with open_account() as ledger:
            objective = workspace.objective("margin", of="prediction")
            effects = workspace.effects_by(queries, objective, attributor).effect[:, :, 0].T
        spent = time.perf_counter() - begun
    return Answer(effects.double(), once + ledger.elapsed, spent - ledger.elapsed, amounts=True)


def ddm_replay(task: Task) -> Answer:
    """Each network takes the synset's step and repeats the last epochs."""
    return _ddm(task, "ddm_replay", matched=True)


def replay_influence(task: Task) -> Answer:
    """The same with an influence function's step, which needs no synset."""
    return _ddm(task, "replay_influence", matched=False)


def ddm_corrected(task: Task) -> Answer:
    """`ddm_replay`, corrected by 20 exact retrainings."""
    return _ddm(task, "ddm_corrected", matched=True)


METHODS: dict[str, Callable[[Task], Answer]] = {
    "dattri TRAK": dattri_trak,
    "dattri IF-CG": dattri_cg,
    "dattri EK-FAC": dattri_ekfac,
    "dattri DataInf": dattri_datainf,
    "kronfluence EK-FAC": kronfluence_ekfac,
    "captum TracInCP": captum_tracin,
    "ddm_replay": ddm_replay,
    "replay_influence": replay_influence,
    "ddm_corrected": ddm_corrected,
    "plain retraining": plain_retraining,
}


def most_bytes() -> int:
    """The most memory that this process held (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024


def cpu_seconds() -> float:
    """Of this process and of its workers that have ended: other work on the machine does not count."""
    found = os.times()
    return found.user + found.system + found.children_user + found.children_system


def main() -> None:
    """Run one method and keep what it says."""
    folder, name = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    task = load(folder)
    before = most_bytes()
    spent = cpu_seconds()
    answer = METHODS[name](task)
    spent = cpu_seconds() - spent
    torch.save(
        {
            "effects": answer.effects,
            "seconds_once": answer.seconds_once,
            "seconds_queries": answer.seconds_queries,
            "cpu_seconds": spent,
            "settings": answer.settings,
            "amounts": answer.amounts,
            "peak_bytes": most_bytes(),
            "bytes_before": before,
        },
        Path(sys.argv[3]),
    )


if __name__ == "__main__":
    main()
