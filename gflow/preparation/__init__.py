"""From `gflow.data.Data` to the arrays a flow starts from; pure functions, float64.

The synthetic data of `gflow.data.synthetic` can be imported from here too.
"""

from gflow.data.synthetic import synthetic_low_rank, synthetic_regression, synthetic_sphere
from gflow.preparation.held_out import split_off
from gflow.preparation.inputs import correlation, standardise, unit_rows
from gflow.preparation.selection import subset
from gflow.preparation.targets import one_hot, regression_targets, signs
from gflow.preparation.tokens import one_hot_tokens

__all__ = [
    "correlation",
    "one_hot",
    "one_hot_tokens",
    "regression_targets",
    "signs",
    "split_off",
    "standardise",
    "subset",
    "synthetic_low_rank",
    "synthetic_regression",
    "synthetic_sphere",
    "unit_rows",
]
