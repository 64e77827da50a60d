"""Does fine-tuning on the synset lead back to the start, and ordinary matching on from it (Table 4, Eq. 12, 13)?"""

from ddm_studies.trajectory.study import run

__all__ = ["run"]
