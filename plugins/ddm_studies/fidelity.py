"""How close each attribution method comes to exact retraining, with floor, ceiling and cost (Tables 1 and 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor

from ddm_framework import Chart, ComponentOf, Grid, Report, Section, Table, Text, Workspace, retrains, use
from ddm_framework.report import Block
from ddm_framework.truth import empirical_error_agreement
from ddm_studies.comparison.grids import decided, grid_section, judge_each, validation_networks
from ddm_studies.comparison.judging import SCALE, Judge, Verdict, apart, bounds, on_run_clusters, scoring_masks
from ddm_studies.comparison.measured import in_words
from ddm_studies.comparison.network_distances import WHOLE
from ddm_studies.comparison.options import AtLeastThree, Count, Resamples, Share
from ddm_studies.comparison.own_networks import own_networks
from ddm_studies.comparison.paper import listed
from ddm_studies.comparison.running import first_test_images, without_each

Methods = Annotated[list[Grid], ComponentOf("attributor"), Field(min_length=1)]
ABOVE = {"exact", "datamodel", "ddm_corrected"}
"""Methods that retrain networks for their answer; the report marks them as not competing."""

_RETRAINING = "exact, datamodel and ddm_corrected retrain networks: they show what is possible, and at what cost."
CHOSEN_FIRST = {
    "Dist_1": "dist_1",
    "95 % interval": "dist_1_interval",
    "share of the oracle": "recovered_share",
    "misread queries": "misread_share",
    "Dist_2": "dist_2",
    "Dist_3: rank": "dist_3_rank",
}
"""Figures of the cluster ranked first, by the title of their column."""
RANKING = {
    "cluster LDS": "cluster_lds",
    "95 % interval": "cluster_lds_interval",
    "LDS of sets": "set_lds",
    "Spearman": "spearman",
    "R²": "r2",
    "seconds once": "seconds_offline",
    "for all queries": "seconds_online",
}
"""Figures of the ranking of all clusters."""


@retrains(lambda options, clusters, _: clusters + options["masks"] + validation_networks(options))
def run(
    workspace: Workspace,
    /,
    *,
    methods: Methods = [use("ddm"), use("ddm_hard"), use("exact")],  # noqa: B006 - pydantic copies it
    queries: Literal["all"] | Count = "all",
    masks: AtLeastThree = 40,
    deleted: Share = 0.2,
    validation_masks: AtLeastThree = 20,
    resamples: Resamples = 2000,
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
    bank = without_each(workspace, workspace.partition)
    exact = next((verdict.figures for verdict in found if verdict.method == "exact"), {})
    own = _own_networks(workspace, judge)
    metrics = {
        **{verdict.name: verdict.figures for verdict in found},
        **bounds(found),
        "exact": {**exact, "seconds_offline": bank.seconds},  # the cost of the truth is that of its bank
        "networks": own,
    }
    return Report(
        sections=[
            _asked_section(workspace, judge, bank.seconds, deleted),
            _table_section(found),
            grid_section(settled),
            _networks_section(own),
        ],
        metrics={"fidelity": metrics},
        question="How close does each method come to exact retraining without the data?",
        tensors=per_query(judge, found),
        answer=_answer(found),
    )


def judge_of(workspace: Workspace, queries: Literal["all"] | int, masks: int, deleted: float, resamples: int) -> Judge:
    """The truth that methods are judged by; arguments are those of `run`."""
    asked = first_test_images(workspace, queries)
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
    asked = (
        f"For each of {len(judge.queries)} test images, each method ranks all {count} clusters of training data by"
        f" their influence. The network was then retrained exactly without each cluster ({count} networks,"
        f" {bank_seconds:.0f} seconds) and without a random {deleted:.0%} of them ({len(judge.perturbations)}"
        " networks), from the same initial weights and in the same batch order."
    )
    figures = (
        "Dist_1 (times 100) is how far the prediction really moves without the cluster ranked first, and Dist_2 is the"
        " loss without it. For Dist_3 the cluster should be the least influential one; as its values hardly differ, the"
        " cluster's rank is given. The share is the position between a random cluster (0) and the best one (1), for all"
        f" queries and for the {int(judge.misread.sum())} that the network misreads. LDS is the rank correlation, over"
        " the networks without random clusters, between the true margin and the sum of the estimated effects."
    )
    return Section("What was asked", [Text(asked), Text(figures)])


def _table_section(verdicts: list[Verdict]) -> Section:
    """The true effect of the top clusters with floor and ceiling, then the rankings of all clusters and their cost."""
    first = on_run_clusters(verdicts).figures
    choices = [[each.name, *each.cells(CHOSEN_FIRST.values())] for each in verdicts]
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
        notes.append(Text(_RETRAINING))
    share_of = [float(each.figures["recovered_share"]) for each in scored]
    lds = [float(each.figures["cluster_lds"]) for each in scored]
    caption = "The cluster ranked first, by the true effect of retraining without it"
    chosen_first = Table(["method", *CHOSEN_FIRST], choices, caption)
    chart = Chart("bar", {"share of the oracle's Dist_1": share_of, "cluster LDS": lds}, "method", "1 = all", x=names)
    ranked = Table(
        ["method", *RANKING, "settings"],
        [[each.name, *each.cells(RANKING.values()), each.settings] for each in verdicts],
        "The ranking of all clusters, its cost, and the settings of each method",
    )
    return Section("Methods, ranked", [chosen_first, chart, ranked, *notes])


def _networks_section(own: dict[str, float]) -> Section:
    said = (
        "The network fine-tuned on a cluster's synset is compared with the one retrained without the cluster. The mean"
        f" cosine between their displacements from the target is {own['displacement_cosine']:.3f}, and the median ratio"
        f" of their lengths, exact to estimated, is {own['displacement_ratio']:.2g}. Over the clusters, the estimated"
        " change of the mean loss on the queries has a correlation of"
        f" {own['empirical_error_pearson']:.2f} (Pearson) and {own['empirical_error_spearman']:.2f} (Spearman) with the"
        " exact change (Fig. 7)."
    )
    return Section("The estimated networks themselves", [Text(said)])


def _answer(verdicts: list[Verdict]) -> str:
    """The share of the distilled datamodel, and how many methods that do not retrain are clearly ahead or behind."""
    ours = next((verdict for verdict in verdicts if verdict.method == "ddm"), verdicts[0])
    found = ours.figures
    said = (
        f"By Dist_1 (x{SCALE}), {ours.name} recovers {in_words(found, 'recovered_share', '.0%')} of the"
        f" way from a random cluster ({found['dist_1_floor']:.2f}) to the best one ({found['dist_1_oracle']:.2f})"
    )
    if "misread_share" in found:
        said += f", and {found['misread_share']:.0%} for the {found['num_misread']} queries that the network misreads"
    if "cluster_lds" in found:
        said += f"; its cluster LDS is {found['cluster_lds']:.2f}"
    rivals = [each for each in verdicts if each is not ours and each.method not in ABOVE and not each.note]
    if rivals and not ours.note:
        outcomes = {each.name: apart(ours.chosen["dist_1"], each.chosen["dist_1"]).outcome() for each in rivals}
        ahead, behind = (
            [name for name, outcome in outcomes.items() if outcome == wanted] for wanted in ("does not hold", "holds")
        )
        said += (
            f". Of {len(rivals)} other methods without retraining, by Dist_1 {_named(ahead)} clearly ahead of it and"
            f" {_named(behind)} clearly behind"
        )
    return said + "."


def _named(names: Sequence[str]) -> str:
    return "none is" if not names else f"{listed(names)} {'is' if len(names) == 1 else 'are'}"
