"""What synthetic images of ordinary and of reverse matching reveal of the training data (Fig. 4, 5)."""

from ddm_studies.privacy.study import run

__all__ = ["run"]
