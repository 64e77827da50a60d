"""How well whole classes and single clusters are unlearned, compared with exact retraining (Sec. 4.3, 8.3)."""

from ddm_studies.unlearning.study import run

__all__ = ["run"]
