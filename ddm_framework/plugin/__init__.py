"""Components of plugins: how they are declared, found, and chosen with their options."""

import lazy_loader

# The names are listed in __init__.pyi. Each is imported on first use, so that importing the package stays fast.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
