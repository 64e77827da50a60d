from .reading import find_recipe, load_recipe
from .recipe import Recipe
from .settings import (
    Certificate,
    Clustering,
    Corruption,
    General,
    Matching,
    Online,
    Settings,
    Target,
    TimmFeatures,
    Training,
)
from .yaml_source import Source, parse, write

__all__ = [
    "Certificate",
    "Clustering",
    "Corruption",
    "General",
    "Matching",
    "Online",
    "Recipe",
    "Settings",
    "Source",
    "Target",
    "TimmFeatures",
    "Training",
    "find_recipe",
    "load_recipe",
    "parse",
    "write",
]
