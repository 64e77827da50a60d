"""Removing the clusters of least value and retraining without them (Tables 3 and 6)."""

from ddm_studies.removal.study import run

__all__ = ["run"]
