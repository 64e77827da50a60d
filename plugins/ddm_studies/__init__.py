"""Experiments: what a run asks, and how the answer is laid out."""

from __future__ import annotations

from collections.abc import Iterator

from ddm_framework import Component, hookimpl


@hookimpl
def ddm_register_studies() -> Iterator[Component]:
    """Attribution of queries to clusters of training data."""
    yield Component(
        "attribution", "ddm_studies.attribution:run", "Which clusters made the network do that?", "Sec. 3.3"
    )
    yield Component(
        "fidelity",
        "ddm_studies.fidelity:run",
        "How near each method comes to exact retraining",
        "Tables 1 and 2, Fig. 7, Eq. 10",
    )
    yield Component(
        "removal",
        "ddm_studies.removal:run",
        "What is gained by removing the data of least value, or corrupted data",
        "Tables 3 and 6",
    )
    yield Component(
        "transferability",
        "ddm_studies.transferability:run",
        "Which data keep a student from learning from a teacher",
        "Table 7, Eq. 15",
    )
    yield Component("unlearning", "ddm_studies.unlearning:run", "How well data are unlearned", "Sec. 8.3")
    yield Component(
        "trajectory",
        "ddm_studies.trajectory:run",
        "Whether the synset leads back to the start",
        "Table 4, Eq. 12, 13",
    )
    yield Component("privacy", "ddm_studies.privacy:run", "What synthetic images give away", "Fig. 4, Fig. 5")
    yield Component(
        "influence",
        "ddm_studies.influence_tables:run",
        "The parts of the distilled datamodel, or influence functions, judged by exact retraining",
        "Tables 1 and 2, Eq. 10",
    )
    yield Component(
        "hierarchical_search",
        "ddm_studies.hierarchical_search:run",
        "Class first, then cluster: what the search finds and what it saves",
        "Fig. 6, Sec. 6.2",
    )
    yield Component(
        "empirical_error",
        "ddm_studies.empirical_error:run",
        "What each estimated network gets wrong, and how far it moved",
        "Fig. 7, Sec. 9.4",
    )
    yield Component(
        "costs", "ddm_studies.costs:run", "Bytes, seconds, and when the offline work has paid", "Abstract, Sec. 3.2"
    )
    yield Component(
        "architectures",
        "ddm_studies.architectures:run",
        "Do other networks trace to the same classes?",
        "Fig. 3, Fig. 8",
    )
