"""Do the clusters of least value really do harm? Remove them, retrain, and see (Tables 3 and 6)."""

from ddm_studies.removal.study import run

__all__ = ["run"]
