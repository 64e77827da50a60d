"""Rough shares of the members of a cluster, beside networks retrained exactly without each member.

    python benchmarks/members.py   (a few minutes; writes benchmarks/results/members.json)

Every fourth cluster of the first recipe's digits is taken, and of each the test images on which leaving it out changes
the log odds of the prediction most. The truth of a member is that change when the network is retrained without it
alone, in the direction of the change without the whole cluster. Members are also ordered by what costs nothing: their
training loss, the length of their gradients, and at random.
"""

from __future__ import annotations

from statistics import mean
from typing import Any

import stored
import torch
from scipy.stats import spearmanr
from torch import Tensor

import ddm_framework
from ddm_framework import Run, Workspace
from ddm_framework.answers.member_shares import rough_shares
from ddm_framework.answers.sample_influence import influences
from ddm_framework.offline import Partition
from ddm_framework.online.amounts import log_odds
from ddm_framework.truth.retraining import bank_logits, retrained

RESULT = stored.RESULTS / "members.json"
RECIPE, SETTINGS = "digits_convnet", ["device=cpu", "threads=1", "study.queries=10", "study.show=0"]
FIRST, EVERY, QUERIES, FEWEST, DRAWS = 2, 4, 5, 4, 20
"""Clusters FIRST, FIRST + EVERY ...; test images of each; members from which on an order says something; random orders
of each."""


def main() -> None:
    """Measure, and keep the result."""
    run = ddm_framework.run(stored.RECIPES / f"{RECIPE}.yaml", SETTINGS, out="runs/results/members", fresh=True)
    found = measured(run)
    stored.write(RESULT, {"recipe": RECIPE, "settings": SETTINGS, **found, "machine": stored.machine("cpu")})
    print(found)


def measured(run: Run) -> dict[str, Any]:
    """Spearman's correlation of each order with the truth, and how often its first member is the true one.

    `query` is the mean over clusters and their queries of what was asked of one query; `cluster` compares with the sum
    over all test images of the change in the direction of the cluster's, a mean over clusters.
    """
    workspace, partition = run.workspace, run.workspace.partition
    enough = (partition.sizes >= FEWEST).tolist()
    clusters = [each for each in range(FIRST, partition.num_clusters, EVERY) if enough[each]]
    members = [partition.members(each) for each in clusters]
    alone = without_each(workspace, torch.cat(members))
    whole = changes(workspace, torch.eye(partition.num_clusters)[clusters].logical_not().float(), partition)
    own = influences(workspace).on_itself
    loss = torch.tensor([each.training_loss for each in run.samples if each.split == "train"], dtype=torch.float64)
    told: dict[str, dict[str, list[tuple[float, bool]]]] = {"cluster": {}, "query": {}}
    for row, (cluster, positions) in enumerate(zip(clusters, members, strict=True)):
        low = sum(map(len, members[:row]))
        truth, sign = alone[low : low + len(positions)], whole[row].sign()
        plain = {"training loss": loss, "gradient length": own}
        scores = {"rough share": rough_shares(workspace, cluster).along}
        scores |= {name: each[positions] for name, each in plain.items()}
        _judge(told["cluster"], scores, (truth * sign).sum(1))
        for query in whole[row].abs().argsort(descending=True)[:QUERIES].tolist():
            asked = {"rough share of the query": rough_shares(workspace, cluster, run.test_query(query)).along}
            _judge(told["query"], {**asked, **scores}, truth[:, query] * sign[query])
    return {
        "num_clusters": len(clusters),
        "num_members": sum(map(len, members)),
        "queries_each": QUERIES,
        **{level: {name: _mean(each) for name, each in by_name.items()} for level, by_name in told.items()},
    }


def without_each(workspace: Workspace, samples: Tensor) -> Tensor:
    """Change of the log odds of what the network says of each test image without each sample, (samples, images)."""
    count = len(workspace.data.train)
    kept = torch.ones(len(samples), count)
    kept[torch.arange(len(samples)), samples] = 0
    return changes(workspace, kept, Partition(torch.arange(count), workspace.data.train.labels.clone()))


def changes(workspace: Workspace, kept: Tensor, partition: Partition) -> Tensor:
    """The same without the columns that are 0 in each row, (rows, images), by exact retraining."""
    test = workspace.queries_of("test")
    before = workspace.target_logits(test.images)
    said = before.argmax(1)
    bank = retrained(workspace, kept, partition=partition)
    return log_odds(bank_logits(workspace, bank, test), said) - log_odds(before, said)


def _judge(told: dict[str, list[tuple[float, bool]]], scores: dict[str, Tensor], truth: Tensor) -> None:
    draws = torch.Generator().manual_seed(len(truth))
    listed = [*scores.items(), *(("random", torch.rand(len(truth), generator=draws)) for _ in range(DRAWS))]
    for name, score in listed:
        rank = float(spearmanr(score.numpy(), truth.numpy()).statistic)
        told.setdefault(name, []).append((rank, int(score.argmax()) == int(truth.argmax())))


def _mean(found: list[tuple[float, bool]]) -> dict[str, float]:
    return {
        "spearman": round(mean(rank for rank, _ in found), 3),
        "top_is_right": round(mean(float(right) for _, right in found), 3),
    }


if __name__ == "__main__":
    main()
