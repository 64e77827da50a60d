"""Deleting training data that prevent a student from learning from an undistillable teacher (Table 7)."""

from ddm_studies.transferability.study import run

__all__ = ["run"]
