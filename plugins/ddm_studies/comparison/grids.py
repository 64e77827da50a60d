"""A small grid of settings for each method, decided on a validation bank: never on what is reported."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ddm_framework import DDMError, Section
from ddm_framework.online import leave_one_out
from ddm_framework.report import Table, Text
from ddm_framework.runs import Workspace
from ddm_framework.truth import cluster_lds
from ddm_studies.comparison.judging import Judge, Verdict, scoring_masks


@dataclass(frozen=True, slots=True)
class Settled:
    """A method with the settings that it is judged with.

    Attributes:
        name: of the method among the others, as `named` gives it.
        method: name of the attributor.
        options: its options.
        grid: every combination that was tried, and its LDS on the validation bank.
    """

    name: str
    method: str
    options: dict[str, Any]
    grid: tuple[tuple[dict[str, Any], float], ...] = ()

    def in_words(self) -> str:
        """The settings, and among how many they were chosen."""
        words = ", ".join(f"{name} {value}" for name, value in self.options.items()) or "defaults"
        return f"{words} (best of {len(self.grid)})" if self.grid else words


def decided(workspace: Workspace, methods: Sequence[Mapping[str, Any]], masks: int, deleted: float) -> list[Settled]:
    """Settings of all methods; grids are decided on the validation split and on random deletions of its own.

    Args:
        workspace: the run.
        methods: each `use` and options; an option given as a list is a grid.
        masks: networks without random clusters, which are retrained only if there is a grid.
        deleted: share of the clusters that each of them lacks.
    Raises:
        DDMError: if a grid is asked for and there is no validation split.
    """
    asked = workspace.queries_of("validation")
    grid = any(isinstance(value, list) for each in methods for value in each.values())
    if grid and len(asked) == 0:
        raise DDMError("the validation split is empty, so no grid can be decided; set dataset.validation")
    whole = leave_one_out(workspace.partition.num_clusters)[:0]
    judge = Judge(workspace, asked, scoring_masks(workspace, masks, deleted, "validation") if grid else whole)
    with workspace.display.bar("settings on the validation bank", len(methods)) as advance:
        found = []
        for each in settle(workspace, judge, methods):
            found.append(each)
            advance()
    return found


def judge_each(judge: Judge, settled: Sequence[Settled]) -> list[Verdict]:
    """Of all methods, in their order."""
    with judge.workspace.display.bar("methods", len(settled)) as advance:
        found = []
        for each in settled:
            found.append(judge.verdict(each.name, each.method, each.in_words(), each.options))
            advance()
    return found


def grid_section(settled: Sequence[Settled]) -> Section:
    """For the report: every combination that was tried."""
    rows: list[list[str | int | float | None]] = [
        [each.name, ", ".join(f"{key} {value}" for key, value in options.items()), score]
        for each in settled
        for options, score in each.grid
    ]
    asked = Text(
        "Settings in a list were decided by cluster LDS on the validation split and on random deletions of its own;"
        " neither the queries nor the networks of the table took part."
    )
    return Section("How settings were decided", [asked, Table(["method", "settings", "validation LDS"], rows)])


def combinations(options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every choice of one value from each option that is given as a list."""
    listed = [value if isinstance(value, list) else [value] for value in options.values()]
    for values in itertools.product(*listed):
        yield dict(zip(options, values, strict=True))


def settle(workspace: Workspace, judge: Judge, methods: Sequence[Mapping[str, Any]]) -> Iterator[Settled]:
    """Settings of each method: as given, or the best of its grid by cluster LDS on the validation bank.

    Args:
        workspace: the run.
        judge: of the validation queries and masks.
        methods: each `use` and options; an option given as a list is a grid.
    """
    for name, method in zip(named(methods), methods, strict=True):
        use = str(method["use"])
        tried = list(combinations({key: value for key, value in method.items() if key != "use"}))
        if len(tried) == 1:
            yield Settled(name, use, tried[0])
            continue
        scores = [_score(workspace, judge, use, options) for options in tried]
        best = max(range(len(tried)), key=scores.__getitem__)
        yield Settled(name, use, tried[best], tuple(zip(tried, scores, strict=True)))


def named(methods: Sequence[Mapping[str, Any]]) -> list[str]:
    """`koh`, or `koh (damping 0.1)` where there are several of a kind."""
    uses = [str(each["use"]) for each in methods]
    told = [", ".join(f"{key} {value}" for key, value in each.items() if key != "use") for each in methods]
    return [
        f"{use} ({options or 'defaults'})" if uses.count(use) > 1 else use
        for use, options in zip(uses, told, strict=True)
    ]


def _score(workspace: Workspace, judge: Judge, method: str, options: Mapping[str, Any]) -> float:
    estimate = workspace.attribute(judge.queries, judge.margin, method, **options)
    lds = cluster_lds(estimate.effect[:, :, 0], judge.masked_margins, judge.perturbations)
    return float(lds.mean())
