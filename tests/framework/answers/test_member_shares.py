"""Rough shares are those of a plain loop, and exact where one step is all of the training."""

from __future__ import annotations

import copy
import csv
import io
import itertools
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from run_fixtures import ddm, refused, tiny
from torch import Tensor, nn

import ddm_framework
from ddm_framework import Run
from ddm_framework.answers.member_shares import Shares, rough_shares
from ddm_framework.network import Budget, start, train
from ddm_framework.network.training import learning_rate
from ddm_framework.runs.samples import COLUMNS

CLUSTER, QUERY = 3, 5


def flat(parts: dict[str, Tensor]) -> Tensor:
    """One vector, by the order of names: files and modules keep their weights in different orders."""
    return torch.cat([parts[name].double().flatten() for name in sorted(parts)])


def slopes(value: Tensor, module: nn.Module) -> Tensor:
    weights = dict(module.named_parameters())
    return flat(dict(zip(weights, torch.autograd.grad(value, list(weights.values())), strict=True)))


def looped(run: Run, way: Tensor) -> list[float]:
    """Each member's gradients against a way, one sample and one checkpoint at a time, in float64."""
    workspace, found = run.workspace, []
    training, saved = workspace.recipe.training, [0, 2, 4]
    module = copy.deepcopy(workspace.network.module).double().requires_grad_()
    for member in workspace.partition.members(CLUSTER).tolist():
        image, label = workspace.data.train.images[member][None].double(), workspace.data.train.labels[member][None]
        total = 0.0
        for epoch, following in itertools.pairwise(saved):
            module.load_state_dict({name: each.double() for name, each in workspace.trajectory[epoch].items()})
            along = float(slopes(F.cross_entropy(module(image), label), module) @ way)
            total += sum(learning_rate(training, each) for each in range(epoch, following)) * along
        found.append(total)
    return found


@pytest.fixture
def few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Budget, "fitting", lambda *_, **__: 3)


def test_shares_are_those_of_a_loop(run: Run, few_at_a_time: None) -> None:
    workspace = run.workspace
    without = run.without([CLUSTER]).parameters
    way = flat(without) - flat(workspace.target)
    found = rough_shares(workspace, CLUSTER)
    assert torch.equal(found.members, workspace.partition.members(CLUSTER))
    wanted = torch.tensor(looped(run, way), dtype=torch.float64)
    torch.testing.assert_close(found.along, wanted, rtol=1e-4, atol=1e-7)


def test_shares_for_a_query_are_those_of_a_loop(run: Run) -> None:
    workspace, image = run.workspace, run.workspace.data.test.images[QUERY][None].double()
    module = copy.deepcopy(workspace.network.module).double().requires_grad_()

    def odds(parameters: dict[str, Tensor], said: int) -> Tensor:
        module.load_state_dict({name: each.double() for name, each in parameters.items()})
        shares = module(image)[0].softmax(0)
        return (shares[said] / (1 - shares[said])).log()

    said = int(workspace.target_logits(workspace.data.test.images)[QUERY].argmax())
    change = float((odds(run.without([CLUSTER]).parameters, said) - odds(workspace.target, said)).detach())
    way = slopes(odds(workspace.target, said), module) * (1 if change > 0 else -1)
    found = rough_shares(workspace, CLUSTER, run.test_query(QUERY))
    torch.testing.assert_close(found.along, torch.tensor(looped(run, way)).double(), rtol=1e-3, atol=1e-6)


def test_after_one_step_on_all_images_shares_are_exact(tmp_path: Path) -> None:
    """The training without a member then differs by just its gradient, lr / N long."""
    recipe = tiny(tmp_path, training="{epochs: 1, lr: 0.5, batch_size: 36}", matching="{pairing: final, steps: 2}")
    workspace = ddm_framework.run(recipe, out=tmp_path / "run").workspace
    data, count = workspace.data.train, len(workspace.data.train)
    members = workspace.partition.members(CLUSTER)
    assert count == 36
    kept = torch.ones(len(members), count)
    kept[torch.arange(len(members)), members] = 0
    begun = start(workspace.initial, len(members))
    *_, last = train(workspace.network, begun, data, kept, workspace.recipe.training, workspace.recipe.general.seed)
    way = flat(ddm_framework.open_run(tmp_path / "run").without([CLUSTER]).parameters) - flat(workspace.target)
    each = [flat({name: weights[row] for name, weights in last.parameters.items()}) for row in range(len(members))]
    moved = torch.stack(each) - flat(workspace.target)
    truth = moved @ way
    found = rough_shares(workspace, CLUSTER)
    torch.testing.assert_close(found.along / count, truth, rtol=1e-3, atol=1e-8)
    assert found.share is not None
    torch.testing.assert_close(found.share, truth / truth.sum(), rtol=1e-3, atol=1e-4)


def test_gradients_that_explain_nothing_are_nobody_s_share() -> None:
    assert Shares(torch.arange(2), torch.tensor([1.0, -2.0])).share is None
    assert Shares(torch.arange(2), torch.zeros(2)).share is None
    shares = Shares(torch.arange(2), torch.tensor([3.0, -1.0])).share
    assert shares is not None and shares.tolist() == [1.5, -0.5]


def test_members_come_with_their_shares_the_largest_first(run: Run) -> None:
    for query in (None, QUERY, run.test_query(QUERY)):
        found = run.members(CLUSTER, shares=True, query=query)
        asked = run.test_query(QUERY) if query is not None else None
        shares = rough_shares(run.workspace, CLUSTER, asked)
        origin = run.workspace.data.train.origin
        assert origin is not None and shares.share is not None
        told = {each.sample: each.rough_share for each in found}
        assert told == dict(zip(origin.positions[shares.members].tolist(), shares.share.tolist(), strict=True))
        assert list(told.values()) == sorted(told.values(), reverse=True)  # type: ignore[type-var]
        assert sum(told.values()) == pytest.approx(1)  # type: ignore[arg-type]
        assert sorted(told) == sorted(each.sample for each in run.members(CLUSTER))


def test_the_command_line_tells_shares_and_that_they_are_rough(run: Run) -> None:
    found = run.members(CLUSTER, query=QUERY)
    status, out, err = ddm("members", run.path, CLUSTER, "--query", QUERY)
    assert (status, err) == (0, "")
    assert "rough share" in out.splitlines()[0] and "shares are rough" in out.splitlines()[-1]
    assert [line.split()[0] for line in out.splitlines()[1:-1]] == [str(each.sample) for each in found]
    told = json.loads(ddm("members", run.path, CLUSTER, "--query", QUERY, "--json")[1])
    assert [each["rough_share"] for each in told] == [each.rough_share for each in found]
    rows = list(csv.reader(io.StringIO(ddm("members", run.path, CLUSTER, "--shares", "--csv")[1])))
    assert rows[0] == [*COLUMNS, "rough_share"] and len(rows) == 1 + len(found)


def test_what_is_not_there_is_named(run: Run) -> None:
    assert refused("members", run.path, 3, "--query", 99) == "there is no test image 99; they are 0 to 11"
    assert refused("members", run.path, 6, "--shares") == "there is no cluster 6; clusters are 0 to 5"
