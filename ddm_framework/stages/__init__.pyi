from .costs import Costs
from .foretelling import dry_run
from .inputs import stage_inputs
from .pipeline import execute
from .variants import sibling, variant

__all__ = ["Costs", "dry_run", "execute", "sibling", "stage_inputs", "variant"]
