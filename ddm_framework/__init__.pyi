from .api import Run, open_run, run
from .data.splits import DataInfo, DataSplits, ImageSet
from .errors import DataError, DDMError, PluginError, RecipeError, RunFolderError, shown, suggestion
from .files import FileError, check_file, is_file, is_folder, read_bytes, read_text
from .offline.features import penultimate
from .online.questions import Objective, Queries, Reference
from .own_network import from_module
from .plugin.choice import Choice, Grid, use
from .plugin.components import Component
from .plugin.declarations import Surrogate, attributor, objective, of_inner_products, retrains
from .plugin.hookspecs import hookimpl
from .plugin.signatures import ComponentOf
from .randomness import derive_seed
from .report.blocks import Chart, Clusters, Heatmap, Pictures, Report, Section, Table, Text
from .resources import check_fits
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
    "FileError",
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
    "check_file",
    "check_fits",
    "derive_seed",
    "from_module",
    "hookimpl",
    "is_file",
    "is_folder",
    "objective",
    "of_inner_products",
    "open_run",
    "penultimate",
    "read_bytes",
    "read_text",
    "retrains",
    "run",
    "shown",
    "suggestion",
    "use",
]
