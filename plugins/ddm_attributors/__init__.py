"""Attribution methods: which clusters of training data made the network do that?"""

from __future__ import annotations

from collections.abc import Iterator

from ddm_framework import Component, hookimpl


@hookimpl
def ddm_register_attributors() -> Iterator[Component]:
    """The distilled datamodel, its ablations, and every method that it is compared with (Tables 1 and 2)."""
    yield Component("ddm", "ddm_attributors.ddm:attribute", "Distilled datamodel, by the recipe's own design", "Alg. 1")
    yield Component(
        "ddm_hard",
        "ddm_attributors.ddm:attribute_with_hard_labels",
        "The same with hard labels on the synthetic images",
    )
    yield Component(
        "ddm_match",
        "ddm_attributors.ddm:attribute_by_forward_matching",
        "Ordinary gradient matching instead of reverse",
        "Table 1, DDM-match",
    )
    yield Component(
        "ddm_sequential",
        "ddm_attributors.ddm:attribute_sequentially",
        "Runs of samples instead of clusters",
        "Table 1, DDM w/o cluster",
    )
    yield Component("exact", "ddm_attributors.retraining:exact", "The truth: retrain without each cluster", "Sec. 4.1")
    yield Component(
        "datamodel",
        "ddm_attributors.retraining:datamodel",
        "Regression over networks retrained on random subsets",
        "Ilyas et al. 2022",
    )
