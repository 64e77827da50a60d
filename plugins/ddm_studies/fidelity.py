"""How near each attribution method comes to exact retraining, with floor, ceiling and cost (Tables 1 and 2)."""

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
"""Methods that pay with retrainings: what they reach is no rival's, and is marked so."""


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
    """Judge methods by exact retraining.

    Args:
        methods: each `{use: attributor, option: value}`; an option given as a list is a grid, whose best combination
            by cluster LDS on the validation bank is judged.
        queries: all test images, or the first so many.
        masks: networks without random clusters that score LDS.
        deleted: share of the clusters that each of them lacks.
        validation_masks: further ones, which decide between the settings of a grid on the validation split.
        resamples: of each bootstrap interval; of LDS, which is dearer, a tenth.
    Raises:
        DDMError: if a grid is asked for and there is no validation split.
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
        question="How near does each method come to what retraining without the data really does?",
        answer=_answer(found),
    )


def _bounds(verdicts: list[Verdict], bank_seconds: float) -> dict[str, Any]:
    """Floor and ceiling of the run's own clusters; the truth's cost is what its bank cost when it was made."""
    first = on_run_clusters(verdicts).figures
    distances = ("dist_1", "dist_2", "dist_3")
    exact = next((verdict.figures for verdict in verdicts if verdict.method == "exact"), {})
    return {
        "random": {each: first[f"{each}_floor"] for each in distances},
        "oracle": {each: first[f"{each}_oracle"] for each in distances},
        "exact": {**exact, "seconds_offline": bank_seconds},
    }


def _own_networks(workspace: Workspace, judge: Judge) -> dict[str, float]:
    """The estimated networks themselves beside the retrained ones: displacements, and the empirical error (Fig. 7)."""
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
                f"Each method names, for each of {len(judge.queries)} test images, the cluster of training data that"
                f" matters most, and ranks all {count}. The network was then really retrained without each cluster"
                f" ({count} networks, {bank_seconds:.0f} seconds) and without a random {deleted:.0%} of"
                f" them ({len(judge.perturbations)} networks), from the same start in the same batch order."
            ),
            Text(
                "Dist_1 (times 100) is how far the prediction really moves without the cluster named first; Dist_2 the"
                " loss there; Dist_3's cluster is to matter least, and as its values hardly differ, its rank is given."
                " The share is the way from a random cluster (0) to the best one (1). LDS is the rank correlation, over"
                " the networks without random clusters, of the true margin with the sum of the estimated effects."
            ),
        ],
    )


def _table_section(verdicts: list[Verdict]) -> Section:
    """Where first choices lead, with floor and ceiling; then how methods rank all clusters, and at what cost."""
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
            Text("exact and datamodel retrain for their answer: they show what can be reached, and its price.")
        )
    share_of = [float(each.figures["recovered_share"]) for each in scored]
    lds = [float(each.figures["cluster_lds"]) for each in scored]
    return Section(
        "Methods, ranked",
        [
            Table(
                ["method", "Dist_1", "95 % interval", "share of the oracle", "Dist_2", "Dist_3: rank"],
                choices,
                "The cluster named first, by what retraining without it really does",
            ),
            Chart("bar", {"share of the oracle's Dist_1": share_of, "cluster LDS": lds}, "method", "1 = all", x=names),
            Table(
                ["method", "cluster LDS", "95 % interval", "Spearman", "seconds once", "for all queries", "settings"],
                [_ranks_row(verdict) for verdict in verdicts],
                "The ranking of all clusters, its cost, and what each method was run with",
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
                "The network fine-tuned on a cluster's synset, beside the one retrained without the cluster: the cosine"
                f" of their displacements from the target is {own['displacement_cosine']:.3f} in the mean, and the true"
                f" one is {own['displacement_ratio']:.2g} times as long. Over the clusters, the change of the mean loss"
                f" on the queries correlates with the truth's by {own['empirical_error_pearson']:.2f} (Pearson) and"
                f" {own['empirical_error_spearman']:.2f} (Spearman); Fig. 7 draws this."
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
        said += f"; the best method without retraining beside it, {best.name}, {best.figures['recovered_share']:.0%}"
        said += f" and {best.figures['cluster_lds']:.2f}" if best.of("cluster_lds") is not None else ""
    return said + "."
