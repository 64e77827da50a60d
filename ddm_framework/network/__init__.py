"""Networks as pure functions of their parameters, stacks of them, and how a stack is trained (Eq. 2)."""

import lazy_loader

# The names stand in __init__.pyi; each is imported when it is first used, so that nothing heavy comes in before.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
