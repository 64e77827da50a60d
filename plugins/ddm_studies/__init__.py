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
