"""Which class of training data matters for which, as several networks see it (Fig. 3 and 8)."""

from ddm_studies.architectures.study import run

__all__ = ["run"]
