from .alone import ALONE
from .cluster import Cluster
from .interface import Engine, Work, end_all, in_order
from .processes import Processes

__all__ = ["ALONE", "Cluster", "Engine", "Processes", "Work", "end_all", "in_order"]
