"""From the end of a flow to the critical point behind it: `gflow.studies.critical_search`."""

from __future__ import annotations

from torch import Tensor

from gflow.checks import require_count, require_positive
from gflow.flows.base import Flow
from gflow.flows.starts import single_start
from gflow.studies.critical_point import CriticalPoint
from gflow.studies.critical_search import Search


def refine(
    flow: Flow, y: Tensor, *, tol: float = 1e-12, max_products: int = 20_000
) -> CriticalPoint:
    """Go on from a state, such as the end of a path, to a critical point of the loss.

    Parameters
    ----------
    flow : Flow
        A flow of parameters; of a reduced flow that of its parameters is taken, at
        ``flow.lift(y)``.
    y : Tensor, shape (*state)
        One state. The nearer to a critical point, the more surely that one is found; along a narrow
        valley of a large network the search may need more products than it has.
    tol : float
        Largest ‖∇L‖ of a critical point.
    max_products : int
        Hessian products before the search ends with what it has. Gauss-Newton steps of networks
        (at most 50) are not among them: each decomposes a matrix of samples × outputs, which takes
        about 1 s for 2,000 and 5 s for 5,000 of these, and more where a step is tried again.

    Returns
    -------
    CriticalPoint

    Raises
    ------
    InputError
        If the state is an ensemble or no state of the flow, or an argument is out of range.

    Examples
    --------
    >>> import torch, gflow
    >>> target = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))
    >>> flow = gflow.FactorFlow(gflow.losses.SquaredDistance(target))   # W = UUᵀ
    >>> larger, smaller = torch.tensor([[1.4], [0.0]]), torch.tensor([[0.0], [1.1]])
    >>> found = [gflow.refine(flow, U.double()) for U in (larger, smaller)]   # of rank 1
    >>> [(point.verdict, point.index, round(point.loss, 12)) for point in found]
    [('minimum', 0, 0.5), ('saddle', 1, 2.0)]
    """
    flow, y = single_start("refine", flow, y, "gflow.refine(flow, y)")
    tol, max_products = require_positive("tol", tol), require_count("max_products", max_products)
    search = Search(flow.parameter_flow, flow.lift(y), max_products)
    while float(search.gradient.norm()) > tol and search.step():
        pass
    return search.result(tol)
