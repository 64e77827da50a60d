from .inputs import stage_inputs
from .pipeline import execute
from .variants import sibling, variant

__all__ = ["execute", "sibling", "stage_inputs", "variant"]
