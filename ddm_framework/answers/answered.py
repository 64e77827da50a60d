"""An answer in Python: an attribution with the names of its queries and clusters, as a table or in a notebook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ddm_framework.errors import DDMError
from ddm_framework.online import Attribution, Objective, Queries, sides
from ddm_framework.report.notebook import html_table
from ddm_framework.runs import Workspace

if TYPE_CHECKING:
    import pandas as pd

NUM_NAMED = 3
"""Clusters that a notebook names for each query and side."""


@dataclass(frozen=True, slots=True)
class Answer(Attribution):
    """An attribution that knows what its rows and columns are.

    Attributes:
        ids: name of each of the N queries; of an objective of whole sets, one name for all.
        classes: name of the class of each of the K clusters.
    """

    ids: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    def to_pandas(self) -> pd.DataFrame:
        """A row for each query, cluster and behaviour.

        Returns:
            Columns `query`, `cluster`, `class`, `behaviour` (from 0; left out where there is one alone), `effect` (of
            deleting the cluster, in the objective's unit) and `support` (above 0 where the cluster made the network say
            what it says; NaN where that is not known).
        Raises:
            DDMError: if pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise DDMError("to_pandas needs pandas, which is not installed: pip install pandas") from None
        queries, clusters, behaviours = self.effect.shape
        places = pd.MultiIndex.from_product([self.ids, range(clusters), range(behaviours)])
        table = places.to_frame(index=False, name=["query", "cluster", "behaviour"])
        table.insert(2, "class", [self.classes[each] for each in table["cluster"]])
        table["effect"] = self.effect.flatten().numpy()
        known = None if self.support is None else self.support[:, :, None].expand(queries, clusters, behaviours)
        table["support"] = float("nan") if known is None else known.flatten().numpy()
        return table.drop(columns="behaviour") if behaviours == 1 else table

    def _repr_html_(self) -> str:
        caption = f"change of {self.objective.name} without single clusters, {len(self.ids)} queries"
        if self.effect.shape[2] != 1:
            return html_table(f"{caption}, {self.effect.shape[2]} behaviours each", [], [])
        rows = [(name, *self._named(row)) for row, name in enumerate(self.ids)]
        one_sided = self.support is None
        return html_table(caption, ["query", *(["most"] if one_sided else ["made it say this", "against"])], rows)

    def _named(self, row: int) -> list[str]:
        """The first clusters on each side of a query, each with its class."""
        found = sides(self, row)
        lists = [self.objective.ranking(self.effect)[row].tolist()] if found is None else [found.made, found.against]
        return [", ".join(f"{each} ({self.classes[each]})" for each in ids[:NUM_NAMED]) for ids in lists]


def answered(workspace: Workspace, queries: Queries, objective: Objective) -> Answer:
    """The attribution of prepared queries, with the names of queries and clusters."""
    found, names = workspace.attribution(queries, objective), workspace.info.class_names
    return Answer(
        found.objective,
        found.matrix,
        found.intercept,
        found.target_behaviour,
        found.support,
        ids=(f"all {len(queries)}",) if objective.declaration.set_level else queries.ids,
        classes=tuple(names[each] for each in workspace.partition.classes.tolist()),
    )
