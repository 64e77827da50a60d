"""Whether fine-tuning on the synset leads the target back to its start (Table 4, Eq. 12, 13)."""

from ddm_studies.trajectory.study import run

__all__ = ["run"]
