from .alone import ALONE
from .interface import Engine, Work, end_all, in_order
from .processes import Processes

__all__ = ["ALONE", "Engine", "Processes", "Work", "end_all", "in_order"]
