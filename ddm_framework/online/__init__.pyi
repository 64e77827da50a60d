from .amounts import Amounts, amounts_from, log_odds
from .attribution import Attribution, Estimate, Sides, fit, fit_attribution, nearly_tied, sides
from .displacements import Displacements
from .estimating import chunks_of, perturbed_networks
from .finetuning import Anchor
from .perturbations import beta_weights, design, leave_one_out, random_deletions, random_perturbations
from .questions import Objective, Queries, Reference, declared
from .replaying import Replay

__all__ = [
    "Amounts",
    "Anchor",
    "Attribution",
    "Displacements",
    "Estimate",
    "Objective",
    "Queries",
    "Reference",
    "Replay",
    "Sides",
    "amounts_from",
    "beta_weights",
    "chunks_of",
    "declared",
    "design",
    "fit",
    "fit_attribution",
    "leave_one_out",
    "log_odds",
    "nearly_tied",
    "perturbed_networks",
    "random_deletions",
    "random_perturbations",
    "sides",
]
