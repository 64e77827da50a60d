"""A checked recipe: which components, with which options and settings, every default spelled out."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, fields, replace
from typing import Any

from ddm_framework.plugin import Choice
from ddm_framework.plugin.choice import plain
from ddm_framework.recipe.settings import (
    Certificate,
    Clustering,
    Corruption,
    General,
    Matching,
    Online,
    Selection,
    Target,
    Training,
)
from ddm_framework.recipe.yaml_source import write


@dataclass(frozen=True, slots=True)
class Recipe:
    """A checked recipe.

    The sections stand in the order in which they are written.
    """

    name: str
    general: General
    _: KW_ONLY
    dataset: Choice
    selection: Selection = field(default_factory=Selection)
    corruption: Corruption = field(default_factory=Corruption)
    backbone: Choice
    clusterer: Choice
    clustering: Clustering
    distance: Choice
    training: Training
    target: Target = field(default_factory=Target)
    matching: Matching
    online: Online
    objectives: tuple[Choice, ...]
    study: Choice
    certificate: Certificate = field(default_factory=Certificate)

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
        written = {each.name: plain(getattr(self, each.name)) for each in fields(self) if each.name != "name"}
        general = written.pop("general")
        for component, settings in {"dataset": "selection", "clusterer": "clustering"}.items():
            written[component] |= written.pop(settings)
        return {**general, **written}

    def in_words(self) -> str:
        """One line for `ddm validate`."""
        size, number = self.clustering.cluster_size, self.clustering.clusters_per_class
        clusters = f"{number} clusters per class" if size is None else f"clusters of about {size} images"
        return (
            f"{self.dataset.name}, {self.backbone.name}, {self.clusterer.name} with {clusters}, "
            f"{self.distance.name} matching, {', '.join(objective.name for objective in self.objectives)}, "
            f"study {self.study.name}"
        )

    def as_yaml(self) -> str:
        """The resolved recipe as YAML text."""
        return write(self.as_dict())
