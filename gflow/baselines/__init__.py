"""What flows tend to, computed without a flow: one file a baseline."""

from gflow.baselines.commuting import CommutingRate, commuting_limit, commuting_rate
from gflow.baselines.diagonal import diagonal_limit
from gflow.baselines.greedy import GreedyLowRank, greedy_low_rank
from gflow.baselines.margin import MaxMargin, max_margin
from gflow.baselines.nuclear_norm import MinimumNuclearNorm, minimum_nuclear_norm
from gflow.baselines.saddles import SaddleSequence, saddle_sequence

__all__ = [
    "CommutingRate",
    "GreedyLowRank",
    "MaxMargin",
    "MinimumNuclearNorm",
    "SaddleSequence",
    "commuting_limit",
    "commuting_rate",
    "diagonal_limit",
    "greedy_low_rank",
    "max_margin",
    "minimum_nuclear_norm",
    "saddle_sequence",
]
