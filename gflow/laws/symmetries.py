r"""The symmetries of a network's outputs, from what its layers do to the features between them.

A *stream* is what one layer writes and others read: features, an axis of length h. A change of
basis A of the stream, in the layers that write it (rows W → AW) and in those that read it (columns
R → RA⁻¹), changes no output if everything in between commutes with A. Linear operations commute
with every A: the law is ΣWWᵀ − ΣRᵀR, (h, h). An activation that is homogeneous of degree k commutes
with positive diagonal A, and raises it to the power k: the laws are differences of squared norms,
one for each feature and each solution e of the equations e_out = k·e_in of the streams. Products
of streams add exponents; normalisation and other functions fix them to zero.

Two symmetries belong to normalisation: a constant added to all features that only layer
normalisation reads (laws: sums of columns), or to one channel that only batch normalisation reads
(law: its bias), and a factor where its ε is zero (laws: squared norms).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial

from torch import Tensor

from gflow.laws.law import Law, Term, View
from gflow.laws.null_space import null_space
from gflow.laws.scales import Scales, Stream
from gflow.laws.uses import End, Reader, Use

#: The exponent of a stream's factor.
Exponent = Callable[[Stream], Fraction]


_OTHER = Reader("nothing")


@dataclass
class Symmetries:
    """Streams and the constraints on their changes of basis, collected layer by layer.

    Examples
    --------
    >>> found = Symmetries()
    >>> before, after = found.stream(), found.stream()
    >>> found.powers(after, {before: 1.0})            # a ReLU
    >>> found.use("a", End(before, lambda W: W, "a.weight"))
    >>> reads = End(after, lambda W: W.mT, "b.weightᵀ")
    >>> found.use("b", End(found.fixed(), lambda W: W, "b.weight"), reads)
    >>> [law.formula for law in found.laws()]
    ['|b.weight columns|² − |a.weight rows|²']
    """

    uses: list[Use] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    _parents: list[tuple[int, int]] = field(default_factory=list)
    _equations: list[dict[Stream, float]] = field(default_factory=list)
    _fixed: set[Stream] = field(default_factory=set)
    _foreign: set[Stream] = field(default_factory=set)
    _readers: dict[Stream, set[Reader]] = field(default_factory=lambda: defaultdict(set))
    _diagonal: set[Stream] = field(default_factory=set)
    _constants: list[Term] = field(default_factory=list)
    _spoiled: set[str] = field(default_factory=set)
    _scales: Scales = field(default_factory=Scales)

    # -- what layers say ------------------------------------------------------------

    def stream(self, width: int = 1) -> Stream:
        """Return a new stream of some width, on which nothing is known yet."""
        self.widths.append(width)
        self._parents.append((len(self._parents), 1))
        return len(self._parents) - 1

    def fixed(self) -> Stream:
        """Return a new stream that no parameter may change, such as the inputs."""
        stream = self.stream()
        self._fixed.add(stream)
        self._foreign.add(stream)
        self._scales.equal(stream, {})
        return stream

    def fix(self, stream: Stream, reader: Reader = _OTHER) -> None:
        """Fix a stream, which is read by an operation that commutes with no change of basis."""
        self._fixed.add(stream)
        self._readers[stream].add(reader)
        self._scales.equal(stream, {})

    def same(self, one: Stream, other: Stream, sign: int = 1) -> None:
        """Give two streams the same change of basis A, or A and A⁻ᵀ with ``sign = -1``."""
        self._scales.equal(one, {other: sign})
        self._same_basis(one, other, sign)

    def contracted(self, one: Stream, other: Stream) -> Stream:
        """Contract two streams, A and A⁻ᵀ; return a stream with the factor of the product."""
        self._same_basis(one, other, -1)
        product = self.factor()
        self._scales.product(product, [one, other])
        return product

    def times(self, stream: Stream, product: Stream) -> Stream:
        """Return the stream that a product times a stream is: of the same basis."""
        result = self.stream(self.widths[stream])
        self._same_basis(stream, result, 1)
        self._scales.equal(result, {stream: 1.0, product: 1.0})
        return result

    def factor(self, exponents: Mapping[Stream, float] | None = None) -> Stream:
        """Return a new stream of which one factor may change: free, or as powers of others."""
        stream = self.stream()
        self._fixed.add(stream)
        if exponents is not None:
            self._scales.equal(stream, exponents)
        return stream

    def _same_basis(self, one: Stream, other: Stream, sign: int) -> None:
        (a, sign_a), (b, sign_b) = self._root(one), self._root(other)
        if a != b:
            self._parents[b] = (a, sign * sign_a * sign_b)
        elif sign_a * sign_b != sign:
            self._fixed.add(a)  # A = A⁻ᵀ is a rotation, which conserves no square

    def powers(self, out: Stream, exponents: Mapping[Stream, float]) -> None:
        """Allow only scalings of features: that of ``out`` is a product of powers of others."""
        self._diagonal |= {out, *exponents}
        equation: dict[Stream, float] = defaultdict(float)
        equation[out] += 1.0
        for stream, exponent in exponents.items():
            equation[stream] -= exponent
            self._readers[stream].add(_OTHER)
        self._equations.append(dict(equation))
        self._scales.equal(out, exponents)

    def scalings_only(self, stream: Stream) -> None:
        """Allow only scalings of a stream's features."""
        self._diagonal.add(stream)

    def use(self, parameter: str, writes: End, reads: End | None = None, part: str = "") -> None:
        """Record that a parameter, or a part of it, writes a stream, and what it reads."""
        use = Use(parameter, writes, reads, part)
        if reads is not None:
            self._readers[reads.stream].add(_OTHER)
        for other in self.uses:
            if (other.parameter, other.part) == (parameter, part):
                self._tie(other, use)
        self.uses.append(use)

    def constant(self, parameter: str, view: View, formula: str) -> None:
        """Record that no output depends on a parameter, as a matrix of one row."""
        self._constants.append(Term(parameter, view, 1.0, formula))

    def spoil(self, parameter: str) -> None:
        """Record that something unknown uses a parameter, too: before or after this call."""
        self._spoiled.add(parameter)

    def _tie(self, first: Use, second: Use) -> None:
        """Hold together the streams of a parameter that is used twice."""
        sides = [first.sides(), second.sides()]
        for formula in {*sides[0], *sides[1]}:
            ends = [side[formula] for side in sides if formula in side]
            if len(ends) == 2:
                (a, sign_a), (b, sign_b) = ends
                self.same(a, b, sign_a * sign_b)
            else:
                self.fix(ends[0][0])

    # -- what follows ---------------------------------------------------------------

    def laws(self) -> list[Law]:
        """Return the laws of all symmetries."""
        for use in self.uses:
            if use.parameter in self._spoiled:
                for end in (use.writes, use.reads):
                    if end is not None:
                        self.fix(end.stream)
        constants = [
            Law(f"constant_{_identifier(term.parameter)}", "sum", (term,))
            for term in self._constants
        ]
        return [
            *constants,
            *self._of_linear_streams(),
            *self._of_scalings(),
            *self._of_scales(),
            *self._of_normalisation(),
        ]

    def _root(self, stream: Stream) -> tuple[Stream, int]:
        parent, sign = self._parents[stream]
        if parent == stream:
            return stream, sign
        root, further = self._root(parent)
        self._parents[stream] = (root, sign * further)
        return self._parents[stream]

    def _roots(self, streams: set[Stream]) -> set[Stream]:
        return {self._root(stream)[0] for stream in streams}

    def _free_roots(self) -> list[Stream]:
        fixed = self._roots(self._fixed)
        roots = (self._root(stream)[0] for stream in range(len(self._parents)))
        return [root for root in dict.fromkeys(roots) if root not in fixed]

    def _of_linear_streams(self) -> list[Law]:
        diagonal = self._roots(self._diagonal)
        free = [root for root in self._free_roots() if root not in diagonal]
        return self._balances("gram", [{root: Fraction(1)} for root in free])

    def _of_scalings(self) -> list[Law]:
        diagonal = self._roots(self._diagonal)
        unknowns = [root for root in self._free_roots() if root in diagonal]
        index = {root: i for i, root in enumerate(unknowns)}
        rows = []
        for equation in self._equations:
            row = [Fraction(0)] * len(unknowns)
            for stream, coefficient in equation.items():
                root, sign = self._root(stream)
                if root in index:  # a fixed stream has the exponent zero
                    row[index[root]] += sign * Fraction(coefficient).limit_denominator(1000)
            rows.append(row)
        solutions = null_space(rows, len(unknowns))
        return self._balances("squares", [dict(zip(unknowns, v, strict=True)) for v in solutions])

    def _balances(self, kind: str, solutions: list[dict[Stream, Fraction]]) -> list[Law]:
        """Return the law of each assignment of exponents to roots."""

        def exponent_of(stream: Stream, exponents: dict[Stream, Fraction]) -> Fraction:
            root, sign = self._root(stream)
            return sign * exponents.get(root, Fraction(0))

        return [
            law
            for exponents in solutions
            for law in self._law("balance", kind, partial(exponent_of, exponents=exponents))
        ]

    def _of_scales(self) -> list[Law]:
        """Return the laws of factors that contractions pass on."""
        return [
            law
            for exponents in self._scales.solutions(len(self._parents))
            for law in self._law("scale", "total", exponents.__getitem__)
        ]

    def _law(self, what: str, kind: str, exponent: Exponent) -> list[Law]:
        """Return the law of the exponents of all streams, if any parameter is in it."""
        terms: dict[tuple[str, str], Term] = {}
        for use in self.uses:
            for term in self._terms(use, exponent):
                terms[term.parameter, term.formula] = term  # of a tied parameter, once
        ordered = sorted(terms.values(), key=lambda term: term.weight < 0)
        return [Law(_name(what, terms.values()), kind, tuple(ordered))] if terms else []

    def _terms(self, use: Use, exponent: Exponent) -> list[Term]:
        """Return what a use contributes to the law of the exponents of all streams."""
        weights: dict[str, float] = defaultdict(float)
        views = {}
        for end, side in ((use.writes, -1), (use.reads, 1)):
            if end is not None:
                weights[end.formula] += side * float(exponent(end.stream))
                views[end.formula] = end.view
        return [
            Term(use.parameter, views[formula], weight, formula)
            for formula, weight in weights.items()
            if weight
        ]

    def _of_normalisation(self) -> list[Law]:
        """Return the laws of streams that only normalisation reads."""
        readers: dict[Stream, set[Reader]] = defaultdict(set)
        for stream, kinds in self._readers.items():
            readers[self._root(stream)[0]] |= kinds
        foreign = self._roots(self._foreign)
        laws = []
        for root, kinds in readers.items():
            ways = {(reader.over, reader.groups) for reader in kinds}
            over, groups = next(iter(ways))
            if len(ways) != 1 or over == "nothing":
                continue
            terms = [
                _grouped(Term(use.parameter, use.writes.view, 1.0, use.writes.formula), groups)
                for use in self.uses
                if self._root(use.writes.stream)[0] == root
            ]
            laws += [_shift(term, over) for term in terms if _can_shift(term, over)]
            if all(reader.no_epsilon for reader in kinds) and root not in foreign and terms:
                kind = "squares" if over == "batch" else "total"
                laws.append(Law(_name("scale", terms), kind, tuple(terms)))
        return laws


def _grouped(term: Term, groups: int) -> Term:
    """View the features in groups, each of which is normalised on its own."""
    if groups == 1:
        return term

    def view(parameter: Tensor) -> Tensor:
        return term.view(parameter).unflatten(-2, (groups, -1))

    return Term(term.parameter, view, term.weight, term.formula)


def _can_shift(term: Term, over: str) -> bool:
    is_bias = term.parameter.rpartition(".")[2] == "bias"
    return over == "features" or (over == "batch" and is_bias)


def _shift(term: Term, over: str) -> Law:
    name = _identifier(term.parameter)
    if over == "features":
        return Law(f"column_sums_{name}", "sum", (term,))
    row = Term(term.parameter, lambda bias: term.view(bias).mT, 1.0, term.formula)
    return Law(f"constant_{name}", "sum", (row,))


def _name(what: str, terms: Iterable[Term]) -> str:
    """Return an identifier of a law, from the names of the layers in it."""
    layers = (term.parameter.rpartition(".") for term in terms)
    names = dict.fromkeys(owner or leaf for owner, _, leaf in layers)
    return "_".join([what, *map(_identifier, names)])


def _identifier(parameter: str) -> str:
    return parameter.replace(".", "_")
