"""The certificate that a recipe asks for: its figures, and its section of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ddm_framework.online import Objective, Queries
from ddm_framework.report import Report, Section, Table, Text
from ddm_framework.runs import Workspace
from ddm_framework.truth.calibration import calibrate
from ddm_framework.truth.certificate import certify
from ddm_framework.truth.corrected import seen_queries

_USUAL = "output_shift"
_CAPTION = "The clusters that the network was retrained without"


@dataclass(frozen=True, slots=True)
class Certified:
    """What a few exact retrainings found.

    Attributes:
        metrics: for metrics.json.
        section: for the report.
    """

    metrics: Mapping[str, Any]
    section: Section

    def added_to(self, report: Report) -> Report:
        """The report, with the certificate behind what was asked and its answers."""
        sections = [*report.sections[:2], self.section, *report.sections[2:]]
        return replace(report, sections=sections, metrics={**report.metrics, "certificate": self.metrics})


def certified_queries(workspace: Workspace) -> Queries:
    """The first test images, on which the recipe's certificate is made: as many as fit into memory, with all logits."""
    return seen_queries(workspace)


def certificate_of(workspace: Workspace) -> Certified | None:
    """The certificate that the recipe asks for, or None.

    Without `singles` it compares the order of single clusters with the truth; with it, it also corrects estimates.

    Raises:
        DDMError: as `retrained`.
    """
    asked = workspace.recipe.certificate
    if asked.retrainings == 0:
        return None
    queries = certified_queries(workspace)
    objective = _ranking_objective(workspace, queries)
    if asked.singles is None:
        single = certify(workspace, queries, objective, asked.retrainings)
        return Certified(single.metrics(), _section(workspace, [single.sentence()], single.clusters))
    found = calibrate(workspace, queries, objective, asked.retrainings, asked.singles)
    clusters = () if found.singles is None else found.singles.clusters
    return Certified(found.metrics(), _section(workspace, found.sentences(), clusters))


def _section(workspace: Workspace, sentences: Sequence[str], clusters: Sequence[int]) -> Section:
    partition, names = workspace.partition, workspace.info.class_names
    rows = [(each, names[int(partition.classes[each])], int(partition.sizes[each])) for each in clusters]
    table = [Table(["cluster", "class", "images"], rows, _CAPTION)] if rows else []
    return Section("Certificate", [*map(Text, sentences), *table])


def _ranking_objective(workspace: Workspace, queries: Queries) -> Objective:
    """The first objective of the recipe that ranks clusters for single queries, or else the usual one.

    A recipe may ask of whole sets or of all classes alone, and its estimates are the same networks.
    """
    ranked = [each for each in workspace.objectives if not each.declaration.set_level]
    found = next((each for each in ranked if _has_rank(workspace, queries, each)), None)
    return workspace.objective(_USUAL) if found is None else found


def _has_rank(workspace: Workspace, queries: Queries, objective: Objective) -> bool:
    few = queries.take(torch.arange(min(2, len(queries))))
    reference = workspace.reference(few)
    return objective.measure(reference.target_logits, reference).shape[1] == 1
