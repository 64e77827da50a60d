from .routes import application
from .serving import serve

__all__ = ["application", "serve"]
