"""Run scenarios into folders, resume runs, and read them back.

The names are those of ``__init__.pyi``, each loaded on first use: importing this package loads
neither torch nor matplotlib.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
