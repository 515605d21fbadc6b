r"""Losses of the end-to-end matrix W (d_N × d_0), with gradients in closed form.

=====================  ==========================================
``SquaredDistance``    ½‖W − M‖²_F
``LinearRegression``   1/(2n) ‖X Wᵀ − Y‖²_F
``MatrixSensing``      1/(2m) Σ_i (⟨A_i, W⟩ − b_i)²
``MatrixCompletion``   1/(2|Ω|) Σ_{(i,j)∈Ω} (W_ij − v_ij)²
``EntryCompletion``    the same of a list of entries
=====================  ==========================================

Each can be evaluated on many matrices at once: W may have leading batch
dimensions, and ``MatrixSensing`` and ``MatrixCompletion`` take measurements, or entries, of
each member of an ensemble. The normalisation fixes the time unit of the flow: t = k·step_size
for gradient descent on the same loss.
"""

from gflow.losses.base import Loss
from gflow.losses.entries import EntryCompletion
from gflow.losses.matrix import LinearRegression, SquaredDistance
from gflow.losses.observed import MatrixCompletion, MatrixSensing

__all__ = [
    "EntryCompletion",
    "LinearRegression",
    "Loss",
    "MatrixCompletion",
    "MatrixSensing",
    "SquaredDistance",
]
