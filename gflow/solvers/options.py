"""Options of a solve, shared by `integrate`, every study and every scenario."""

from __future__ import annotations

import dataclasses
import math
import typing
from dataclasses import dataclass
from typing import Literal, TypedDict, Unpack

from gflow.checks import require_bool, require_count, require_number, shown
from gflow.errors import InputError
from gflow.text import unknown

Spacing = Literal["linear", "log"]


class SolveKeywords(TypedDict, total=False):
    """The fields of `SolveOptions` as keywords of a study."""

    method: str
    rtol: float
    atol: float
    max_evals: int
    estimate_error: bool
    max_step: float
    points: int
    spacing: Spacing


@dataclass(frozen=True)
class SolveOptions:
    """Options of a solve, and of the comparisons along it.

    Attributes
    ----------
    method : str
        The name of a solver, or ``auto``; see `gflow.integrate`.
    rtol, atol : float
        Relative and absolute tolerance: ‖e‖₂ ≤ atol + rtol‖y‖₂ for the error of each step.
    max_evals : int
        Budget of right-hand side evaluations of each solve.
    max_step : float
        The longest step, infinite by default: shorter than the narrowest feature of a right-hand
        side that a step may miss. Methods that take no steps ignore it.
    estimate_error : bool
        Measure the solver's error by a second, finer solve where there is no closed form.
    points : int
        In studies: the number of times at which descent is compared with the flow.
    spacing : str
        In studies: the spacing of these times, ``linear`` or ``log``.

    Raises
    ------
    InputError
        If a value is out of range.

    Examples
    --------
    >>> options = SolveOptions(rtol=1e-8)
    >>> options.with_(atol=1e-12)  # doctest: +ELLIPSIS
    SolveOptions(method='auto', rtol=1e-08, atol=1e-12, ...)
    """

    method: str = "auto"
    rtol: float = 1e-6
    atol: float = 1e-9
    max_evals: int = 1_000_000
    estimate_error: bool = False
    max_step: float = math.inf
    points: int = 100
    spacing: Spacing = "linear"

    def __post_init__(self) -> None:
        plain = object.__setattr__  # numbers of NumPy and the like as Python's
        if not isinstance(self.method, str):
            raise InputError(f"method must be a name, such as 'auto', got {shown(self.method)}")
        for name in ("rtol", "atol", "max_evals", "max_step"):
            plain(self, name, require_number(name, getattr(self, name)))
        plain(self, "estimate_error", require_bool("estimate_error", self.estimate_error))
        rtol, atol = self.rtol, self.atol
        if not (math.isfinite(rtol) and rtol > 0) or not (math.isfinite(atol) and atol >= 0):
            raise InputError(
                f"rtol must be positive and atol at least 0, both finite, got {rtol} and {atol}"
            )
        if rtol > 1:
            raise InputError(f"rtol must be at most 1, an error as large as the state, got {rtol}")
        if not self.max_step > 0:
            raise InputError(
                f"max_step must be positive, or infinite for none, got {self.max_step}"
            )
        if not self.max_evals >= 1:  # NaN, too; a float such as 1e6 will do
            raise InputError(f"max_evals must be at least 1, got {self.max_evals}")
        plain(self, "points", require_count("points", self.points))
        if not isinstance(self.spacing, str) or self.spacing not in typing.get_args(Spacing):
            raise InputError(f"spacing must be 'linear' or 'log', got {shown(self.spacing)}")

    def with_(self, **changes: Unpack[SolveKeywords]) -> SolveOptions:
        """Return these options with some of them changed.

        Parameters
        ----------
        **changes
            Fields to replace.

        Returns
        -------
        SolveOptions
        """
        known = [field.name for field in dataclasses.fields(self)]
        for name in changes:
            if name not in known:
                raise InputError(unknown("option", name, known))
        return dataclasses.replace(self, **changes)

    def tighter(self, factor: float, least_rtol: float = 0.0) -> SolveOptions:
        """Return options for a finer solve to measure the error of this one against.

        Parameters
        ----------
        factor : float
            Divisor of both tolerances.
        least_rtol : float
            The smallest relative tolerance that the dtype allows.

        Returns
        -------
        SolveOptions
            With ten times the budget of evaluations, and no error estimate.
        """
        return dataclasses.replace(
            self,
            rtol=max(self.rtol / factor, least_rtol),
            atol=self.atol / factor,
            max_evals=10 * self.max_evals,
            estimate_error=False,
        )


DEFAULT_OPTIONS = SolveOptions()
