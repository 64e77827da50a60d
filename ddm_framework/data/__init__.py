"""Images and labels: splits of a data set, stored images, image files, and corrupted data."""

import lazy_loader

# The names are listed in __init__.pyi. Each is imported on first use, so that importing the package stays fast.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
