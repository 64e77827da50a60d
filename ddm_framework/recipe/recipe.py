"""A checked recipe: which components, with which options and settings, every default spelled out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from ddm_framework.plugin.choice import Choice, plain
from ddm_framework.recipe.settings import (
    Certificate,
    Clustering,
    Corruption,
    General,
    Matching,
    Online,
    Target,
    Training,
)
from ddm_framework.recipe.yaml_source import write

GIVEN = "given_from_python"
"""Stands for a data set or backbone that was passed in from Python, which no recipe can recreate."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A checked recipe."""

    name: str
    general: General
    dataset: Choice
    backbone: Choice
    clusterer: Choice
    clustering: Clustering
    distance: Choice
    training: Training
    matching: Matching
    online: Online
    objectives: tuple[Choice, ...]
    study: Choice
    certificate: Certificate = field(default_factory=Certificate)
    target: Target = field(default_factory=Target)
    corruption: Corruption = field(default_factory=Corruption)

    def with_general(self, general: General) -> Recipe:
        """The same recipe with other general settings."""
        return replace(self, general=general)

    def with_target(self, target: Target) -> Recipe:
        """The same recipe with another target; if its trajectory is unknown, `pairing` becomes `final`."""
        lone = target.checkpoint is not None and not target.trajectory
        matching = self.matching.model_copy(update={"pairing": "final"}) if lone else self.matching
        return replace(self, target=target, matching=matching)

    def as_dict(self) -> dict[str, Any]:
        """The recipe with every default spelled out, as plain values."""
        return {
            **plain(self.general),
            "dataset": self.dataset.as_dict(),
            "corruption": plain(self.corruption),
            "backbone": self.backbone.as_dict(),
            "clusterer": {**self.clusterer.as_dict(), **plain(self.clustering)},
            "distance": self.distance.as_dict(),
            "training": plain(self.training),
            "target": plain(self.target),
            "matching": plain(self.matching),
            "online": plain(self.online),
            "objectives": [objective.as_dict() for objective in self.objectives],
            "study": self.study.as_dict(),
            "certificate": plain(self.certificate),
        }

    def in_words(self) -> str:
        """One line for `ddm validate`."""
        return (
            f"{self.dataset.name}, {self.backbone.name}, {self.clusterer.name} with "
            f"{self.clustering.clusters_per_class} clusters per class, {self.distance.name} matching, "
            f"{', '.join(objective.name for objective in self.objectives)}, study {self.study.name}"
        )

    def as_yaml(self) -> str:
        """The resolved recipe as YAML text."""
        return write(self.as_dict())
