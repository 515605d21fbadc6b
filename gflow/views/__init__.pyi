from .html import html as html
from .plotting import animate as animate
from .plotting import plot as plot
from .plotting import plot_sweep as plot_sweep
from .values import lines as lines
from .values import tensors as tensors
from .values import to_dataset as to_dataset
