r"""Trends of matrix completion in the depth, the scale of the start, or the number of samples.

One of the three varies, and the others are one number each. Every value has the same seeds. Powers
of the variable are fitted to medians over seeds. `depth_study`, `init_scale_study` and
`samples_study` return trends. Time unit: t = k·step_size of descent on the layers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from gflow.checks import require_positive
from gflow.display import Display, holds
from gflow.errors import InputError
from gflow.studies.completed import Completed
from gflow.studies.completion import CompletionStudy
from gflow.studies.fitting import PowerLaw, fit_power
from gflow.trajectory import Trajectory


@dataclass(frozen=True, repr=False)
class CompletionTrend(Display):
    """Completed matrices against one variable, over several seeds.

    Attributes
    ----------
    variable : str
        ``"depth"``, ``"init_scale"`` or ``"samples"``.
    values : tuple of float
        Of the variable: depths and samples ascending, scales descending.
    seeds : tuple of int
    flows : Completed
        Of shape (values, seeds); NaN where a flow failed.
    losses, times : Tensor, shape (values, seeds)
        At the ends.
    laws : dict of str to (PowerLaw or None)
        The powers of the variable in the medians of ``"errors"``, ``"nuclear_norms"`` and
        ``"effective_ranks"``, with intervals over seeds; None where none was fitted.
    trajectories : tuple of Trajectory
        Ensembles: one for each depth, else one of all.
    convex : Completed or None
        Of the matrix of least nuclear norm that fits; for each mask, (values, seeds), of samples.
    truth : Completed or None
        Of the whole matrix, where all of it is known.
    """

    variable: str
    values: tuple[float, ...]
    seeds: tuple[int, ...]
    flows: Completed
    losses: Tensor
    times: Tensor
    laws: dict[str, PowerLaw | None]
    trajectories: tuple[Trajectory, ...]
    convex: Completed | None
    truth: Completed | None

    def band(self, name: str, share: float = 0.5) -> tuple[Tensor, Tensor, Tensor]:
        """Return the median over seeds and the band around it that has a share of them.

        Parameters
        ----------
        name : str
            ``"errors"``, ``"nuclear_norms"`` or ``"effective_ranks"``.
        share : float
            Of the seeds inside: 0.5 is the middle half.

        Returns
        -------
        low, median, high : Tensor, shape (values,)

        Raises
        ------
        InputError
            If there is no such name, or the share is not between 0 and 1.
        """
        if name not in self.laws:
            raise InputError(f"name must be one of {', '.join(self.laws)}, got {name!r}")
        share = require_positive("share", share)
        if share > 1:
            raise InputError(f"share must be at most 1, got {share:g}; 0.5 is the middle half")
        values = getattr(self.flows, name)
        levels = values.new_tensor([0.5 - share / 2, 0.5, 0.5 + share / 2])
        low, median, high = values.nanquantile(levels, dim=-1)
        return low, median, high

    def __repr__(self) -> str:
        law, certificates = self.laws["errors"], [path.certificate for path in self.trajectories]
        power = "no power fitted" if law is None else f"error as {self.variable}^{law.slope:.3g}"
        return (
            f"CompletionTrend({len(self.values)} values of {self.variable} x {len(self.seeds)} "
            f"seeds, {power}, {holds(*certificates)})"
        )


def along(
    study: CompletionStudy, variable: str, values: tuple[float, ...], dim: int
) -> CompletionTrend:
    """Return a study of depths and scales as a trend in one of them.

    Parameters
    ----------
    study : CompletionStudy
    variable : str
        ``"depth"`` or ``"init_scale"``.
    values : tuple of float
        Of the variable.
    dim : int
        Dimension of the study that has one value: 0, depths, or 1, scales.

    Returns
    -------
    CompletionTrend

    Examples
    --------
    >>> import torch
    >>> from gflow.studies import completion_study
    >>> matrix, mask = torch.ones(2, 2).double(), torch.tensor([[1, 1], [1, 0]])
    >>> along(completion_study(matrix, mask, [2], [0.1, 0.01]), "init_scale", (0.1, 0.01), 0)
    CompletionTrend(2 values of init_scale x 1 seeds, error as init_scale^1.09, certificate holds)
    """
    flows = Completed(**{name: x.squeeze(dim) for name, x in vars(study.flows).items()})
    return CompletionTrend(
        variable,
        values,
        study.seeds,
        flows,
        study.losses.squeeze(dim),
        study.times.squeeze(dim),
        fitted_laws(values, flows),
        study.trajectories,
        study.convex,
        study.truth,
    )


def fitted_laws(values: Sequence[float], flows: Completed) -> dict[str, PowerLaw | None]:
    """Fit powers of a variable to the medians over seeds of what is measured.

    Parameters
    ----------
    values : sequence of float
        Of the variable.
    flows : Completed
        Of shape (values, seeds).

    Returns
    -------
    dict of str to (PowerLaw or None)

    Examples
    --------
    >>> import torch
    >>> x = torch.tensor([[1.0], [4.0]])
    >>> round(fitted_laws([1.0, 2.0], Completed(x, x, x))["errors"].slope, 12)
    2.0
    """
    names = [field.name for field in dataclasses.fields(Completed)]
    return {name: fit_power(values, getattr(flows, name)) for name in names}
