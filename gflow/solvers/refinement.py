"""Smaller tolerances for a path whose errors grew beyond what its rtol promises.

Near saddles and kinks every error grows with the path, by a factor that no step can know. The
certificate measures what became of it. Where that is too much, though in proportion to the
tolerance, a second solve with a smaller one keeps the promise of the first. Where round-off grew
as much, it is in no proportion: finer solves agree on a path without the modes that it hides.
"""

from __future__ import annotations

import dataclasses

from gflow.solvers.options import SolveOptions
from gflow.trajectory import Trajectory
from gflow.trajectory.certificate import Certificate

MOST_REFINEMENTS = 2
_BUDGET, _LEAST_BUDGET = 10, 500  # evaluations: times those of the path, as at kinks they explode
_AIM = 0.3  # of the bound: the error of the finer solve
_LEAST, _MOST = 4.0, 100.0  # divisors of the tolerance: less gains little, more is no proportion
_LARGEST = 0.3  # a relative error in proportion to the tolerance, at most
_MISSED = 1e3  # times the amplification: a mode that its estimates lost
_POWER = 0.25  # of the tolerance, with which the error falls at least: at kinks it is uneven
_MEASURED = {"escape_error", "error_estimate"}  # what a smaller tolerance makes smaller


def finer_options(path: Trajectory, options: SolveOptions, eps: float) -> SolveOptions | None:
    """Return options for a second solve that may meet the bounds of the certificate of a path.

    Parameters
    ----------
    path : Trajectory
    options : SolveOptions
        Of its solve.
    eps : float
        The unit of round-off.

    Returns
    -------
    SolveOptions or None
        None where the certificate holds, or smaller tolerances are no remedy.

    Examples
    --------
    >>> import dataclasses, gflow
    >>> flow, y0 = gflow.FactorFlow.example()
    >>> path = gflow.integrate(flow, y0, [0.0, 1.0])
    >>> finer_options(path, SolveOptions(), 2e-16) is None  # its certificate holds
    True
    >>> failed = dataclasses.replace(path.certificate, escape_error=1e-4)
    >>> finer = finer_options(dataclasses.replace(path, certificate=failed), SolveOptions(), 2e-16)
    >>> f"{finer.rtol:.2g}"
    '1.5e-07'
    """
    certificate = path.certificate
    names = certificate.failed().keys()
    # A path that rests on a saddle stands still in a finer solve, too.
    if not names or not names <= _MEASURED or certificate.rest:
        return None
    round_off = _MISSED * eps * (certificate.amplification or 1.0)
    divisor = max(_excess(certificate) / _AIM, _LEAST)
    error = max(getattr(certificate, name) for name in names)
    rtol = options.rtol / divisor
    if not (divisor <= _MOST and error <= _LARGEST and round_off <= rtol):
        return None
    budget = min(options.max_evals, _BUDGET * path.stats.rhs_evals + _LEAST_BUDGET)
    return options.with_(rtol=rtol, atol=options.atol / divisor, max_evals=budget)


def refined(
    finer: Trajectory, before: Trajectory, rtol: float, rtol_before: float
) -> Trajectory | None:
    """Return the path of a second solve, if it is better in what failed and no worse elsewhere.

    Parameters
    ----------
    finer, before : Trajectory
        Of the second solve and of the first, with bounds that follow from one rtol.
    rtol, rtol_before : float
        Those of the two solves.

    Returns
    -------
    Trajectory or None
        What the first solve took counts as the price of the certificate. None if the error did not
        fall with the tolerance, another measurement fails, or a further member does.

    Examples
    --------
    >>> import dataclasses, gflow
    >>> flow, y0 = gflow.FactorFlow.example()
    >>> path = gflow.integrate(flow, y0, [0.0, 1.0])
    >>> before, finer = (
    ...     dataclasses.replace(path, certificate=dataclasses.replace(
    ...         path.certificate, escape_error=error))
    ...     for error in (1e-4, 1e-5))
    >>> refined(finer, before, 1e-7, 1e-6).stats.certificate_evals > path.stats.rhs_evals
    True
    >>> refined(before, before, 1e-7, 1e-6) is None
    True
    """
    proportion = (rtol / rtol_before) ** _POWER
    fell = _excess(finer.certificate) <= proportion * _excess(before.certificate)
    no_other = finer.certificate.failed().keys() <= _MEASURED
    if not (fell and no_other and finer.failures.keys() <= before.failures.keys()):
        return None
    grown = f"errors grew by up to {before.certificate.amplification or 1.0:.1g}"
    spent = before.stats.rhs_evals + before.stats.certificate_evals
    stats = dataclasses.replace(
        finer.stats,
        reason=f"{finer.stats.reason}; solved again at rtol = {rtol:.2g}, as {grown}",
        certificate_evals=finer.stats.certificate_evals + spent,
    )
    return dataclasses.replace(finer, stats=stats)


def _excess(certificate: Certificate) -> float:
    """Return the largest measured error over its bound."""
    measured = ((getattr(certificate, name), certificate.bounds[name]) for name in _MEASURED)
    return max((error / bound for error, bound in measured if error is not None), default=0.0)
