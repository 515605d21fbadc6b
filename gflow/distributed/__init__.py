"""One run split across processes.

The names are those of ``__init__.pyi``, each loaded on first use: `gflow.distributed.torchrun` is
imported without torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
