"""The user's own training, brought with the module: exact retrainings, a certificate and the dial are made by it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

import ddm_framework
from ddm_framework import DDMError, Run
from ddm_framework.truth import bank_logits, retrained

EPOCHS = 3
SETTINGS = ["matching.steps=5", "clusterer.clusters_per_class=2", "study.show=1", "study.queries=6", "threads=1"]


def digits(start: int, stop: int) -> tuple[Tensor, Tensor]:
    found = load_digits()
    index = torch.cat([torch.tensor(found.target == each).nonzero()[start:stop, 0] for each in range(3)])
    return torch.tensor(found.images[index] / 16, dtype=torch.float32)[:, None], torch.tensor(found.target[index])


TRAIN, TEST = digits(0, 12), digits(24, 30)


def build(norm: bool = True) -> nn.Module:
    torch.manual_seed(0)
    middle = nn.BatchNorm2d(4) if norm else nn.Identity()
    return nn.Sequential(nn.Conv2d(1, 4, 3), middle, nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))


Epoch = Callable[[int, nn.Module], None]


def training(norm: bool = True, momentum: float = 0.0, after: Epoch = lambda epoch, module: None) -> Any:
    """A plain training as people write it; batches depend on the epoch alone."""

    def train(weights: Tensor, start: nn.Module | None = None, from_epoch: int = 0) -> nn.Module:
        module = build(norm) if start is None else start
        optimizer = torch.optim.SGD(module.parameters(), 0.1, momentum)
        for epoch in range(from_epoch, EPOCHS):
            after(epoch, module)
            module.train()
            order = torch.randperm(len(weights), generator=torch.Generator().manual_seed(epoch))
            for batch in order.split(12):
                optimizer.zero_grad()
                losses = F.cross_entropy(module(TRAIN[0][batch]), TRAIN[1][batch], reduction="none")
                (losses * weights[batch]).mean().backward()
                optimizer.step()
        return module.eval()

    return train


def trained(**options: Any) -> tuple[nn.Module, list[dict[str, Tensor]]]:
    kept = []

    def keep(_: int, module: nn.Module) -> None:
        kept.append({name: each.clone() for name, each in module.state_dict().items()})

    return training(after=keep, **options)(torch.ones(len(TRAIN[1]))), kept


def bring(folder: Path, function: Any, *settings: str, norm: bool = True, **more: Any) -> Run:
    module, kept = trained(norm=norm)
    more = {"checkpoints": kept, **more}
    asked = [*SETTINGS, *settings]
    return ddm_framework.from_module(
        module, TRAIN, TEST, train_function=function, settings=asked, out=folder / "run", **more
    )


@pytest.fixture(scope="module")
def brought(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return bring(tmp_path_factory.mktemp("own"), training(), "certificate.retrainings=4", "online.replay=1")


def without(run: Run, cluster: int) -> Tensor:
    return (run.workspace.partition.clusters != cluster).float()


def test_all_ones_give_the_module_back_and_the_report_says_by_how_much(brought: Run) -> None:
    found = brought.metrics["train_function"]
    assert found["shift"] < 1e-5 < 1e-3 < found["cluster_effect"] and found["replay_shift"] < 1e-5
    assert any("made by the train_function" in note for note in brought.metrics["notes"])
    assert "how the network was trained is not known" not in brought.report.read_text()


def test_a_retrained_network_is_the_functions_own_with_its_own_statistics(brought: Run) -> None:
    workspace, rows = brought.workspace, brought.workspace.perturbations[1:4]
    bank = retrained(workspace, rows)
    queries = workspace.queries_of("test")
    logits = bank_logits(workspace, bank, queries)
    for row in range(3):
        wanted = training()(without(brought, row))
        with torch.no_grad():
            torch.testing.assert_close(logits[row], wanted(TEST[0]), rtol=1e-4, atol=1e-5)
        assert not torch.equal(wanted[1].running_mean, workspace.network.module[1].running_mean)  # type: ignore[index]
    alone = brought.retrained_without(clusters=[0])
    torch.testing.assert_close(alone.test_logits, logits[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(alone.module(TEST[0]), logits[0], rtol=1e-4, atol=1e-5)


def test_a_network_with_batch_norm_is_matched_along_its_checkpoints(tmp_path: Path) -> None:
    module, kept = trained()
    run = ddm_framework.from_module(
        module, TRAIN, TEST, checkpoints=kept, settings=[*SETTINGS, "matching.steps=80"], out=tmp_path / "run"
    )
    assert run.metrics["matching"]["mean_cosine"] >= 0.8


def test_the_certificate_is_made_by_it(brought: Run) -> None:
    assert brought.certificate is not None and brought.certificate["num_retrainings"] == 4
    assert -1 <= brought.certificate["spearman"] <= 1


def test_methods_that_need_retrainings_have_them(brought: Run) -> None:
    workspace, queries = brought.workspace, brought.queries(TEST[0], TEST[1])
    effect = workspace.effects_by(queries, brought.objective("margin"), "exact").effect
    assert effect.shape == (18, 6, 1) and float(effect.abs().max()) > 0
    with pytest.raises(DDMError, match="train_function takes none"):
        retrained(workspace, workspace.perturbations[1:2], coupling="independent")


def test_the_whole_dial_is_exact_retraining(brought: Run) -> None:
    run = brought.with_online(replay=EPOCHS)
    rows = run.workspace.perturbations[:4]
    found = torch.cat([stack["4.weight"] for _, stack in run.workspace.perturbed(rows, run.workspace.synset)])
    assert torch.equal(found[0], run.workspace.target["4.weight"])
    wanted = retrained(run.workspace, rows[1:]).load(slice(3))["4.weight"]
    torch.testing.assert_close(found[1:], wanted, rtol=1e-4, atol=1e-6)


def test_the_middle_of_the_dial_goes_on_from_the_step_at_a_checkpoint(brought: Run) -> None:
    from ddm_framework.online.finetuning import finetune
    from ddm_framework.online.replaying import share_of_step

    run = brought.with_online(replay=1)
    workspace, rows = run.workspace, run.workspace.perturbations[1:3]
    [(_, stack)] = list(workspace.perturbed(rows, workspace.synset))
    epoch = EPOCHS - 1
    step = workspace.recipe.online.replay_step_size * share_of_step(workspace.recipe.training, epoch)
    online = workspace.recipe.online.changed({"step_size": step})
    begun = finetune(workspace.trained.until(epoch), workspace.synset, rows, online, "reverse", workspace.budget)
    logits = workspace.stack_logits(stack, TEST[0])
    for row in range(2):
        start = build()
        start.load_state_dict(
            {**workspace.trained.at(epoch).buffers, **{name: each[row] for name, each in begun.items()}}
        )
        wanted = training()(without(run, row), start, epoch)
        torch.testing.assert_close(stack["4.weight"][row], wanted[4].weight, rtol=1e-4, atol=1e-5)  # type: ignore[index]
        with torch.no_grad():
            torch.testing.assert_close(logits[row], wanted(TEST[0]), rtol=1e-3, atol=1e-4)
    again = next(iter(workspace.perturbed(rows, workspace.synset)))[1]  # kept in the folder
    assert all(torch.equal(each, again[name]) for name, each in stack.items())


def test_a_stack_with_statistics_of_its_own_beside_a_control(brought: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = brought.workspace
    stack = retrained(workspace, workspace.perturbations[1:3]).load(slice(2))
    plain = workspace.stack_logits(stack, TEST[0])
    monkeypatch.setattr(type(workspace), "same_rounding", property(lambda _: False))
    torch.testing.assert_close(workspace.stack_logits(stack, TEST[0]), plain, rtol=1e-4, atol=1e-5)


def test_samples_are_weighed_in_the_order_in_which_they_were_given(tmp_path: Path) -> None:
    seen: list[Tensor] = []

    def function(weights: Tensor) -> dict[str, Tensor]:
        seen.append(weights)
        return training(norm=False)(weights).state_dict()

    run = bring(tmp_path, function, norm=False, validation=0.25)
    run.retrained_without(samples=[3])
    [gone] = (seen[-1] == 0).nonzero()[:, 0].tolist()
    data = run.workspace.data
    torch.testing.assert_close(data.info.to_pixels(data.train.images[3:4])[0], TRAIN[0][gone])
    assert len(seen[-1]) == len(TRAIN[1]) > len(data.train)


def test_frozen_weights_that_the_training_moved_are_the_networks_own(tmp_path: Path) -> None:
    run = bring(tmp_path, training(), parameters=["4.*"])
    found = run.retrained_without(clusters=[0])
    wanted = training()(without(run, 0))(TEST[0]).detach()
    torch.testing.assert_close(found.test_logits, wanted, rtol=1e-4, atol=1e-5)


def other_order(weights: Tensor) -> nn.Module:
    module = training()(weights)
    with torch.no_grad():
        module[4].weight += 0.3 * torch.randn(3, 144, generator=torch.Generator().manual_seed(1))  # type: ignore[index]
    return module


def deaf(weights: Tensor) -> nn.Module:
    return training()(torch.ones_like(weights))


def failing(weights: Tensor) -> nn.Module:
    raise ZeroDivisionError("no luck")


def forgetful(weights: Tensor, start: Any = None, from_epoch: int = 0) -> nn.Module:
    return training()(weights, None if start is None else build(), from_epoch)


@pytest.mark.parametrize(
    ("function", "settings", "message"),
    [
        (other_order, [], "trained on all samples does not give the module back"),
        (deaf, [], "pays no heed to its weights"),
        (failing, [], "fails with ZeroDivisionError: no luck"),
        (lambda weights: None, [], "what train_function returned is not a state dict"),
        (lambda weights: nn.Linear(2, 2), [], "what train_function returned does not fit the backbone"),
        (lambda: None, [], "called as f.weights, start, from_epoch"),
        (build(), [], "found a Sequential"),
        ("train.py", [], "found a str"),
        (forgetful, ["online.replay=1"], "started from checkpoint 2 with all samples"),
        (deaf, ["online.replay=1"], "has no argument `start`"),
        (training(), ["online.replay=9"], "counted in checkpoints, and 3 come before"),
    ],
)
def test_a_function_that_cannot_be_trusted_is_refused(
    function: Any, settings: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DDMError, match=message):
        bring(tmp_path, function, *settings)


def test_the_dial_needs_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(DDMError, match="there are no checkpoints to start from"):
        bring(tmp_path, training(), "online.replay=1", checkpoints=[])


def test_another_function_makes_other_networks(tmp_path: Path) -> None:
    bring(tmp_path, training(norm=False), norm=False)
    before = len(list((tmp_path / "bank").iterdir()))
    module, kept = trained(norm=False)
    again = ddm_framework.from_module(
        copy.deepcopy(module),
        TRAIN,
        TEST,
        checkpoints=kept,
        train_function=lambda weights: training(norm=False)(weights),
        settings=SETTINGS,
        out=tmp_path / "other",
    )
    assert len(list((tmp_path / "bank").iterdir())) == 2 * before
    assert again.metrics["train_function"]["shift"] < 1e-5
