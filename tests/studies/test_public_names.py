"""Every study is importable from ``gflow.studies``, and accepts its options in the same way."""

import importlib
import inspect
import pkgutil

import pytest
import torch

import gflow
from gflow.errors import InputError
from gflow.solvers import SolveOptions

STUDIES = [
    gflow.studies.completion_study,
    gflow.studies.context_plateaus,
    gflow.studies.continuous_vs_discrete,
    gflow.studies.depth_study,
    gflow.studies.edge_of_stability,
    gflow.studies.flow_and_descent,
    gflow.studies.implicit_regularization,
    gflow.studies.init_scale_study,
    gflow.studies.law_drift,
    gflow.studies.lazy_to_rich,
    gflow.studies.margin_path,
    gflow.studies.mode_times,
    gflow.studies.rich_limit,
    gflow.studies.saddle_times,
    gflow.studies.samples_study,
    gflow.studies.step_size_study,
    gflow.studies.unobserved_entry,
    gflow.studies.width_study,
]


def test_studies_and_their_results_are_exported():
    for info in pkgutil.iter_modules(gflow.studies.__path__):
        module = importlib.import_module(f"gflow.studies.{info.name}")
        study = getattr(module, info.name, None) or getattr(module, f"{info.name}_study", None)
        if study is None:
            continue  # a module of parts
        assert getattr(gflow.studies, study.__name__) is study
        result = study.__annotations__["return"]
        assert getattr(gflow.studies, result) is getattr(module, result)


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.__name__)
def test_every_study_accepts_options_and_keywords(study):
    parameters = inspect.signature(study).parameters
    assert isinstance(parameters["options"].default, SolveOptions)
    assert parameters["keywords"].kind is inspect.Parameter.VAR_KEYWORD
    declared = set(parameters) & {"method", "rtol", "atol", "max_evals", "estimate_error", "points"}
    assert not declared  # once, in SolveOptions
    assert len(set(parameters) - {"options", "keywords", "stages", "progress"}) <= 7


def test_keywords_of_a_study_take_precedence_over_its_options():
    flow, U = gflow.FactorFlow.example()
    options = SolveOptions("dopri5", rtol=1e-5, atol=1e-8, points=3)
    arguments = (flow, U, 1.0, [0.02, 0.01])
    by_options = gflow.step_size_study(*arguments, options=options.with_(points=5))
    by_both = gflow.step_size_study(*arguments, options=options, points=5)
    by_keywords = gflow.step_size_study(*arguments, method="dopri5", rtol=1e-5, atol=1e-8, points=5)
    for study in (by_both, by_keywords):
        assert study.gaps == by_options.gaps
        assert torch.equal(study.trajectory.ys, by_options.trajectory.ys)
    with pytest.raises(InputError, match="there is no option 'tolerance'"):
        gflow.step_size_study(*arguments, tolerance=1e-3)
