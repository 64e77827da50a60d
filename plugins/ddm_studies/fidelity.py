"""How close each attribution method comes to exact retraining, with floor, ceiling and cost (Tables 1 and 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from ddm_framework import Report, Section
from ddm_framework.plugin import ComponentOf, Grid, use
from ddm_framework.report import Block, Chart, Table, Text
from ddm_framework.runs import Workspace
from ddm_framework.truth import bootstrap_interval, empirical_error_agreement
from ddm_studies.comparison.grids import decided, grid_section, judge_each
from ddm_studies.comparison.judging import SCALE, Judge, Verdict, on_run_clusters, scoring_masks
from ddm_studies.comparison.network_distances import WHOLE
from ddm_studies.comparison.own_networks import own_networks
from ddm_studies.comparison.paper import listed

Count = Annotated[int, Field(ge=1)]
Methods = Annotated[list[Grid], ComponentOf("attributor"), Field(min_length=1)]
ABOVE = {"exact", "datamodel"}
"""Methods that retrain networks for their answer; the report marks them as not competing."""


def run(
    workspace: Workspace,
    /,
    *,
    methods: Methods = [use("ddm"), use("ddm_hard"), use("exact")],  # noqa: B006 - pydantic copies it
    queries: Literal["all"] | Count = "all",
    masks: Annotated[int, Field(ge=3)] = 40,
    deleted: Annotated[float, Field(gt=0, lt=1)] = 0.2,
    validation_masks: Annotated[int, Field(ge=3)] = 20,
    resamples: Annotated[int, Field(ge=50)] = 2000,
) -> Report:
    """Judge attribution methods by exact retraining.

    Args:
        methods: each `{use: attributor, option: value}`. An option given as a list is a grid, whose best combination by
            cluster LDS on the validation bank is judged.
        queries: all test images, or a number to take only the first ones.
        masks: number of networks without random clusters for the LDS.
        deleted: share of the clusters that each of these networks lacks.
        validation_masks: number of further networks for choosing the settings of a grid on the validation split.
        resamples: of each bootstrap interval; a tenth for the LDS, which costs more.
    Raises:
        DDMError: if a method has a grid and there is no validation split.
    Source: Tables 1 and 2, Fig. 7, Eq. 10; Park et al. 2023 for the LDS.
    """
    judge = judge_of(workspace, queries, masks, deleted, resamples)
    settled = decided(workspace, methods, validation_masks, deleted)
    found = sorted(judge_each(judge, settled), key=lambda verdict: -verdict.figures["recovered_share"])
    bank = judge.leave_one_out_bank(workspace.partition)
    metrics = {verdict.name: verdict.figures for verdict in found}
    metrics |= _bounds(found, bank.seconds)
    own = _own_networks(workspace, judge)
    return Report(
        sections=[
            _asked_section(workspace, judge, bank.seconds, deleted),
            _table_section(found),
            grid_section(settled),
            _networks_section(own),
        ],
        metrics={"fidelity": {**metrics, "networks": own}},
        question="How close does each method come to exact retraining without the data?",
        tensors=per_query(judge, found),
        answer=_answer(found),
    )


def judge_of(workspace: Workspace, queries: Literal["all"] | int, masks: int, deleted: float, resamples: int) -> Judge:
    """The truth that methods are judged by; arguments are those of `run`."""
    asked = workspace.queries_of("test", None if queries == "all" else queries)
    return Judge(workspace, asked, scoring_masks(workspace, masks, deleted, "scoring"), resamples)


def per_query(judge: Judge, found: Sequence[Verdict]) -> dict[str, Tensor]:
    """What intervals over several runs are made from, float64 (N,) each.

    `<method>.gain` is how far the true Dist_1 (times 100) of the cluster ranked first is above that of a random one,
    `<method>.room` how far the best cluster is above it, `<method>.lds` the cluster LDS; `misread` is 1 for queries
    that the target misreads.
    """
    values = {"misread": judge.misread.double()}
    for each in found:
        random = each.random["dist_1"]
        values[f"{each.name}.gain"] = each.chosen["dist_1"] - random
        values[f"{each.name}.room"] = each.oracle["dist_1"] - random
        if each.lds is not None:
            values[f"{each.name}.lds"] = each.lds
    return values


def _bounds(verdicts: list[Verdict], bank_seconds: float) -> dict[str, Any]:
    """Floor and ceiling of the run's own clusters; the cost of the truth is the time that its bank took to train."""
    first = on_run_clusters(verdicts).figures
    distances = ("dist_1", "dist_2", "dist_3")
    exact = next((verdict.figures for verdict in verdicts if verdict.method == "exact"), {})
    return {
        "random": {each: first[f"{each}_floor"] for each in distances},
        "oracle": {each: first[f"{each}_oracle"] for each in distances},
        "exact": {**exact, "seconds_offline": bank_seconds},
    }


def _own_networks(workspace: Workspace, judge: Judge) -> dict[str, float]:
    """The estimated networks compared with the retrained ones: displacements and the empirical error (Fig. 7)."""
    own = own_networks(workspace, judge)
    agreement = empirical_error_agreement(own.loss, own.exact_loss)
    return {
        "displacement_cosine": float(own.cosine[WHOLE].mean()),
        "displacement_ratio": float((own.exact_distance[WHOLE] / own.distance[WHOLE]).median()),
        "empirical_error_pearson": agreement.pearson,
        "empirical_error_spearman": agreement.spearman,
    }


def _asked_section(workspace: Workspace, judge: Judge, bank_seconds: float, deleted: float) -> Section:
    count = workspace.partition.num_clusters
    return Section(
        "What was asked",
        [
            Text(
                f"For each of {len(judge.queries)} test images, each method ranks all {count} clusters of training data"
                f" by their influence. The network was then retrained exactly without each cluster ({count} networks,"
                f" {bank_seconds:.0f} seconds) and without a random {deleted:.0%} of them ({len(judge.perturbations)}"
                " networks), from the same initial weights and in the same batch order."
            ),
            Text(
                "Dist_1 (times 100) is how far the prediction really moves without the cluster ranked first, and Dist_2"
                " is the loss without it. For Dist_3 the cluster should be the least influential one; as its values"
                " hardly differ, the cluster's rank is given. The share is the position between a random cluster (0)"
                f" and the best one (1), for all queries and for the {int(judge.misread.sum())} that the network"
                " misreads. LDS is the rank correlation, over the networks without random clusters, between"
                " the true margin and the sum of the estimated effects."
            ),
        ],
    )


def _table_section(verdicts: list[Verdict]) -> Section:
    """The true effect of the top clusters with floor and ceiling, then the rankings of all clusters and their cost."""
    first = on_run_clusters(verdicts).figures
    choices: list[list[str | int | float | None]] = [_choice_row(verdict) for verdict in verdicts]
    for name, bound, rank in (
        ("random cluster (floor)", "floor", first["dist_3_random_rank"]),
        ("best cluster (oracle)", "oracle", 1.0),
    ):
        share = float(bound == "oracle")
        choices.append([name, first[f"dist_1_{bound}"], "", share, share, first[f"dist_2_{bound}"], rank])
    scored = [verdict for verdict in verdicts if "cluster_lds" in verdict.figures]
    names = [verdict.name for verdict in scored]
    notes: list[Block] = [Text(f"{each.name}: {each.note}.") for each in verdicts if each.note]
    if ABOVE & {each.method for each in scored}:
        notes.append(
            Text("exact and datamodel retrain networks for their answer: they show what is possible, and at what cost.")
        )
    share_of = [float(each.figures["recovered_share"]) for each in scored]
    lds = [float(each.figures["cluster_lds"]) for each in scored]
    return Section(
        "Methods, ranked",
        [
            Table(
                [
                    "method",
                    "Dist_1",
                    "95 % interval",
                    "share of the oracle",
                    "misread queries",
                    "Dist_2",
                    "Dist_3: rank",
                ],
                choices,
                "The cluster ranked first, by the true effect of retraining without it",
            ),
            Chart("bar", {"share of the oracle's Dist_1": share_of, "cluster LDS": lds}, "method", "1 = all", x=names),
            Table(
                ["method", "cluster LDS", "95 % interval", "Spearman", "seconds once", "for all queries", "settings"],
                [_ranks_row(verdict) for verdict in verdicts],
                "The ranking of all clusters, its cost, and the settings of each method",
            ),
            *notes,
        ],
    )


def _choice_row(verdict: Verdict) -> list[str | int | float | None]:
    found = verdict.figures
    interval = _interval(found["dist_1_interval"])
    share, loss, rank = found["recovered_share"], found["dist_2"], found["dist_3_rank"]
    return [verdict.name, found["dist_1"], interval, share, verdict.of("misread_share"), loss, rank]


def _ranks_row(verdict: Verdict) -> list[str | int | float | None]:
    found = verdict.figures
    return [
        verdict.name,
        verdict.of("cluster_lds"),
        _interval(found["cluster_lds_interval"]) if "cluster_lds" in found else "",
        verdict.of("spearman"),
        found["seconds_offline"],
        found["seconds_online"],
        verdict.settings,
    ]


def _interval(values: list[float]) -> str:
    low, high = values
    return f"{low:.2f} to {high:.2f}"


def _networks_section(own: dict[str, float]) -> Section:
    return Section(
        "The estimated networks themselves",
        [
            Text(
                "The network fine-tuned on a cluster's synset is compared with the one retrained without the cluster."
                f" The mean cosine between their displacements from the target is {own['displacement_cosine']:.3f}, and"
                f" the median ratio of their lengths, exact to estimated, is {own['displacement_ratio']:.2g}. Over the"
                " clusters, the estimated change of the mean loss on the queries has a correlation of"
                f" {own['empirical_error_pearson']:.2f} (Pearson) and {own['empirical_error_spearman']:.2f} (Spearman)"
                " with the exact change (Fig. 7)."
            )
        ],
    )


def _answer(verdicts: list[Verdict]) -> str:
    """The share of the distilled datamodel, and how many methods that do not retrain are clearly ahead or behind."""
    ours = next((verdict for verdict in verdicts if verdict.method == "ddm"), verdicts[0])
    found = ours.figures
    low, high = found["recovered_share_interval"]
    said = (
        f"By Dist_1 (x{SCALE}), {ours.name} recovers {found['recovered_share']:.0%} ({low:.0%} to {high:.0%}) of the"
        f" way from a random cluster ({found['dist_1_floor']:.2f}) to the best one ({found['dist_1_oracle']:.2f})"
    )
    if "misread_share" in found:
        said += f", and {found['misread_share']:.0%} for the {found['num_misread']} queries that the network misreads"
    if ours.of("cluster_lds") is not None:
        said += f"; its cluster LDS is {found['cluster_lds']:.2f}"
    rivals = [each for each in verdicts if each is not ours and each.method not in ABOVE and not each.note]
    if rivals and not ours.note:
        ahead, behind = (_clear(ours, rivals, sign) for sign in (-1, 1))
        said += (
            f". Of {len(rivals)} other methods without retraining, by Dist_1 {_named(ahead)} clearly ahead of it and"
            f" {_named(behind)} clearly behind"
        )
    return said + "."


def _clear(ours: Verdict, rivals: Sequence[Verdict], sign: int) -> list[str]:
    """Rivals whose Dist_1 on the same queries differs from ours in one direction by more than its interval."""
    found = []
    for each in rivals:
        difference = sign * (ours.chosen["dist_1"] - each.chosen["dist_1"])
        if bootstrap_interval(difference, torch.Generator().manual_seed(0))[0] > 0:
            found.append(each.name)
    return found


def _named(names: Sequence[str]) -> str:
    return "none is" if not names else f"{listed(names)} {'is' if len(names) == 1 else 'are'}"
