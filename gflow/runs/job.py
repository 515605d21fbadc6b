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
    """

    scenario: Scenario
    study: bool = False
    modified: bool = False

    @property
    def name(self) -> str:
        """The name of the folder that holds runs of this job."""
        return f"{self.scenario.name}-converge" if self.study else self.scenario.name

    def work(self, stages: Stages) -> Result:
        """Compute the result; nothing is written."""
        if not self.study:
            return self.scenario.run(stages)
        from gflow.results.step_size import StepSizeResult
        from gflow.studies import step_size_study
        from gflow.studies.flow_and_descent import default_step_sizes

        scenario = self.scenario
        setup = scenario.setup()
        if scenario.t_end is None:
            raise InputError(f"converge {scenario.name} needs the length of the path: pass --t-end")
        sizes = scenario.step_sizes or default_step_sizes(
            setup.flow, setup.y0, scenario.t_end, count=6, max_evals=scenario.max_evals
        )
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
    return Job(scenario, manifest.get("study") is True, manifest.get("modified") is True)


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
