"""Attributors: `attribute(workspace, queries, objective, /, *, ...) -> Tensor`, effects (N, K, m) of deleting clusters.

They are tried on a small finished run of three classes with two clusters each.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from ddm_framework.errors import DDMError
from ddm_framework.offline.partition import Partition
from ddm_framework.online.questions import Objective, Queries
from ddm_framework.plugin.declarations import method_of
from ddm_framework.runs.workspace import Workspace
from ddm_framework.testing.contract import advice, expect, same, untouched_randomness
from ddm_framework.testing.samples import NUM_CLASSES
from ddm_framework.testing.small_run import SEVERAL, SINGLE, WHOLE_SET, small_workspace
from ddm_framework.testing.subject import Subject
from ddm_framework.testing.traces import contents, state

NUM_QUERIES = 5
_ADVICE = "it is called as attribute(workspace, queries, objective) on any finished run"


def questions(workspace: Workspace, *, labelled: bool = True) -> Queries:
    """Some test images."""
    asked = workspace.queries_of("test", NUM_QUERIES)
    return asked if labelled else Queries(asked.images, None, asked.ids)


def answered(subject: Subject, workspace: Workspace, queries: Queries, objective: Objective = SINGLE) -> Tensor:
    """Effects, a float tensor as the contract wants it."""
    with advice(_ADVICE):
        effect = subject.choice(workspace, queries, objective)
        partition = clusters(subject, workspace)
    rows = 1 if objective.declaration.set_level else len(queries)
    behaviours = NUM_CLASSES if objective is SEVERAL else 1
    wanted = (rows, partition.num_clusters, behaviours)
    found = f"{effect.dtype} {tuple(effect.shape)}" if isinstance(effect, Tensor) else type(effect).__name__
    expect(
        isinstance(effect, Tensor) and effect.is_floating_point() and tuple(effect.shape) == wanted,
        f"it returns {found} for {len(queries)} queries, {partition.num_clusters} clusters and the objective"
        f" {objective.name!r}; return the effects (N, K, m), here {wanted}",
    )
    assert isinstance(effect, Tensor)
    return effect.detach().double().cpu()


def clusters(subject: Subject, workspace: Workspace) -> Partition:
    """Whose effects it returns: the run's own clusters, or those that it declares."""
    own = method_of(subject.target).partition
    return workspace.partition if own is None else own(workspace)


def check_sets_of_clusters(subject: Subject) -> None:
    """What it says of whole sets, if it declares `sets`: nothing of the empty set, finite effects of the others."""
    if method_of(subject.target).sets is None:
        return
    workspace = small_workspace(subject.registry)
    rows = torch.ones(3, workspace.partition.num_clusters)
    rows[1, 0], rows[2, :2] = 0, 0
    with advice("`sets` is called as sets(workspace, queries, objective, perturbations, **options)"):
        found = workspace.set_effects_by(questions(workspace), SINGLE, subject.choice, rows)
    assert found is not None
    expect(torch.isfinite(found).all(), "`sets` returns NaN or infinity")
    nothing = bool(found[0].abs().max() <= 1e-3 * found.abs().max())  # but for rounding
    expect(nothing, "`sets` says that deleting nothing has an effect; a row of ones must give zeros")


def first_answer(subject: Subject) -> Tensor:
    """Effects on the questions, asked once for all checks."""

    def ask() -> Tensor:
        workspace = small_workspace(subject.registry)
        return answered(subject, workspace, questions(workspace))

    return subject.once("answer", ask)


def check_effects_of_each_cluster_on_each_query(subject: Subject) -> None:
    """It returns effects (N, K, 1) for N queries and an objective of one behaviour, all of them finite."""
    effect = first_answer(subject)
    expect(torch.isfinite(effect).all(), "effects hold NaN or infinity; clamp what is divided by, or damp an inverse")
    expect(bool(effect.any()), "all effects are zero: no cluster matters for any query")


def check_clusters_are_a_partition(subject: Subject) -> None:
    """The clusters that its effects are of divide the training data: the run's own, or those that it declares."""
    workspace = small_workspace(subject.registry)
    with advice("@attributor(partition=...) takes a function of the workspace that returns a Partition"):
        partition = clusters(subject, workspace)
    ids, count = set(partition.clusters.tolist()), partition.num_clusters
    expect(
        len(partition.clusters) == len(workspace.data.train) and ids == set(range(count)),
        f"its partition has ids {sorted(ids)[:5]} of {len(partition.clusters)} samples; give each of the"
        f" {len(workspace.data.train)} training samples a cluster from 0 to {count - 1}, all of them used",
    )


def check_same_answer_twice(subject: Subject) -> None:
    """Asked again on a workspace that knows nothing yet, it answers the same."""
    workspace = small_workspace(subject.registry)
    again = answered(subject, workspace, questions(workspace))
    expect(
        same(again, first_answer(subject)),
        "two answers to one question differ; draw from workspace.generator('a purpose') alone",
    )


def check_queries_do_not_matter_to_one_another(subject: Subject) -> None:
    """A query's effects do not depend on which others are asked with it."""
    workspace = small_workspace(subject.registry)
    # Of the same number and in the same place: what a method draws at random may depend on that.
    others = workspace.queries_of("test").take(torch.tensor([5, 6, 2, 7, 8]))
    found, among = answered(subject, workspace, others)[2], first_answer(subject)[2]
    expect(
        same(found, among, rtol=1e-2, atol=1e-3 * float(among.abs().max())),
        f"a query has effects {_short(found)} among some and {_short(among)} among others; work on each by itself,"
        " without means or scales over all queries",
    )


def check_objectives_of_a_whole_set(subject: Subject) -> None:
    """For a set-level objective (Eq. 14) it returns (1, K, 1), or says by a DDMError that it cannot."""
    workspace = small_workspace(subject.registry)
    effect = answered(subject, workspace, questions(workspace), WHOLE_SET)
    expect(torch.isfinite(effect).all(), "effects on a set-level objective hold NaN or infinity")


def check_objectives_of_several_behaviours(subject: Subject) -> None:
    """For an objective of m behaviours it returns (N, K, m), or says by a DDMError that it cannot."""
    workspace = small_workspace(subject.registry)
    try:
        effect = answered(subject, workspace, questions(workspace), SEVERAL)
    except DDMError:
        return
    expect(torch.isfinite(effect).all(), "effects on an objective of several behaviours hold NaN or infinity")


def check_works_without_labels_or_says_so(subject: Subject) -> None:
    """Queries without labels are answered, or refused by a DDMError."""
    workspace = small_workspace(subject.registry)
    try:
        with advice("queries.labels may be None: handle that, or raise a DDMError that says so"):
            effect = answered(subject, workspace, questions(workspace, labelled=False))
    except DDMError:
        return
    expect(torch.isfinite(effect).all(), "queries without labels give NaN or infinity")


def check_workspace_is_only_read(subject: Subject) -> None:
    """Target, partition, data and synset are not written to, nor any file of the run or beside the script."""
    workspace = small_workspace(subject.registry)
    queries = questions(workspace)
    before, files = state(workspace, queries), contents(workspace.folder.path)
    with tempfile.TemporaryDirectory() as here, contextlib.chdir(here):
        answered(subject, workspace, queries)
        written = sorted(path.name for path in Path(here).iterdir())
    after = state(workspace, queries)
    changed = [name for name, each in before.items() if not torch.equal(each, after[name])]
    expect(not changed, f"it writes to the workspace's {', '.join(changed[:3])}; work on copies (.clone())")
    expect(not written, f"it writes {', '.join(written[:3])} into the current folder; write into a temporary one")
    expect(
        contents(workspace.folder.path) == files,
        "it changes files of the run; ask ddm_framework.stages.variant for another partition or synset",
    )


def check_leaves_global_randomness_alone(subject: Subject) -> None:
    """The global random states of torch, numpy and Python stay as they are."""
    workspace = small_workspace(subject.registry)
    with untouched_randomness() as touched:
        answered(subject, workspace, questions(workspace))
    expect(
        not touched,
        f"it changed the global random state of {', '.join(touched)}; draw from workspace.generator('a purpose'), and"
        " run libraries that do not within torch.random.fork_rng()",
    )


def _short(effect: Tensor) -> str:
    return "[" + ", ".join(f"{each:.3g}" for each in effect.flatten()[:3].tolist()) + ", ...]"
