"""A recipe: a page of YAML, read, merged and checked as a whole before anything runs."""

import lazy_loader

# The names are listed in __init__.pyi. Each is imported on first use, so that importing the package stays fast.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
