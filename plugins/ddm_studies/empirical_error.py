"""Errors and displacements of the estimated networks, compared with exactly retrained ones (Fig. 7)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from ddm_framework import Chart, Report, Section, Table, Text, Workspace, retrains
from ddm_framework.truth import agreement_interval, empirical_error_agreement
from ddm_studies.comparison.judging import Judge
from ddm_studies.comparison.measured import Measured, Stored, bootstrapped, in_words, outcome_of
from ddm_studies.comparison.network_distances import WHOLE
from ddm_studies.comparison.options import AtLeastTwo, Resamples
from ddm_studies.comparison.own_networks import OwnNetworks, estimated_distances, own_networks
from ddm_studies.comparison.paper import Claim, Compared, Comparison, Findings, sizes
from ddm_studies.comparison.running import cluster_name, first_test_images

MOST_ROWS = 50
"""Number of clusters in the table; metrics.json holds all."""
SCALES = {
    "common": "one step length for all clusters",
    "cluster_share": "steps proportional to the clusters' shares of the training gradient",
}
"""The values of `online.scale`, in words."""
SYMMETRICAL = 0.5
"""Correlation from which two curves are called roughly symmetrical."""
TINY = torch.finfo(torch.float64).tiny
STILL = 1e-3
"""Relative spread below which distances count as equal: rounding of the weights alone can make them differ."""


@retrains(lambda _options, clusters, _classes: clusters)
def run(
    workspace: Workspace, /, *, queries: Literal["all"] | AtLeastTwo = "all", resamples: Resamples = 2000
) -> Report:
    """Compare the network fine-tuned on each cluster's synset with the one retrained exactly without the cluster.

    Networks are estimated as set in the recipe's `online`. Whether the length of their displacement ranks the clusters
    is measured for both values of `online.scale`, `common` and `cluster_share`, whichever the recipe has. With
    `online.start: initial`, which takes no such step, it is not measured.

    Args:
        queries: test images on which errors are measured: all, or a number to take only the first ones.
        resamples: of each bootstrap interval, over clusters.
    Source: Fig. 7, Sec. 8.3; Sec. 9.4 for the distances between networks.
    """
    asked = first_test_images(workspace, queries)
    own = own_networks(workspace, Judge(workspace, asked, resamples=resamples))
    steps = workspace.recipe.online.start == "target"
    by_scale = {scale: estimated_distances(workspace.with_online(scale=scale)) for scale in SCALES} if steps else {}
    found = _figures(workspace, own, by_scale, resamples)
    stored = {**found, "num_queries": len(asked), "clusters": _by_cluster(own, by_scale)}
    return Comparison(
        "Fig. 7",
        "the empirical error without each cluster, estimated and exact",
        list(_compared(found)),
        findings({"empirical_error": stored}),
        f"{sizes(workspace)}, {len(asked)} test images",
    ).report(
        "empirical_error",
        stored,
        "Does the network estimated without a cluster make the same errors as the one retrained without it?",
        [_chart(own, found["scale"])],
        [_table_section(workspace, own, found["error"]), _distances_section(found)],
    )


def _figures(
    workspace: Workspace, own: OwnNetworks, by_scale: Mapping[str, Mapping[str, Tensor]], resamples: int
) -> dict[str, Any]:
    random = workspace.generator("bootstrap", "empirical_error")
    found: dict[str, Any] = {
        "loss": _agreement(own.loss, own.exact_loss, random, resamples),
        "error": _agreement(own.error, own.exact_error, random, resamples),
        "scale": _scale(own.loss, own.exact_loss),
        "distances": {},
    }
    for layer, exact in own.exact_distance.items():
        figures: dict[str, Any] = {
            scale: _distance_figures(estimated[layer], exact, random, resamples)
            for scale, estimated in by_scale.items()
        }
        figures |= bootstrapped(own.cosine[layer], random, resamples=resamples).metrics("cosine")
        figures["ratio"] = float((exact / own.distance[layer].clamp_min(TINY)).median())
        found["distances"][layer] = figures
    return found


def _agreement(estimated: Tensor, exact: Tensor, random: torch.Generator, resamples: int) -> dict[str, Any]:
    """Both correlations over the clusters, with intervals; None where either side is the same for all clusters."""
    if any(bool((each == each[0]).all()) for each in (estimated, exact)):
        return Measured(None).metrics("pearson") | Measured(None).metrics("spearman")
    agreed = empirical_error_agreement(estimated, exact)
    pearson, spearman = agreement_interval(estimated, exact, random, resamples=resamples)
    return Measured(agreed.pearson, pearson).metrics("pearson") | Measured(agreed.spearman, spearman).metrics(
        "spearman"
    )


def _scale(estimated: Tensor, exact: Tensor) -> float | None:
    """Spread of the exact changes divided by that of the estimated ones; None where one of them is constant."""
    spread, wider = float(estimated.std()), float(exact.std())
    return wider / spread if spread > 0 and wider > 0 else None


def _distance_figures(estimated: Tensor, exact: Tensor, random: torch.Generator, resamples: int) -> dict[str, Any]:
    """Agreement of the estimated and the exact distances over the clusters, unless one of them is constant."""
    if any(float(each.std()) <= STILL * float(each.mean()) for each in (estimated, exact)):
        return {"constant": True}
    return {"constant": False, **_agreement(estimated, exact, random, resamples)}


def _compared(found: Stored) -> Iterator[Compared]:
    for name, words in (("loss", "mean test loss"), ("error", "share misclassified")):
        for figure in ("pearson", "spearman"):
            if found[name][figure] is not None:
                title = f"{figure.capitalize()}, DDM with exact"
                yield Compared.read(f"change of the {words}", title, found[name], figure)
    if found["scale"] is not None:
        yield Compared("change of the mean test loss", "spread, exact / DDM", found["scale"])
    whole = found["distances"][WHOLE]
    yield Compared.read("displacement", "cosine, DDM with exact", whole, "cosine")
    yield Compared("displacement", "length, exact / DDM, median", whole["ratio"])
    for scale in SCALES:
        each = whole.get(scale)
        if each and not each["constant"]:
            yield Compared.read(f"distance, scale {scale}", "Spearman, DDM with exact", each, "spearman")


def findings(metrics: Stored) -> Findings:
    """The verdicts of Fig. 7 and Sec. 9.4, and what cannot be compared, from the entry of metrics.json."""
    found = metrics["empirical_error"]
    return Findings(list(_sentences(found)), list(_claims(found["loss"])))


def _claims(loss: Stored) -> Iterator[Claim]:
    """That the curves are roughly symmetrical, which we read as a correlation above one half."""
    claim = "the curves of DDM and of exact unlearning are roughly symmetrical"
    if loss["pearson"] is None:
        yield Claim(claim, "one of the curves is constant", "cannot be tested at this size")
        return
    measured = f"correlation {in_words(loss, 'pearson')}, symmetrical from {SYMMETRICAL:g} on"
    yield Claim(claim, measured, outcome_of(loss["pearson_interval"], SYMMETRICAL))


def _sentences(found: Stored) -> Iterator[str]:
    yield _symmetry(found["loss"])
    yield (
        f"The exact change is drawn flipped and {_times(found['scale'])}. The paper gives no figure of its scaling, of"
        " the agreement or of the images used, so figures cannot be compared: equal spreads and the"
        f" {found['num_queries']} test images are our choice."
    )
    yield _on_distances(found["distances"][WHOLE])
    yield from _on_ranks(found["distances"][WHOLE])


def _symmetry(loss: Stored) -> str:
    said = "The paper calls the curves of DDM and of exact unlearning roughly symmetrical; "
    if loss["pearson"] is None:
        return f"{said}here one of them is constant, so there is no correlation."
    interval = loss["pearson_interval"]
    reads = {
        "holds": "they are roughly symmetrical here as well",
        "does not hold": f"here they are {'hardly' if interval[0] > 0 else 'not measurably'} symmetrical",
        "not told": "whether they are so here is not told",
    }[outcome_of(interval, SYMMETRICAL)]
    return f"{said}{reads}: correlation {in_words(loss, 'pearson')}, of ranks {loss['spearman']:.2f}."


def _times(scale: float | None) -> str:
    if scale is None:
        return "unscaled (one of the curves is constant)"
    return f"{1 / scale:.3g} times as large" if scale >= 1 else f"{1 / scale:.2f} times as large"


def _on_distances(whole: Stored) -> str:
    """Whether estimated displacements have the direction and length of the exact ones (Sec. 9.4)."""
    return (
        "In weights (Sec. 9.4), the displacement estimated by DDM has a mean cosine of"
        f" {in_words(whole, 'cosine', '.3f')} with the exact one, which is {whole['ratio']:,.0f} times as long in the"
        " median; the paper gives no figure for this."
    )


def _on_ranks(whole: Stored) -> Iterator[str]:
    """Whether estimated distances rank the clusters as the exact ones do, for each scale of the step."""
    parts = [
        f"with {step} "
        + (
            "all distances are equal and rank nothing"
            if whole[scale]["constant"]
            else in_words(whole[scale], "spearman")
        )
        for scale, step in SCALES.items()
        if scale in whole
    ]
    if parts:
        yield f"Rank correlation over the clusters between the estimated and the exact distances: {'; '.join(parts)}."


def _chart(own: OwnNetworks, scale: float | None) -> Chart:
    """The chart of Fig. 7: the exact change is flipped, and scaled to the spread of the estimated one."""
    factor = 1 / scale if scale else 1.0
    series = {"DDM": own.loss.tolist(), "exact, scaled and flipped": (-factor * own.exact_loss).tolist()}
    caption = f"Change of the mean test loss; the exact one times {-factor:.3g}. Mirror images are a perfect estimate"
    return Chart("line", series, "cluster deleted", "change of the loss, nats", caption=caption)


def _table_section(workspace: Workspace, own: OwnNetworks, error: Stored) -> Section:
    """Unscaled changes for the clusters with the largest exact effects."""
    partition, columns = workspace.partition, (own.loss, own.exact_loss, own.error, own.exact_error)
    order = own.exact_loss.abs().argsort(descending=True, stable=True)[:MOST_ROWS].tolist()
    table = Table(
        ["without", "images", "loss, DDM", "loss, exact", "error, DDM", "error, exact"],
        [
            [cluster_name(workspace, each), int(partition.sizes[each]), *(float(column[each]) for column in columns)]
            for each in order
        ],
        f"{len(order)} of {partition.num_clusters} clusters, by the exact change of the loss",
    )
    return Section("Unscaled, cluster by cluster", [*_no_correlation(error), table])


def _no_correlation(error: Stored) -> list[Text]:
    """Why the comparison has no row for the share misclassified, where it has none."""
    if error["pearson"] is not None:
        return []
    said = (
        "The share misclassified has no correlation: by DDM, by exact retraining or by both it changes equally for"
        " every cluster, for example where no prediction changes at all."
    )
    return [Text(said)]


def _distances_section(found: Stored) -> Section:
    told = (
        "‖θ_κ − θ_τ‖ of the network without cluster κ, estimated and exact, as an objective over the weights that needs"
        " no images (Sec. 9.4). Ranks: Spearman's correlation over the clusters; a dash where all distances are equal,"
        " or where networks are trained on the synset from θ_0."
    )
    rows = [
        [layer, each["cosine"], each["ratio"], *(each.get(scale, {}).get("spearman") for scale in SCALES)]
        for layer, each in found["distances"].items()
    ]
    columns = ["layer", "cosine", "length, exact / DDM", "ranks, common step", "ranks, step by share"]
    return Section("Distances between networks", [Text(told), Table(columns, rows)])


def _by_cluster(own: OwnNetworks, by_scale: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Sequence[float]]:
    return {
        "loss": own.loss.tolist(),
        "exact_loss": own.exact_loss.tolist(),
        "error": own.error.tolist(),
        "exact_error": own.exact_error.tolist(),
        "distance": own.distance[WHOLE].tolist(),
        **{f"distance_{scale}": estimated[WHOLE].tolist() for scale, estimated in by_scale.items()},
        "exact_distance": own.exact_distance[WHOLE].tolist(),
        "cosine": own.cosine[WHOLE].tolist(),
    }
