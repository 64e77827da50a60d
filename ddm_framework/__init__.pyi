from .api import Run, open_run, run
from .data.splits import DataInfo, DataSplits, ImageSet
from .errors import DataError, DDMError, PluginError, RecipeError, RunFolderError, shown, suggestion
from .offline.features import penultimate
from .online.questions import Objective, Queries, Reference
from .own_network import from_module
from .plugin.choice import Choice, Grid, use
from .plugin.components import Component
from .plugin.declarations import Surrogate, attributor, objective, of_inner_products
from .plugin.hookspecs import hookimpl
from .plugin.signatures import ComponentOf
from .randomness import derive_seed
from .report.blocks import Chart, Clusters, Heatmap, Pictures, Report, Section, Table, Text
from .runs.workspace import Workspace

__all__ = [
    "Chart",
    "Choice",
    "Clusters",
    "Component",
    "ComponentOf",
    "DDMError",
    "DataError",
    "DataInfo",
    "DataSplits",
    "Grid",
    "Heatmap",
    "ImageSet",
    "Objective",
    "Pictures",
    "PluginError",
    "Queries",
    "RecipeError",
    "Reference",
    "Report",
    "Run",
    "RunFolderError",
    "Section",
    "Surrogate",
    "Table",
    "Text",
    "Workspace",
    "attributor",
    "derive_seed",
    "from_module",
    "hookimpl",
    "objective",
    "of_inner_products",
    "open_run",
    "penultimate",
    "run",
    "shown",
    "suggestion",
    "use",
]
