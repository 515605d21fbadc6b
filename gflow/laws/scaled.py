r"""Laws under weight decay and time scales: θ̇_i = −r_i(∇_iL + λ_iθ_i) for each parameter θ_i.

A law Q = Σ w_i M_iM_iᵀ of the flow with all r_i = 1, λ_i = 0 holds because Σ w_i⟨∇_iL, AM_i⟩ = 0
for every symmetric A. With time scales that makes Σ (w_i/r_i) M_iM_iᵀ constant: the weights change.
Weight decay adds −2Σ w_iλ_i M_iM_iᵀ to its rate, which is −2c times the law where all r_iλ_i of its
terms are one c: then it decays as e^{−2ct}, a law that is linear in the parameters as e^{−ct}
(Kunin et al. 2021, arXiv:2012.04728, section 5, for one λ). Else no law of this form is left.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

from gflow.laws.law import Law

_EQUAL = 1e-12  # relative difference of decay rates that are equal to round-off


def scaled_laws(
    laws: Iterable[Law], rates: Mapping[str, float], decay: Mapping[str, float]
) -> tuple[Law, ...]:
    """Return what laws of a loss become under weight decay and time scales.

    Parameters
    ----------
    laws : iterable of Law
        Of the flow of the loss alone.
    rates, decay : mapping of str to float
        r and λ of each parameter.

    Returns
    -------
    tuple of Law
        Without those whose terms decay at different rates.

    Examples
    --------
    >>> from torch import nn
    >>> from gflow.laws import find
    >>> laws = find(nn.Sequential(nn.Linear(1, 2, bias=False), nn.Linear(2, 1, bias=False)))
    >>> scaled_laws(laws, {"0.weight": 2.0, "1.weight": 1.0}, {"0.weight": 0.1, "1.weight": 0.2})
    (Law(balance_0_1: 1.weightᵀ·1.weight − 0.5·0.weight·0.weightᵀ, times e^{−0.4t}),)
    >>> scaled_laws(laws, {"0.weight": 2.0, "1.weight": 1.0}, {"0.weight": 0.1, "1.weight": 0.1})
    ()
    """
    scaled = []
    for law in laws:
        speeds = [rates[term.parameter] * decay[term.parameter] for term in law.terms]
        if not all(math.isclose(speed, speeds[0], rel_tol=_EQUAL) for speed in speeds):
            continue
        terms = tuple(
            replace(term, weight=term.weight / rates[term.parameter]) for term in law.terms
        )
        degree = 1 if law.kind == "sum" else 2
        scaled.append(replace(law, terms=terms, decay_rate=degree * speeds[0]))
    return tuple(scaled)
