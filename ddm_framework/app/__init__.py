"""`ddm serve`: a page over a finished run, on which one leaves out training data and sees what becomes of it."""

import lazy_loader

# The names stand in __init__.pyi; each is imported when it is first used, so that nothing heavy comes in before.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
