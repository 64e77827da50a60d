"""A small grid of settings for each method, chosen on a validation bank and never on the reported data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ddm_framework import DDMError, Section
from ddm_framework.online import leave_one_out
from ddm_framework.plugin import Choice, Grid
from ddm_framework.report import Table, Text
from ddm_framework.runs import Workspace
from ddm_framework.truth import cluster_lds
from ddm_studies.comparison.judging import Judge, Verdict, scoring_masks


@dataclass(frozen=True, slots=True)
class Settled:
    """A method with its chosen settings.

    Attributes:
        name: of the method, as `named` gives it.
        choice: the attributor with its options.
        grid: every combination tried, and its LDS on the validation bank.
    """

    name: str
    choice: Choice
    grid: tuple[tuple[dict[str, Any], float], ...] = ()

    def in_words(self) -> str:
        """The settings, and the number of combinations that they were chosen from."""
        words = ", ".join(f"{name} {value}" for name, value in self.choice.given.items()) or "defaults"
        return f"{words} (best of {len(self.grid)})" if self.grid else words


def decided(workspace: Workspace, methods: Sequence[Grid], masks: int, deleted: float) -> list[Settled]:
    """Choose the settings of all methods; grids are evaluated on the validation split and separate random deletions.

    Args:
        methods: the attributors, with the settings to try.
        masks: number of networks without random clusters; they are retrained only if there is a grid.
        deleted: share of the clusters that each of these networks lacks.
    Raises:
        DDMError: if a method has a grid and there is no validation split.
    """
    asked = workspace.queries_of("validation")
    grid = any(len(each.choices) > 1 for each in methods)
    if grid and len(asked) == 0:
        raise DDMError("the validation split is empty, so no settings of a grid can be chosen; set dataset.validation")
    whole = leave_one_out(workspace.partition.num_clusters)[:0]
    judge = Judge(workspace, asked, scoring_masks(workspace, masks, deleted, "validation") if grid else whole)
    with workspace.display.bar("settings on the validation bank", len(methods)) as advance:
        found = []
        for each in settle(workspace, judge, methods):
            found.append(each)
            advance()
    return found


def judge_each(judge: Judge, settled: Sequence[Settled]) -> list[Verdict]:
    """The verdicts on all methods, in their order."""
    with judge.workspace.display.bar("methods", len(settled)) as advance:
        found = []
        for each in settled:
            found.append(judge.verdict(each.name, each.choice, each.in_words()))
            advance()
    return found


def grid_section(settled: Sequence[Settled]) -> Section:
    """The section of the report with every combination tried."""
    rows: list[list[str | int | float | None]] = [
        [each.name, ", ".join(f"{key} {value}" for key, value in options.items()), score]
        for each in settled
        for options, score in each.grid
    ]
    asked = Text(
        "Settings given as a list were chosen by cluster LDS on the validation split and on separate random deletions."
        " Neither the queries nor the networks of the table were used."
    )
    return Section("How settings were decided", [asked, Table(["method", "settings", "validation LDS"], rows)])


def settle(workspace: Workspace, judge: Judge, methods: Sequence[Grid]) -> Iterator[Settled]:
    """Choose the settings of each method: as given, or the best of its grid by cluster LDS on the validation bank.

    Args:
        judge: with the validation queries and masks.
        methods: the attributors, with the settings to try.
    """
    for name, method in zip(named(methods), methods, strict=True):
        tried = method.choices
        if len(tried) == 1:
            yield Settled(name, tried[0])
            continue
        scores = [_score(workspace, judge, choice) for choice in tried]
        best = max(range(len(tried)), key=scores.__getitem__)
        grid = tuple((choice.given, score) for choice, score in zip(tried, scores, strict=True))
        yield Settled(name, tried[best], grid)


def named(methods: Sequence[Choice | Grid]) -> list[str]:
    """`koh`, or `koh (damping 0.1)` where the same attributor is used more than once."""
    uses = [each.name for each in methods]
    told = [", ".join(f"{key} {value}" for key, value in each.given.items()) for each in methods]
    return [
        f"{use} ({options or 'defaults'})" if uses.count(use) > 1 else use
        for use, options in zip(uses, told, strict=True)
    ]


def _score(workspace: Workspace, judge: Judge, choice: Choice) -> float:
    estimate = workspace.effects_by(judge.queries, judge.margin, choice)
    lds = cluster_lds(estimate.effect[:, :, 0], judge.masked_margins, judge.perturbations)
    return float(lds.mean())
