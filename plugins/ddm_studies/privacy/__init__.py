"""Do synthetic images show the training data, those of ordinary and of reverse matching side by side (Fig. 4, 5)?"""

from ddm_studies.privacy.study import run

__all__ = ["run"]
