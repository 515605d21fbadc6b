"""Views of trajectories, descents, gaps, studies and runs: figures, datasets, HTML.

The names are those of ``__init__.pyi``, each loaded on first use: a dataset needs no matplotlib.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
