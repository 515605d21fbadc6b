"""The result of a study of implicit regularization."""

from __future__ import annotations

from gflow.results.base import _TIME, Setup, _add, _array, _padded
from gflow.results.paths import Outcome
from gflow.results.step_size import step_size_outcome
from gflow.studies.implicit_regularization import ImplicitRegularization


def implicit_regularization_outcome(found: ImplicitRegularization, setup: Setup) -> Outcome:
    """Labelled arrays and summary of ‖∇L‖² along flow, descents and modified flows.

    `step_size_outcome` of ‖∇L‖² at equal times, with its values against ``time`` and
    ``step_size`` × ``save``, and their ratios to the flow's at equal loss.
    """
    study = found.study
    outcome = step_size_outcome(study)
    ds = outcome.dataset.drop_vars(["gap", "gap_time"])
    ds["largest_gap"].attrs["long_name"] = "largest difference of ‖∇L‖² to the flow's"
    ds["modified_gap"].attrs["long_name"] = "largest difference to the modified flow's"
    ds = ds.assign_coords(time=("time", study.trajectory.ts.numpy(), _TIME))
    _add(ds, "squared_gradient", ("time",), _array(found.slopes), "‖∇L‖² of the flow")
    lead = ("step_size", "save")
    ds["descent_time"] = (lead, _padded([_array(d.ts) for d in study.descents]), _TIME)
    columns = {
        "loss_at_save": ([d.losses for d in study.descents], "loss of descent"),
        "descent_squared_gradient": (found.descent_slopes, "‖∇L‖² of descent"),
        "modified_squared_gradient": (found.modified_slopes, "‖∇L‖² of the modified flow"),
        "descent_ratio": (found.descent_ratios, "‖∇L‖² of descent over the flow's at equal loss"),
        "modified_ratio": (found.modified_ratios, "the same of the modified flow"),
    }
    for name, (rows, label) in columns.items():
        _add(ds, name, lead, _padded([_array(row) for row in rows]), label)
    ratios = zip(found.descent_ratios, found.modified_ratios, strict=True)
    for row, (of_descent, of_modified) in zip(outcome.summary["step_sizes"], ratios, strict=True):
        row["median_ratio"] = float(of_descent[1:].nanmedian())
        row["modified_median_ratio"] = float(of_modified[1:].nanmedian())
    final = float(study.trajectory.losses[-1])
    return Outcome(ds, {**outcome.summary, **setup.facts, "final_loss": final})
