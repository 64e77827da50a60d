"""Studies: `run(workspace, /, *, ...) -> Report`, which the core renders and stores.

They are tried on a small finished run of three classes with two clusters each.
"""

from __future__ import annotations

import contextlib
import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ddm_framework.report.blocks import Block, Card, Report, Section
from ddm_framework.report.pages import members, page
from ddm_framework.runs.safe_files import json_text
from ddm_framework.runs.workspace import Workspace
from ddm_framework.stages import pipeline
from ddm_framework.testing.contract import NotChecked, advice, expect, untouched_randomness
from ddm_framework.testing.small_run import small_workspace
from ddm_framework.testing.subject import Subject
from ddm_framework.testing.traces import contents, state

_ADVICE = "it is called as run(workspace) on any finished run; refuse one that it cannot work with by a DDMError"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a study returned, and what it left behind."""

    report: Any
    workspace: Workspace
    changed: list[str]
    written: list[str]
    touched: list[str]


def finding(subject: Subject) -> Finding:
    """The study, run once for all checks and watched."""
    return subject.once("finding", lambda: _finding(subject))


def _finding(subject: Subject) -> Finding:
    workspace = small_workspace(subject.registry)
    before, files = state(workspace), contents(workspace.folder.path)
    with (
        tempfile.TemporaryDirectory() as here,
        contextlib.chdir(here),
        untouched_randomness() as touched,
        advice(_ADVICE),
    ):
        report = subject.choice(workspace)
        written = sorted(path.name for path in Path(here).iterdir())
    after, now = state(workspace), contents(workspace.folder.path)
    changed = [name for name, each in before.items() if not torch.equal(each, after[name])]
    written += sorted(name for name in {*files, *now} if files.get(name) != now.get(name))
    return Finding(report, workspace, changed, written, touched)


def reported(subject: Subject) -> Report:
    """The report.

    Raises:
        NotChecked: if it is none.
    """
    report = finding(subject).report
    if not isinstance(report, Report):
        raise NotChecked("it does not return a Report")
    return report


def check_returns_a_report(subject: Subject) -> None:
    """`run` returns a `Report` of at least one section."""
    report = finding(subject).report
    expect(isinstance(report, Report), f"it returns {type(report).__name__}; return ddm_framework.Report(...)")
    expect(
        len(report.sections) > 0 and all(isinstance(each, Section) for each in report.sections),
        "its report has no sections; return Report(sections=[Section('heading', [Text('...')])])",
    )


def check_report_renders(subject: Subject) -> None:
    """The report is rendered as a page, with the clusters and pictures that it names."""
    report, workspace = reported(subject), finding(subject).workspace
    metrics = {**pipeline.core_metrics(workspace), **report.metrics}
    strange = [type(block).__name__ for each in report.sections for block in _strange(each.blocks)]
    expect(not strange, f"its sections hold {', '.join(strange[:3])}, which is no block; wrap it, as in Text('...')")
    with advice("sections hold Text, Table, Pictures, Heatmap, Chart, Clusters and Card of ddm_framework.report"):
        text = page(workspace, report, {}, metrics)
        lost = [cluster for cluster, images in members(workspace, report).items() if len(images) == 0]
    expect("</html>" in text, "its page is not whole")
    expect(not lost, f"it shows the clusters {lost[:3]}, which do not exist; ids run from 0 to num_clusters - 1")


def check_metrics_are_plain_numbers(subject: Subject) -> None:
    """Metrics are numbers, texts and lists, nested by name, and stay the same when read back from metrics.json."""
    metrics = reported(subject).metrics
    expect(isinstance(metrics, Mapping), f"metrics are {type(metrics).__name__}; make them a dict by name")
    with advice("metrics hold numbers, texts, lists and dicts with texts as keys: tensor.item(), tensor.tolist()"):
        again = json.loads(json_text(metrics))
    expect(isinstance(again, dict), "metrics are no mapping")
    wrong = [place for place, value in _leaves(metrics) if isinstance(value, Tensor) and value.numel() > 1]
    expect(not wrong, f"metrics hold whole tensors ({', '.join(wrong[:3])}); put them into Report.tensors")


def check_metrics_leave_the_cores_own_alone(subject: Subject) -> None:
    """Metrics do not write over numbers that every run has (`target`, `matching`, `online`, `seconds`)."""
    report, workspace = reported(subject), finding(subject).workspace
    core = {**pipeline.core_metrics(workspace), "seconds": {}}
    taken = [
        name
        for name, value in report.metrics.items()
        if name in core and (not isinstance(value, Mapping) or set(value) & set(core[name]) or name == "seconds")
    ]
    expect(not taken, f"metrics named {', '.join(taken)} are the core's; put those of the study under its own name")


def check_tensors_can_be_stored(subject: Subject) -> None:
    """Its tensors, by name, are what online/attribution.safetensors can hold."""
    tensors = reported(subject).tensors
    wrong = [name for name, each in tensors.items() if not isinstance(each, Tensor) or not isinstance(name, str)]
    expect(not wrong, f"{wrong[:3]} of its tensors are none; Report.tensors maps texts to torch.Tensor")


def check_writes_nothing_itself(subject: Subject) -> None:
    """It writes no file: the core stores and renders what it returns."""
    written = finding(subject).written
    expect(
        not written,
        f"it writes {', '.join(written[:3])}; return numbers as metrics, tensors as tensors and pictures as blocks",
    )


def check_workspace_is_only_read(subject: Subject) -> None:
    """Target, partition, data and synset are not written to."""
    changed = finding(subject).changed
    expect(not changed, f"it writes to the workspace's {', '.join(changed[:3])}; work on copies (.clone())")


def check_same_report_twice(subject: Subject) -> None:
    """Run again on a workspace that knows nothing yet, it finds the same numbers; those named `seconds` may differ."""
    with tempfile.TemporaryDirectory() as here, contextlib.chdir(here), advice(_ADVICE):
        again = subject.choice(small_workspace(subject.registry))
    before, after = dict(_leaves(reported(subject).metrics)), dict(_leaves(again.metrics))
    different = [name for name in {**before, **after} if not _alike(before.get(name), after.get(name))]
    expect(
        not different,
        f"a second run finds another {', '.join(different[:3])}; draw from workspace.generator('a purpose') alone, and"
        " name times seconds_...",
    )


def check_leaves_global_randomness_alone(subject: Subject) -> None:
    """The global random states of torch, numpy and Python stay as they are."""
    touched = finding(subject).touched
    expect(
        not touched,
        f"it changed the global random state of {', '.join(touched)}; draw from workspace.generator('a purpose')",
    )


def _strange(blocks: Sequence[Any]) -> Iterator[Any]:
    """What is no block, cards included."""
    for block in blocks:
        if not isinstance(block, Block):
            yield block
        elif isinstance(block, Card):
            yield from _strange(block.blocks)


def _leaves(values: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every number of nested metrics by its dotted name, times left out.

    So is the comparison with the paper, which says in words and may say of times what the other metrics hold.
    """
    if isinstance(values, Mapping):
        for name, value in values.items():
            if "seconds" not in str(name) and f"{place}{name}" != "comparison":
                yield from _leaves(value, f"{place}.{name}" if place else str(name))
    elif isinstance(values, list | tuple):
        for index, value in enumerate(values):
            yield from _leaves(value, f"{place}.{index}")
    else:
        yield place, values


def _alike(first: Any, second: Any) -> bool:
    if isinstance(first, float) and isinstance(second, float):
        return math.isclose(first, second, rel_tol=1e-4, abs_tol=1e-6) or (math.isnan(first) and math.isnan(second))
    return bool(first == second)
