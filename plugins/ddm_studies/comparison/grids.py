"""A small grid of settings for each method, chosen on a validation bank and never on the reported data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ddm_framework import Choice, Grid, Section, Table, Text, Workspace
from ddm_framework.truth import cluster_lds
from ddm_studies.comparison.judging import Judge, Verdict, scoring_masks
from ddm_studies.comparison.running import need_validation, tracked


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
        words = options_in_words(self.choice.given) or "defaults"
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
    judge = Judge(workspace, workspace.queries_of("validation"))
    if any(len(each.choices) > 1 for each in methods):
        need_validation(workspace, "no settings of a grid can be chosen")
        judge.perturbations = scoring_masks(workspace, masks, deleted, "validation")
    return list(settle(workspace, judge, methods))


def validation_networks(options: Mapping[str, Any]) -> int:
    """How many networks `decided` retrains, by the options of a study."""
    return options["validation_masks"] if any(len(each.choices) > 1 for each in options["methods"]) else 0


def judge_each(judge: Judge, settled: Sequence[Settled]) -> list[Verdict]:
    """The verdicts on all methods, in their order."""
    methods = tracked(judge.workspace, "methods", settled, len(settled))
    return [judge.verdict(each.name, each.choice, each.in_words()) for each in methods]


def grid_section(settled: Sequence[Settled]) -> Section:
    """The section of the report with every combination tried."""
    told = (
        "Settings given as a list were chosen by cluster LDS on the validation split and on separate random deletions."
        " Neither the queries nor the networks of the table were used."
    )
    table = Table(
        ["method", "settings", "validation LDS"],
        [[each.name, options_in_words(options), score] for each in settled for options, score in each.grid],
    )
    return Section("How settings were decided", [Text(told), table])


def settle(workspace: Workspace, judge: Judge, methods: Sequence[Grid]) -> Iterator[Settled]:
    """Choose the settings of each method: as given, or the best of its grid by cluster LDS on the validation bank.

    Args:
        judge: with the validation queries and masks.
        methods: the attributors, with the settings to try.
    """
    for name, method in zip(
        named(methods), tracked(workspace, "settings on the validation bank", methods, len(methods)), strict=True
    ):
        tried = method.choices
        if len(tried) == 1:
            yield Settled(name, tried[0])
            continue
        scores = [_score(workspace, judge, choice) for choice in tried]
        best = max(range(len(tried)), key=scores.__getitem__)
        grid = tuple((choice.given, score) for choice, score in zip(tried, scores, strict=True))
        yield Settled(name, tried[best], grid)


def options_in_words(options: Mapping[str, Any]) -> str:
    """`damping 0.1, steps 2`."""
    return ", ".join(f"{name} {value}" for name, value in options.items())


def set_options(choice: Choice) -> str:
    """All options of a component that have a value, given or by default, in words."""
    return options_in_words({name: value for name, value in choice.options.items() if value is not None})


def named(methods: Sequence[Choice | Grid]) -> list[str]:
    """`koh`, or `koh (damping 0.1)` where the same attributor is used more than once."""
    uses = [each.name for each in methods]
    told = [options_in_words(each.given) for each in methods]
    return [
        f"{use} ({options or 'defaults'})" if uses.count(use) > 1 else use
        for use, options in zip(uses, told, strict=True)
    ]


def _score(workspace: Workspace, judge: Judge, choice: Choice) -> float:
    estimate = workspace.effects_by(judge.queries, judge.margin, choice)
    lds = cluster_lds(estimate.effect[:, :, 0], judge.masked_margins, judge.perturbations)
    return float(lds.mean())
