from .choice import Choice, Grid, use
from .choosing import choose, choose_grid
from .components import KINDS, Component, hook_name
from .declarations import Declaration, Direction, Method, Surrogate, attributor, method_of, objective
from .discovery import load_plugins
from .hookspecs import hookimpl
from .registry import Plugin, Registered, Registry
from .signatures import ComponentOf, Option, Signature, read_signature

__all__ = [
    "KINDS",
    "Choice",
    "Component",
    "ComponentOf",
    "Declaration",
    "Direction",
    "Grid",
    "Method",
    "Option",
    "Plugin",
    "Registered",
    "Registry",
    "Signature",
    "Surrogate",
    "attributor",
    "choose",
    "choose_grid",
    "hook_name",
    "hookimpl",
    "load_plugins",
    "method_of",
    "objective",
    "read_signature",
    "use",
]
