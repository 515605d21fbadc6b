"""Jobs: what a run computes, without files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gflow.errors import InputError
from gflow.runs.reading import read_manifest

if TYPE_CHECKING:
    from gflow.callbacks import Stages
    from gflow.results.base import Result
    from gflow.settings.base import Scenario


_FITTED = 6  # step sizes with which the drift of laws is measured at least


@dataclass(frozen=True)
class Job:
    """What a run computes.

    Attributes
    ----------
    scenario : Scenario
    study : bool
        Whether to run the step-size study of the scenario instead of the scenario.
    modified : bool
        Whether the study also measures the gap to the modified flow.
    laws : bool
        Whether to measure the drift of its conservation laws instead.
    """

    scenario: Scenario
    study: bool = False
    modified: bool = False
    laws: bool = False

    @property
    def command(self) -> str:
        """What is done with the scenario beside running it: converge, laws, or nothing."""
        return "converge" if self.study else "laws" if self.laws else ""

    @property
    def name(self) -> str:
        """The name of the folder that holds runs of this job."""
        return "-".join(filter(None, (self.scenario.name, self.command)))

    def work(self, stages: Stages) -> Result:
        """Compute the result; nothing is written."""
        if not self.command:
            return self.scenario.run(stages)
        from gflow.results.law_drift import LawDriftResult
        from gflow.results.step_size import StepSizeResult
        from gflow.studies import law_drift, step_size_study
        from gflow.studies.flow_and_descent import default_step_sizes

        scenario = self.scenario
        setup = scenario.setup()
        if scenario.t_end is None:
            raise InputError(
                f"{self.command} {scenario.name} needs the length of the path: pass --t-end"
            )
        sizes = list(scenario.step_sizes or ()) or default_step_sizes(
            setup.flow, setup.y0, scenario.t_end, count=6, max_evals=scenario.max_evals
        )
        if self.laws:
            if len(sizes) < _FITTED:  # a fit needs an asymptotic range
                sizes += [min(sizes) / 2**i for i in range(1, _FITTED - len(sizes) + 1)]
            drift = law_drift(
                setup.flow,
                setup.y0,
                scenario.t_end,
                sizes,
                options=scenario.solve_options(),
                progress=stages("laws", scenario.t_end),
            )
            return LawDriftResult.from_study(drift, setup.facts)
        study = step_size_study(
            setup.flow,
            setup.y0,
            scenario.t_end,
            sizes,
            modified=self.modified,
            options=scenario.solve_options(),
            progress=stages("step-size study", scenario.t_end),
        )
        return StepSizeResult.from_study(study)


def read_job(path: Path) -> Job:
    """Return the job of the run in a folder, from its manifest.

    Raises
    ------
    InputError
        If the manifest is missing or damaged.
    """
    from gflow.scenario import validate

    manifest = read_manifest(path)
    keys = manifest.get("scenario")
    if not isinstance(keys, dict):
        raise InputError(f"damaged run at {path}: manifest.json holds no scenario; run it again")
    scenario = validate(keys, str(path))
    kinds = {name: manifest.get(name) is True for name in ("study", "modified", "laws")}
    return Job(scenario, **kinds)


def job_to_resume(path: Path, model: str | None = None) -> Job:
    """Read the job of a run that is to be resumed, and refuse code that the user did not name.

    Parameters
    ----------
    path : Path
        The run's folder.
    model : str, optional
        The user's own model in the scenario, repeated by the user.

    Returns
    -------
    Job

    Raises
    ------
    InputError
        If the manifest is missing or damaged, or names code other than ``model``.

    Examples
    --------
    >>> job_to_resume(Path("nowhere"))
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: no run at nowhere: manifest.json is missing; `gflow runs` lists runs
    """
    from gflow.scenario import refuse_code

    job = read_job(path)
    refuse_code(job.scenario, {} if model is None else {"model": model}, str(path))
    return job
