from .attribution import Attribution, Estimate, fit, fit_attribution
from .finetuning import Anchor, perturbed_networks
from .perturbations import beta_weights, design, leave_one_out, random_deletions, random_perturbations
from .questions import Objective, Queries, Reference, declared

__all__ = [
    "Anchor",
    "Attribution",
    "Estimate",
    "Objective",
    "Queries",
    "Reference",
    "beta_weights",
    "declared",
    "design",
    "fit",
    "fit_attribution",
    "leave_one_out",
    "perturbed_networks",
    "random_deletions",
    "random_perturbations",
]
