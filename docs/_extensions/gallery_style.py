"""The state in which every example of the gallery begins."""

import warnings
from typing import Any

import matplotlib as mpl

STYLE = {
    "figure.figsize": (6.4, 3.8),
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}


def reset(gallery_conf: dict[str, Any], fname: str) -> None:
    """Restore matplotlib's settings, and those of the figures here."""
    mpl.rcdefaults()
    mpl.rcParams.update(STYLE)
    warnings.filterwarnings("ignore", message=".*torch.jit.script.*", category=DeprecationWarning)
