r"""Laws of one factor a stream, which a product of features passes on to what it multiplies.

The symmetries of `gflow.laws.symmetries` change the basis of a stream and leave all others as they
are. Where the features of two streams are contracted and nothing but linear operations follow, as
the logits of attention without softmax, a factor of the product can pass to what it multiplies:
(cq)ᵀk·v = qᵀk·(cv). With the exponent e_s of that factor on every stream, each operation is a
linear equation, and a solution with a product whose factor is not 1 has the law

    Σ (e_reads − e_writes)‖W‖² + … ,

one number for all features together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from gflow.laws.null_space import null_space

Stream = int


@dataclass
class Scales:
    """The equations of the exponents, collected operation by operation.

    Examples
    --------
    Logits qᵀk that multiply v, with an output that may not change:

    >>> query, key, value, logits, output = range(5)
    >>> scales = Scales()
    >>> scales.product(logits, [query, key])
    >>> scales.equal(output, {value: 1, logits: 1})
    >>> scales.equal(output, {})
    >>> [{s: int(e) for s, e in found.items() if e} for found in scales.solutions(5)]
    [{0: 1, 2: -1, 3: 1}]
    """

    equations: list[dict[Stream, Fraction]] = field(default_factory=list)
    products: list[Stream] = field(default_factory=list)

    def equal(self, stream: Stream, exponents: Mapping[Stream, float]) -> None:
        """Record that a stream's factor is a product of powers of those of others."""
        equation = {stream: Fraction(1)}
        for other, exponent in exponents.items():
            value = Fraction(exponent).limit_denominator(1000)
            equation[other] = equation.get(other, Fraction(0)) - value
        self.equations.append(equation)

    def product(self, stream: Stream, factors: list[Stream]) -> None:
        """Record a contraction of two streams, whose factor is that of a stream of its own."""
        self.products.append(stream)
        first, second = factors
        self.equal(stream, {first: 1.0, second: 1.0} if first != second else {first: 2.0})

    def solutions(self, count: int) -> list[dict[Stream, Fraction]]:
        """Return the exponents of independent solutions in which some product has a factor.

        Parameters
        ----------
        count : int
            Number of streams.

        Returns
        -------
        list of dict
            Exponents by stream.
        """
        # Products last: each that is free gives the solutions that no basis explains.
        order = [s for s in range(count) if s not in self.products] + self.products
        if not self.products:
            return []
        rows = [[equation.get(s, Fraction(0)) for s in order] for equation in self.equations]
        first = count - len(self.products)
        found = []
        for vector in null_space(rows, count):
            last = max(i for i, exponent in enumerate(vector) if exponent)
            if last >= first:
                found.append(dict(zip(order, vector, strict=True)))
        return found
