"""Studies: the question that a run answers, and the layout of its report."""

from __future__ import annotations

from collections.abc import Iterator

from ddm_framework import Component, hookimpl


@hookimpl
def ddm_register_studies() -> Iterator[Component]:
    """Register all studies of this package."""
    yield Component(
        "attribution", "ddm_studies.attribution:run", "Attributes predictions to clusters of training data", "Sec. 3.3"
    )
    yield Component(
        "fidelity",
        "ddm_studies.fidelity:run",
        "How close each attribution method comes to exact retraining",
        "Tables 1 and 2, Fig. 7, Eq. 10",
    )
    yield Component(
        "removal",
        "ddm_studies.removal:run",
        "Effect of removing the least valuable data, or corrupted data",
        "Tables 3 and 6",
    )
    yield Component(
        "transferability",
        "ddm_studies.transferability:run",
        "Deleting data that prevent a student from learning from an undistillable teacher",
        "Table 7, Eq. 15",
    )
    yield Component(
        "unlearning",
        "ddm_studies.unlearning:run",
        "How well classes and clusters are unlearned",
        "Sec. 8.3",
    )
    yield Component(
        "trajectory",
        "ddm_studies.trajectory:run",
        "Whether fine-tuning on the synset leads the target back to its start",
        "Table 4, Eq. 12, 13",
    )
    yield Component(
        "privacy", "ddm_studies.privacy:run", "What synthetic images reveal of training data", "Fig. 4, Fig. 5"
    )
    yield Component(
        "influence",
        "ddm_studies.influence_tables:run",
        "The parts of the distilled datamodel, or influence functions, judged by exact retraining",
        "Tables 1 and 2, Eq. 10",
    )
    yield Component(
        "hierarchical_search",
        "ddm_studies.hierarchical_search:run",
        "Hierarchical search by class and then by cluster: agreement with the flat search, and savings",
        "Fig. 6, Sec. 6.2",
    )
    yield Component(
        "empirical_error",
        "ddm_studies.empirical_error:run",
        "Errors and displacements of the estimated networks, compared with exact retraining",
        "Fig. 7, Sec. 9.4",
    )
    yield Component(
        "costs", "ddm_studies.costs:run", "Storage and time, and when the offline work pays off", "Abstract, Sec. 3.2"
    )
    yield Component(
        "architectures",
        "ddm_studies.architectures:run",
        "Whether different networks trace predictions to the same classes",
        "Fig. 3, Fig. 8",
    )
