"""How close each attribution method comes to exact retraining, with floor, ceiling and cost (Tables 1 and 2)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from ddm_framework import Report, Section
from ddm_framework.plugin import ComponentOf, Grid, use
from ddm_framework.report import Block, Chart, Table, Text
from ddm_framework.runs import Workspace
from ddm_framework.truth import empirical_error_agreement
from ddm_studies.comparison.grids import decided, grid_section, judge_each
from ddm_studies.comparison.judging import SCALE, Judge, Verdict, on_run_clusters, scoring_masks
from ddm_studies.comparison.network_distances import WHOLE
from ddm_studies.comparison.own_networks import own_networks

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
    asked = workspace.queries_of("test", None if queries == "all" else queries)
    judge = Judge(workspace, asked, scoring_masks(workspace, masks, deleted, "scoring"), resamples)
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
        answer=_answer(found),
    )


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
                " and the best one (1). LDS is the rank correlation, over the networks without random clusters, between"
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
        choices.append([name, first[f"dist_1_{bound}"], "", share, first[f"dist_2_{bound}"], rank])
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
                ["method", "Dist_1", "95 % interval", "share of the oracle", "Dist_2", "Dist_3: rank"],
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
    return [verdict.name, found["dist_1"], interval, share, loss, rank]


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
    ours = next((verdict for verdict in verdicts if verdict.method == "ddm"), verdicts[0])
    rivals = [each for each in verdicts if each.method not in {ours.method, *ABOVE} and not each.name.startswith("ddm")]
    found = ours.figures
    said = (
        f"By Dist_1 (x{SCALE}), {ours.name} recovers {found['recovered_share']:.0%} of the way from a random cluster"
        f" ({found['dist_1_floor']:.2f}) to the best one ({found['dist_1_oracle']:.2f})"
    )
    if ours.of("cluster_lds") is not None:
        said += f" and reaches a cluster LDS of {found['cluster_lds']:.2f}"
    if rivals:
        best = rivals[0]
        said += f"; the best other method without retraining, {best.name}, has {best.figures['recovered_share']:.0%}"
        said += f" and {best.figures['cluster_lds']:.2f}" if best.of("cluster_lds") is not None else ""
    return said + "."
