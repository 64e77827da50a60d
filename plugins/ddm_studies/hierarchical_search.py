"""Hierarchical search by class and then by cluster, for one image and for a batch: results and savings (Fig. 6)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from ddm_framework import (
    Chart,
    Clusters,
    Objective,
    Pictures,
    Queries,
    Report,
    Section,
    Table,
    Text,
    Workspace,
    retrains,
)
from ddm_framework.answers import Found, FoundEach, effects, search, search_each
from ddm_studies.comparison.intervals import median_interval
from ddm_studies.comparison.measured import Measured, Stored, between, bootstrapped, in_words, outcome_of
from ddm_studies.comparison.options import AtLeastTwo, Count, Resamples
from ddm_studies.comparison.paper import Claim, Compared, Comparison, Findings, sizes
from ddm_studies.comparison.running import first_test_images, images_of_classes, known_class, seconds_of

Label = Annotated[int, Field(ge=0, le=1_000_000)]
CLAIMED = {"cifar10": (100, 10, 5.0), "cifar100": (1000, 100, 10.0)}
"""K, L and the speedup of the search that Sec. 6.2 claims."""
SHOWN = 16
PAPERS_CLASSES = (5, 2)
"""Classes of the one image and of the batch in the paper."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One search.

    Attributes:
        words: description of the queries.
        label: class of the queries.
        queries: one or more.
        found: result of the hierarchical search.
        flat: the cluster that the flat search over all clusters finds.
    """

    words: str
    label: int
    queries: Queries
    found: Found
    flat: int


@retrains(lambda _options, _clusters, _classes: 0)
def run(
    workspace: Workspace,
    /,
    *,
    query_class: Label | None = None,
    batch_class: Label | None = None,
    batch: Count = 256,
    queries: Literal["all"] | AtLeastTwo = 500,
    repeats: Annotated[int, Field(ge=6, le=1_000_000)] = 7,
    column: Literal["cifar10", "cifar100"] | None = None,
    resamples: Resamples = 2000,
) -> Report:
    """Search by class and then by cluster for one image and for a batch, by Dist_1, and compare with the flat search.

    Args:
        query_class: the one image is the first test image of this class; by default 5, as in the paper, or the last
            class if there are fewer.
        batch_class: the batch consists of test images of this class; by default 2, as in the paper, or the last class
            if there are fewer.
        batch: number of images in the batch, at most.
        queries: test images for comparing the two searches one by one: all, or a number to take only the first ones.
        repeats: number of time measurements; their median is reported.
        column: data set whose saving claimed in Sec. 6.2 is shown beside ours; by default the recipe's, if Sec. 6.2 has
            it.
        resamples: of each bootstrap interval, over queries.
    Raises:
        DDMError: if a class does not exist or has no test image.
    Source: Fig. 6, Sec. 8.1; Sec. 6.2, Eq. 11.
    """
    objective = workspace.objective("output_shift")
    given = zip((query_class, batch_class), PAPERS_CLASSES, strict=True)
    one_class, many_class = (known_class(workspace, label, papers) for label, papers in given)
    one = _asked(workspace, objective, "one image", one_class, 1)
    many = _asked(workspace, objective, "a batch", many_class, batch)
    spent = _times(workspace, objective, one.queries, repeats)
    every = first_test_images(workspace, queries)
    each = search_each(workspace, every, objective, _flat_effects(workspace, every, objective))
    found = _figures(workspace, each, one.found, spent, resamples)
    claimed = CLAIMED.get(column or workspace.recipe.dataset.name)
    stored = {**found, "searches": _searches((one, many)), "claimed": claimed}
    return Comparison(
        "Fig. 6",
        "the class first, then the cluster within it",
        list(_compared((one, many), found, claimed)),
        findings({"hierarchical_search": stored}),
        f"{sizes(workspace)}, {len(every)} queries; Dist_1",
    ).report(
        "hierarchical_search",
        stored,
        "Does the search by class and then by cluster find the same as the flat search, and how much faster?",
        [_summary(workspace, (one, many))],
        [_search_section(workspace, one), _search_section(workspace, many)],
    )


def _asked(workspace: Workspace, objective: Objective, words: str, label: int, most: int) -> Asked:
    (chosen,) = images_of_classes(workspace, [label], most)
    asked = workspace.queries_of("test").take(chosen)
    flat = _flat_effects(workspace, asked, objective).mean(0, keepdim=True)
    top = int(objective.ranking(flat)[0, 0])
    counted = words if len(chosen) == 1 else f"{words} of {len(chosen)} images"
    words = f"{counted} of class {workspace.info.class_names[label]}"
    return Asked(words, label, asked, search(workspace, asked, objective), top)


def _flat_effects(workspace: Workspace, queries: Queries, objective: Objective) -> torch.Tensor:
    """Effects of deleting each of all K clusters, (N, K, 1)."""
    every = torch.arange(workspace.partition.num_clusters)
    return effects(workspace, queries, objective, "cluster", every)


def _times(workspace: Workspace, objective: Objective, queries: Queries, repeats: int) -> dict[str, list[float]]:
    """Seconds of each search for one query, measured in turns so that other load on the machine affects both."""
    tasks: dict[str, Callable[[], object]] = {
        "flat": lambda: _flat_effects(workspace, queries, objective),
        "hierarchical": lambda: search(workspace, queries, objective),
    }
    spent: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats):
        for name, task in tasks.items():
            spent[name].append(seconds_of(task))
    return spent


def _figures(
    workspace: Workspace, each: FoundEach, found: Found, spent: Mapping[str, Sequence[float]], resamples: int
) -> dict[str, Any]:
    """Agreement over the queries, and the saving in fine-tunings and in seconds."""
    random, classes = workspace.generator("bootstrap", "search"), workspace.partition.classes.cpu()
    same = {"class": classes[each.flat] == each.label, "cluster": each.flat == each.cluster}
    agreement: dict[str, Any] = {}
    for name, values in same.items():
        agreement |= bootstrapped(values.double(), random, resamples=resamples).metrics(f"same_{name}")
    seen = each.label.unique()
    saved = [flat / quick for flat, quick in zip(spent["flat"], spent["hierarchical"], strict=True)]
    return {
        **agreement,
        "num_queries": len(each.label),
        "num_finetunings": found.num_finetunings,
        "num_finetunings_flat": len(classes),
        "num_finetunings_all_queries": len(workspace.class_synset) + int(torch.isin(classes, seen).sum()),
        "saving": len(classes) / found.num_finetunings,
        "seconds": median(spent["hierarchical"]),
        "seconds_flat": median(spent["flat"]),
        **Measured(median(saved), median_interval(saved)).metrics("saving_seconds"),
    }


def _compared(searches: Sequence[Asked], found: Stored, claimed: tuple[int, int, float] | None) -> Iterator[Compared]:
    drawn = "the paper shows it in a chart without figures"
    for asked in searches:
        own, same = asked.found.label == asked.label, asked.found.cluster == asked.flat
        yield Compared(asked.words, "class found is its own, 1 = yes", float(own), note=drawn)
        yield Compared(asked.words, "cluster found is the flat search's", float(same))
    every = f"{found['num_queries']} queries, one by one"
    yield Compared.read(every, "cluster found is the flat search's, share", found, "same_cluster")
    paper, note = (None, "") if claimed is None else (claimed[2], f"the paper's is for {claimed[0]:,} clusters")
    yield Compared("one search", "fewer fine-tunings, K / (C + L)", found["saving"], paper, note=note)
    yield Compared.read("one search", "times faster", found, "saving_seconds", paper, note)


def findings(metrics: Stored) -> Findings:
    """The verdicts of Fig. 6 and Sec. 6.2, and what cannot be compared, from the entry of metrics.json."""
    found = metrics["hierarchical_search"]
    return Findings(list(_sentences(found)), list(_claims(found)))


def _claims(found: Stored) -> Iterator[Claim]:
    """That both searches end in the class of their queries, and that the search is faster."""
    ended = [asked["class"] == asked["class_found"] for asked in found["searches"]]
    measured = f"{sum(ended)} of {len(ended)} searches, by DDM's estimates"
    yield Claim(
        "one image and a batch are traced to their own class", measured, "holds" if all(ended) else "does not hold"
    )
    quicker = outcome_of(found["saving_seconds_interval"], 1)
    yield Claim("a search by class and then by cluster is faster than a flat one", _times_as_fast(found), quicker)


def _times_as_fast(found: Stored) -> str:
    interval = between(found["saving_seconds_interval"], ".1f")
    return f"{found['saving_seconds']:.1f} times as fast ({interval})"


def _sentences(found: Stored) -> Iterator[str]:
    yield (
        f"The search by class and then by cluster finds the same cluster as DDM's own flat search for"
        f" {in_words(found, 'same_cluster', '.0%')} of {found['num_queries']} queries; neither is compared with"
        " retraining here."
    )
    yield _traced(found["searches"])
    yield _saved(found) + ("" if found["claimed"] is None else f" {_claimed(*found['claimed'])}")
    yield _together(found)


def _traced(searches: Sequence[Stored]) -> str:
    """Whether the searches end in the class of their queries, as in Fig. 6."""
    astray = [asked["asked"] for asked in searches if asked["class"] != asked["class_found"]]
    if not astray:
        return f"As in Fig. 6, {' and '.join(asked['asked'] for asked in searches)} are traced to their own classes."
    return f"Unlike in Fig. 6, not traced to the own class: {' and '.join(astray)}."


def _saved(found: Stored) -> str:
    """Whether one search saves fine-tunings and time; with few clusters in each class it saves neither."""
    timed = f"{_times_as_fast(found)} as the flat search"
    counted = f"{found['num_finetunings']} fine-tunings instead of {found['num_finetunings_flat']}"
    if found["saving"] <= 1:
        return f"One search saves nothing ({counted}); this needs more clusters in each class."
    if found["saving_seconds_interval"][0] <= 1:
        return f"One search does not measurably save time: it is {timed}, with {counted}."
    return f"One search is {timed}, with {found['saving']:.1f} times fewer fine-tunings ({counted})."


def _claimed(num_clusters: int, num_classes: int, times: float) -> str:
    """Whether the paper's claimed saving agrees with its own numbers."""
    counted = num_clusters / (num_classes + num_clusters / num_classes)
    same = abs(counted - times) < 0.05
    return (
        f"The paper claims {times:g} times for {num_clusters:,} clusters in {num_classes} classes and gives no seconds;"
        f" its K / (C + L) is {counted:.1f}{'' if same else ', rounded up'}."
    )


def _together(found: Stored) -> str:
    """What remains of the saving for many queries at once."""
    visited, flat = found["num_finetunings_all_queries"], found["num_finetunings_flat"]
    verdict = "which saves nothing" if visited >= flat else f"a saving of {flat / visited:.1f} times"
    return (
        f"This saving is that of one search only: for all {found['num_queries']} queries together, the search visits so"
        f" many classes that it takes {visited} fine-tunings, {verdict}, while the flat search still takes {flat}."
    )


def _summary(workspace: Workspace, searches: Sequence[Asked]) -> Table:
    names = workspace.info.class_names
    return Table(
        ["searched for", "class found", "cluster found", "flat search's cluster", "fine-tunings"],
        [
            [asked.words, names[asked.found.label], asked.found.cluster, asked.flat, asked.found.num_finetunings]
            for asked in searches
        ],
        "The two searches of Fig. 6",
    )


def _search_section(workspace: Workspace, asked: Asked) -> Section:
    """The queries, both steps as bar charts, and the real members of the cluster found."""
    names, found = workspace.info.class_names, asked.found
    clusters = workspace.partition.of_class(found.label).tolist()
    values = found.cluster_effect.tolist()
    shown = asked.queries.images[: min(SHOWN, len(asked.queries))].cpu()
    effect = values[clusters.index(found.cluster)]
    return Section(
        f"{asked.words[0].upper()}{asked.words[1:]}",
        [
            Pictures(shown, list(asked.queries.ids[: len(shown)]), f"{len(shown)} of {len(asked.queries)} queries"),
            Chart("bar", {"class-wise": found.class_effect.tolist()}, "class deleted", "Dist_1", list(names)),
            Text(f"The class is {names[found.label]}; within it:"),
            Chart("bar", {"cluster-wise": values}, "cluster deleted", "Dist_1", [str(each) for each in clusters]),
            Clusters(f"the cluster found, {found.cluster}", [found.cluster], [effect]),
        ],
    )


def _searches(searches: Sequence[Asked]) -> list[dict[str, Any]]:
    return [
        {
            "asked": asked.words,
            "class": asked.label,
            "class_found": asked.found.label,
            "cluster_found": asked.found.cluster,
            "cluster_flat": asked.flat,
            "class_effect": asked.found.class_effect.tolist(),
            "cluster_effect": asked.found.cluster_effect.tolist(),
        }
        for asked in searches
    ]
