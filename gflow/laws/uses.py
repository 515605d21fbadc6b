"""How operations read streams of features, and how parameters write and read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from gflow.laws.law import View
from gflow.laws.scales import Stream


class Reader(NamedTuple):
    """How an operation reads a stream of which no change of basis passes through it.

    Attributes
    ----------
    over : str
        Normalisation over ``"features"`` or over the ``"batch"``, both centred, or of the
        ``"size"`` alone; ``"nothing"`` where it is none.
    groups : int
        Number of groups of features that are normalised separately.
    no_epsilon : bool
        Whether the norm is taken without an ε, so that scale does not matter.
    """

    over: str
    groups: int = 1
    no_epsilon: bool = False


@dataclass(frozen=True)
class End:
    """One side of a parameter: the stream that it writes or reads, and how it is a matrix there."""

    stream: Stream
    view: View
    formula: str


@dataclass(frozen=True)
class Use:
    """A use of a parameter, or of a part of it: the stream it writes, and the one it reads."""

    parameter: str
    writes: End
    reads: End | None = None
    part: str = ""

    def sides(self) -> dict[str, tuple[Stream, int]]:
        """Return the streams by how the parameter is a matrix there, and whether A or A⁻¹ acts."""
        ends = ((self.writes, 1), (self.reads, -1))
        return {end.formula: (end.stream, sign) for end, sign in ends if end is not None}
