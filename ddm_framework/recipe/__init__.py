"""A recipe: a page of YAML, read, merged and checked as a whole before anything runs."""

import lazy_loader

# The names stand in __init__.pyi; each is imported when it is first used, so that nothing heavy comes in before.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
