r"""A conservation law of a network: a function of its parameters that gradient flow keeps constant.

A symmetry of the network's outputs, such as scaling the inputs of a ReLU by λ and its outputs by
1/λ, has a generator ξ, a matrix that acts on the parameters: ∂θ = ξθ changes no output, so
⟨∇L(θ), ξθ⟩ = 0 for every loss L of the outputs. Along θ̇ = −∇L(θ), that makes d/dt(θᵀξθ) = 0 where
ξ is symmetric: the balancedness W_{j+1}ᵀW_{j+1} − W_jW_jᵀ of linear networks is such a law, and
so is the difference of squared norms of a hidden unit's weights (Kunin et al. 2021,
arXiv:2012.04728; Marcotte, Gribonval & Peyré 2023, arXiv:2307.00144, section 2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Parameters = Mapping[str, Tensor]

#: A parameter (..., *shape) as a matrix (..., h, r) with a row for each of h features.
View = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Term:
    """What one parameter contributes to a law.

    Attributes
    ----------
    parameter : str
        Its name in ``module.named_parameters()``.
    view : callable
        The parameter, (..., *shape), as a matrix (..., h, r) with a row for each feature.
    weight : float
        The term's factor.
    formula : str
        The matrix in words, such as ``"2.weightᵀ"``.
    """

    parameter: str
    view: View
    weight: float
    formula: str


@dataclass(frozen=True)
class Law:
    """A function of the parameters that gradient flow of every loss of the outputs conserves.

    Attributes
    ----------
    name : str
        An identifier, such as ``"balance_0_2"``.
    kind : {"gram", "squares", "total", "sum"}
        ``gram``: Σ weight·M Mᵀ over the terms' matrices M, (h, h). ``squares``: its diagonal
        alone, (h,). ``total``: its trace. ``sum``: the sums of a matrix over its rows, (r,).
    terms : tuple of Term
    decay_rate : float
        r where the law decays as e^{−rt}, by weight decay (`gflow.laws.scaled`); 0 where it is
        constant.

    Examples
    --------
    >>> import torch, gflow
    >>> network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    >>> (law,) = gflow.laws.find(network)
    >>> law.name, law.formula
    ('balance_0_2', '|2.weight columns|² − |0.weight rows|² − |0.bias|²')
    >>> law(dict(network.named_parameters())).shape
    torch.Size([3])
    """

    name: str
    kind: str
    terms: tuple[Term, ...]
    decay_rate: float = 0.0

    @property
    def formula(self) -> str:
        """The law as text."""
        parts = []
        for term in self.terms:
            sign = "−" if term.weight < 0 else "+"
            size = "" if abs(term.weight) == 1 else f"{abs(term.weight):g}·"
            parts.append(f"{sign} {size}{_PATTERNS[self.kind](term)}")
        return " ".join(parts).removeprefix("+ ").replace("− ", "−", parts[0][0] == "−")

    def __call__(self, parameters: Parameters, *, diagonal: bool = False) -> Tensor:
        """Evaluate the law.

        Parameters
        ----------
        parameters : mapping of str to Tensor
            By name, with the dimensions of an ensemble first.
        diagonal : bool
            Evaluate only the diagonal of a ``gram``.

        Returns
        -------
        Tensor, shape (..., h, h), (..., h), (...) or (..., r)
        """
        parts = [
            term.weight * self._part(term.view(parameters[term.parameter]), diagonal)
            for term in self.terms
        ]
        return torch.stack(torch.broadcast_tensors(*parts)).sum(0)

    def _part(self, matrix: Tensor, diagonal: bool) -> Tensor:
        if self.kind == "sum":
            return matrix.sum(-2)
        if self.kind == "total":
            return matrix.square().sum((-2, -1))
        if self.kind == "squares" or diagonal:
            return matrix.square().sum(-1)
        return matrix @ matrix.mT

    def entries(self, parameters: Parameters) -> Tensor:
        """Return the law's different entries as one vector: of a symmetric matrix, a triangle."""
        value = self(parameters)
        if self.kind != "gram":
            return value.flatten()
        rows, columns = torch.triu_indices(*value.shape[-2:]).unbind()
        return value[..., rows, columns].flatten()

    def __repr__(self) -> str:
        decay = f", times e^{{−{self.decay_rate:g}t}}" if self.decay_rate else ""
        return f"Law({self.name}: {self.formula}{decay})"


_PATTERNS: Mapping[str, Callable[[Term], str]] = {
    "gram": lambda term: f"{term.formula}·{_transposed(term.formula)}",
    "squares": lambda term: f"|{_by_feature(term)}|²",
    "total": lambda term: f"‖{term.formula}‖²",
    "sum": lambda term: f"Σ {term.formula} over rows",
}


def _transposed(formula: str) -> str:
    return formula.removesuffix("ᵀ") if formula.endswith("ᵀ") else f"{formula}ᵀ"


def _by_feature(term: Term) -> str:
    if term.formula.endswith("ᵀ"):
        return term.formula.removesuffix("ᵀ") + " columns"
    return term.formula + (" rows" if term.formula.endswith("weight") else "")


def law_values(
    laws: Sequence[Law], parameters: Parameters, *, most: int | None = None
) -> dict[str, Tensor]:
    """Evaluate laws by name.

    Parameters
    ----------
    laws : sequence of Law
    parameters : mapping of str to Tensor
        By name, with the dimensions of an ensemble first.
    most : int, optional
        Evaluate only the diagonals of symmetric matrices that are larger.

    Returns
    -------
    dict of str to Tensor
        The values, with the dimensions of the ensemble first.

    Examples
    --------
    >>> import torch, gflow
    >>> module = torch.nn.Sequential(torch.nn.Linear(1, 2), torch.nn.Linear(2, 1))
    >>> values = law_values(gflow.laws.find(module), dict(module.named_parameters()))
    >>> {name: tuple(value.shape) for name, value in values.items()}
    {'balance_0_1': (2, 2)}
    """

    def is_large(law: Law) -> bool:
        term = law.terms[0]
        return most is not None and term.view(parameters[term.parameter]).shape[-2] > most

    return {law.name: law(parameters, diagonal=is_large(law)) for law in laws}
