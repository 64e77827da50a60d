"""Who does the work: this process, others on this machine (loky), or those of many machines (Ray)."""

import lazy_loader

# The names stand in __init__.pyi; each is imported when it is first used, so that nothing heavy comes in before.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
