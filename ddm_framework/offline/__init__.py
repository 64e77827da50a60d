"""What is computed once: clusters of the data, their gradients, and the synset that reverses them (Eq. 3-6)."""

import lazy_loader

# The names are listed in __init__.pyi. Each is imported on first use, so that importing the package stays fast.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
