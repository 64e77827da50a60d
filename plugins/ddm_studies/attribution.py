"""Attribution of predictions to clusters of training data."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from ddm_framework import Chart, Clusters, Pictures, Queries, Report, Section, Table, Text, Workspace, retrains
from ddm_framework.answers import search, search_each
from ddm_framework.online import Attribution, sides
from ddm_framework.report import Block, query_cards
from ddm_framework.runs import replayed_epochs
from ddm_framework.truth import amounts_of
from ddm_studies.comparison.grids import set_options
from ddm_studies.comparison.options import Count
from ddm_studies.comparison.running import cluster_name, first_test_images, need_validation


@retrains(lambda _options, _clusters, _classes: 0)
def run(
    workspace: Workspace,
    /,
    *,
    queries: Literal["all", "validation"] | Count = "all",
    show: Annotated[int, Field(ge=0, le=1_000_000)] = 20,
    sets: Literal["validation", "queries"] = "validation",
) -> Report:
    """Attribute queries to clusters by every objective of the recipe.

    Args:
        queries: all test images, a number to take only the first ones, or the validation split.
        show: number of queries shown with pictures, misclassified ones first.
        sets: images on which set-level objectives (Eq. 14) are measured, the validation split or the queries.
    Returns:
        The report; its tensors hold W and the intercept of each objective.
    Source: Sec. 3.3, Alg. 1, Eq. 7-11.
    """
    if queries == "validation":
        need_validation(workspace, "there is no query", ", or study.queries: all")
        asked = workspace.queries_of("validation")
    else:
        asked = first_test_images(workspace, queries)
    misread = _misread(workspace, asked)
    shown = torch.argsort(~misread, stable=True)[:show].tolist()  # misclassified queries first
    single, whole = _attributions(workspace, asked, sets, shown)
    sections = [_asked_section(workspace, asked), *(_set_section(attribution) for attribution in whole)]
    metrics: dict[str, Any] = {}
    if single:
        sections.append(_query_section(workspace, asked, single[0], shown))
        sections += _search_section(workspace, asked, single[0], shown)
        metrics = {**_agreements(workspace, asked, single), **_search_metrics(workspace, asked, single[0])}
    return Report(
        sections=[*sections, _synset_section(workspace)],
        metrics={"attribution": {"num_queries": len(asked), "num_misread": int(misread.sum()), **metrics}},
        tensors={key: each for index, a in enumerate([*single, *whole]) for key, each in _tensors(index, a).items()},
        question="Which training data made this network predict what it did, and what would it predict without them?",
        answer=_answer(workspace, misread, shown="top_class_agreement" in metrics and show > 0),
    )


def _attributions(
    workspace: Workspace, asked: Queries, sets: str, shown: list[int]
) -> tuple[list[Attribution], list[Attribution]]:
    """Attributions by the query-level objectives and by the set-level ones."""
    single = [
        workspace.attribution(asked, each, keep=shown)
        for each in workspace.objectives
        if not each.declaration.set_level
    ]
    set_level = [each for each in workspace.objectives if each.declaration.set_level]
    if not set_level:
        return single, []
    judged = asked
    if sets == "validation":
        need_validation(workspace, "no set-level objective can be measured")
        judged = workspace.queries_of("validation")
    return single, [workspace.attribution(judged, each) for each in set_level]


def _misread(workspace: Workspace, asked: Queries) -> Tensor:
    """Which queries the target misclassifies, bool (N,)."""
    assert asked.labels is not None
    return workspace.target_logits(asked.images).argmax(1) != asked.labels


def _agreements(workspace: Workspace, asked: Queries, single: list[Attribution]) -> dict[str, Any]:
    """Share of correctly classified queries whose top cluster is of the predicted class, by objective; NaN of none."""
    found: dict[str, Any] = {}
    for attribution in single:
        if attribution.matrix.shape[2] == 1:
            agreement = _agreement(workspace, asked, attribution)
            found.setdefault(attribution.objective.name, {})["top_class_agreement"] = agreement
    first: dict[str, Any] = next(iter(found.values()), {})
    return {**first, **found}


def _agreement(workspace: Workspace, asked: Queries, attribution: Attribution) -> float:
    assert asked.labels is not None
    predicted = workspace.target_logits(asked.images).argmax(1)
    # In parts: a ranking takes several times the memory of the effects.
    ranked = [attribution.objective.ranking(-part)[:, 0] for part in attribution.matrix.split(256)]
    top = torch.cat(ranked)
    same = workspace.partition.classes.cpu()[top] == predicted.cpu()
    return float(same[(predicted == asked.labels).cpu()].float().mean())


def _search_metrics(workspace: Workspace, asked: Queries, attribution: Attribution) -> dict[str, Any]:
    """Agreement between hierarchical and flat search over all queries, each searched separately."""
    if attribution.matrix.shape[2] != 1:
        return {}
    classes = workspace.partition.classes.cpu()
    found = search_each(workspace, asked, attribution.objective, attribution.effect)
    return {
        "hierarchical": {
            "same_class_as_flat": float((classes[found.flat] == found.label).float().mean()),
            "same_cluster_as_flat": float((found.flat == found.cluster).float().mean()),
            "num_finetunings": _networks_of_a_search(classes, found.label),
            "num_finetunings_flat": len(classes),
        }
    }


def _networks_of_a_search(classes: Tensor, found: Tensor) -> int | float:
    """One for each class and one for each cluster of the class that was found, mean over the queries."""
    sizes = classes.bincount()
    mean = float(sizes[found].double().mean()) + len(sizes)
    return int(mean) if mean.is_integer() else mean


def _asked_section(workspace: Workspace, asked: Queries) -> Section:
    names = ", ".join(each.name for each in workspace.objectives)
    told = (
        f"{len(asked)} images were attributed to {workspace.partition.num_clusters} clusters of training data, by"
        f" {names}. Networks without some clusters were not retrained but estimated by {_way(workspace)}."
    )
    return Section("What was asked", [Text(told)])


def _way(workspace: Workspace) -> str:
    """How networks without clusters are estimated, in words."""
    online, matching, epochs = workspace.recipe.online, workspace.recipe.matching, replayed_epochs(workspace)
    images = _counted(matching.images_per_cluster, "synthetic image")
    if online.start == "initial":
        return f"{_counted(online.steps, 'epoch')} from the untrained network on the {images} of each other cluster"
    along = {
        "synset": f"on the {images} of each of these clusters",
        "gradient": "along the real gradients of each of these clusters",
        "influence": "along what an influence function says of each of these clusters",
    }[online.direction]
    step = f"{_counted(online.steps, 'small step')} from the {{}} network {along}"
    if not epochs:
        return step.format("trained")
    end = "epoch" if epochs == 1 else f"{epochs} epochs"
    return f"{step.format('nearly trained')}, and by the last {end} of the training again, without their images"


def _counted(number: int, what: str) -> str:
    return f"one {what}" if number == 1 else f"{number} {what}s"


def _query_section(workspace: Workspace, asked: Queries, attribution: Attribution, shown: list[int]) -> Section:
    if attribution.matrix.shape[2] != 1:
        told = f"Objective {attribution.objective.name} has no single rank; see W in online/."
        return Section("Queries", [Text(told)])
    cards = []
    if shown:
        matrix, amounts = workspace.prediction_matrix(asked, shown), amounts_of(workspace, asked, shown)
        cards = query_cards(workspace, asked, attribution, matrix, shown, amounts)
    wrong = sum(card.alarm for card in cards)
    note = Text(f"{len(cards)} of {len(asked)} queries, misclassified ones first ({wrong} of these).")
    return Section("Queries", [note, *cards, _every_query(workspace, asked, attribution)])


def _every_query(workspace: Workspace, asked: Queries, attribution: Attribution) -> Table:
    """A row for each query: what was said, and the strongest cluster on either side."""
    assert asked.labels is not None
    names, classes = workspace.info.class_names, workspace.partition.classes.tolist()
    confidence, predicted = workspace.target_logits(asked.images).softmax(1).max(1)
    rows: list[list[str | int | float | None]] = []
    for position, (name, label) in enumerate(zip(asked.ids, asked.labels.tolist(), strict=True)):
        found = sides(attribution, position)
        both = ([], []) if found is None else (found.made, found.against)
        strongest = [f"{names[classes[each[0]]]} · {each[0]}" if each else None for each in both]
        said = names[int(predicted[position])]
        rows.append([name, said, names[label], round(float(confidence[position]), 4), *strongest])
    columns = ["query", "predicted", "labelled", "probability", "cluster that made it say this", "cluster against it"]
    alarms = (predicted != asked.labels).tolist()
    return Table(columns, rows, "Every query", alarms, [str(row[1]) for row in rows])


def _search_section(workspace: Workspace, asked: Queries, attribution: Attribution, shown: list[int]) -> list[Section]:
    """Hierarchical search by class and then by cluster, for one query and for a batch (Eq. 11)."""
    if attribution.matrix.shape[2] != 1 or not shown:
        return []
    assert asked.labels is not None
    objective, names = attribution.objective, workspace.info.class_names
    first = torch.tensor(shown[:1])
    label = int(asked.labels[shown[0]])
    batch = (asked.labels == label).nonzero()[:, 0].cpu()
    rows: list[list[str | int | float | None]] = []
    for what, index in ((asked.ids[shown[0]], first), (f"all {len(batch)} labelled {names[label]}", batch)):
        found = search(workspace, asked.take(index), objective)
        flat = int(objective.ranking(-attribution.matrix[index].mean(0, keepdim=True))[0, 0])
        cost = (found.num_finetunings, flat, attribution.matrix.shape[1])
        rows.append([what, names[found.label], found.cluster, *cost])
    told = "The class is found first, with the class-wise synset, then the cluster within it."
    columns = ["class found", "cluster found", "fine-tunings", "flat search's cluster", "its fine-tunings"]
    return [Section("Hierarchical search", [Text(told), Table(["searched for", *columns], rows)])]


def _set_section(attribution: Attribution) -> Section:
    """Clusters ranked by the effect of their deletion on a whole set."""
    objective = attribution.objective
    told = f"{objective.name} ({set_options(objective.choice)}) of the target"
    effect = attribution.effect[0, :, 0]
    ranking = objective.ranking(attribution.effect)[0].tolist()
    chart = Chart("bar", {"effect": effect[ranking].tolist()}, "cluster, ranked", f"change of {objective.name}")
    return Section(
        f"A whole set: {objective.name}",
        [
            Text(f"{told}: {float(attribution.target_behaviour[0, 0]):.4g}."),
            Clusters("deletion hurts most", ranking[:8], effect[ranking[:8]].tolist()),
            Clusters("deletion helps most, or hurts least", ranking[::-1][:8], effect[ranking[::-1][:8]].tolist()),
            chart,
        ],
    )


def _synset_section(workspace: Workspace) -> Section:
    """Synthetic images beside real ones, and how well each cluster was matched."""
    synset, partition, info = workspace.synset, workspace.partition, workspace.info
    shown = range(min(info.num_classes, 10))
    firsts = [int(partition.of_class(label)[0]) for label in shown]
    real = torch.stack([workspace.data.train.images[partition.members(cluster)[0]] for cluster in firsts]).cpu()
    pairs = torch.stack([real, synset.images[firsts, 0].cpu()], 1).flatten(0, 1)
    class_wise = torch.stack([real, workspace.class_synset.images[list(shown), 0].cpu()], 1).flatten(0, 1)
    names = [cluster_name(workspace, cluster) for cluster in firsts]
    reverse = workspace.recipe.matching.direction == "reverse"
    beside = (
        "A real member of a cluster, and the synthetic image whose gradient"
        f" {'reverses' if reverse else 'replaces'} that of the cluster"
    )
    matched = (
        f"Cosine of the synthetic with the {'reversed ' if reverse else ''}real gradient: mean"
        f" {float(synset.cosine.mean()):.3f} over {partition.num_clusters} clusters,"
        f" {float(workspace.class_synset.cosine.mean()):.3f} class-wise."
    )
    worst = Table(
        ["class", "cluster", "images", "cosine"],
        [
            [info.class_names[int(partition.classes[c])], c, int(partition.sizes[c]), float(synset.cosine[c])]
            for c in synset.cosine.argsort()[:5].tolist()
        ],
        "The clusters matched worst",
    )
    cosines, caption = {"cosine": synset.cosine.tolist()}, "Matching, cluster by cluster"
    blocks: list[Block] = [
        Pictures(pairs, names, beside, group=2),
        Pictures(class_wise, list(info.class_names[:10]), "The same for each class as a whole", group=2),
        Text(matched),
        Chart("bar", cosines, "cluster", "cosine", caption=caption),
        worst,
    ]
    return Section("The synset and how well it matches", blocks)


def _tensors(index: int, attribution: Attribution) -> dict[str, Tensor]:
    name = f"{index}.{attribution.objective.name}"
    return {f"{name}.matrix": attribution.matrix.float(), f"{name}.intercept": attribution.intercept.float()}


def _answer(workspace: Workspace, misread: Tensor, *, shown: bool) -> str:
    said = f"The network misreads {int(misread.sum())} of {len(misread)} queries. "
    if not shown:
        return f"{said}{workspace.partition.num_clusters} clusters were attributed; see below."
    said += (
        "Below, misread ones first, are the clusters that made the network say what it said, and those that spoke"
        " against it, by this estimate. "
    )
    if workspace.recipe.certificate.singles:
        return f"{said}Amounts stand beside them with their intervals; the certificate says how good they are."
    if workspace.recipe.certificate.retrainings:
        return f"{said}The certificate says how far their order can be trusted."
    return f"{said}A certificate (certificate.retrainings: 8) would say how far their order can be trusted."
