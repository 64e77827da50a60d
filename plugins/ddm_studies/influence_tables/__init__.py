"""Tables 1 and 2: how far the prediction moves without the cluster that each method ranks first."""

from ddm_studies.influence_tables.study import run

__all__ = ["run"]
