"""What flows tend to, computed without a flow: one file a baseline."""

from gflow.baselines.commuting import commuting_limit
from gflow.baselines.diagonal import diagonal_limit
from gflow.baselines.greedy import GreedyLowRank, greedy_low_rank
from gflow.baselines.margin import MaxMargin, max_margin
from gflow.baselines.nuclear_norm import MinimumNuclearNorm, minimum_nuclear_norm
from gflow.baselines.saddles import SaddleSequence, saddle_sequence

__all__ = [
    "GreedyLowRank",
    "MaxMargin",
    "MinimumNuclearNorm",
    "SaddleSequence",
    "commuting_limit",
    "diagonal_limit",
    "greedy_low_rank",
    "max_margin",
    "minimum_nuclear_norm",
    "saddle_sequence",
]
