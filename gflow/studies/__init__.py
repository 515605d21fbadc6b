"""Many runs and what follows from them: frozen results, no plotting, no files."""

from gflow.studies.central_path import CentralPath, central_path
from gflow.studies.compare import Gap, compare
from gflow.studies.completed import Completed
from gflow.studies.completion import CompletionStudy, completion_study
from gflow.studies.completion_trend import CompletionTrend
from gflow.studies.context_plateaus import ContextPlateaus, context_plateaus
from gflow.studies.continuous_vs_discrete import ContinuousVsDiscrete, continuous_vs_discrete
from gflow.studies.critical_point import CriticalPoint
from gflow.studies.depth import depth_study
from gflow.studies.edge_of_stability import Edge, EdgeOfStability, edge_of_stability
from gflow.studies.fitting import OrderFit, PowerLaw
from gflow.studies.flow_and_descent import FlowAndDescent, flow_and_descent
from gflow.studies.implicit_regularization import ImplicitRegularization, implicit_regularization
from gflow.studies.init_scale import init_scale_study
from gflow.studies.law_drift import LawDrift, law_drift
from gflow.studies.lazy_to_rich import LazyToRich, lazy_to_rich
from gflow.studies.margin_path import MarginPath, margin_path
from gflow.studies.mode_times import ModeTimes, mode_times
from gflow.studies.oscillation import OscillatingDescent, oscillating_descent
from gflow.studies.plateaus import Plateaus, plateaus
from gflow.studies.refine import refine
from gflow.studies.rich_limit import RichLimit, rich_limit
from gflow.studies.saddle_times import SaddleTimes, saddle_times
from gflow.studies.samples import samples_study
from gflow.studies.step_size import StepSizeStudy, step_size_study
from gflow.studies.unobserved_entry import UnobservedEntry, unobserved_entry
from gflow.studies.width import WidthStudy, width_study

__all__ = [
    "CentralPath",
    "Completed",
    "CompletionStudy",
    "CompletionTrend",
    "ContextPlateaus",
    "ContinuousVsDiscrete",
    "CriticalPoint",
    "Edge",
    "EdgeOfStability",
    "FlowAndDescent",
    "Gap",
    "ImplicitRegularization",
    "LawDrift",
    "LazyToRich",
    "MarginPath",
    "ModeTimes",
    "OrderFit",
    "OscillatingDescent",
    "Plateaus",
    "PowerLaw",
    "RichLimit",
    "SaddleTimes",
    "StepSizeStudy",
    "UnobservedEntry",
    "WidthStudy",
    "central_path",
    "compare",
    "completion_study",
    "context_plateaus",
    "continuous_vs_discrete",
    "depth_study",
    "edge_of_stability",
    "flow_and_descent",
    "implicit_regularization",
    "init_scale_study",
    "law_drift",
    "lazy_to_rich",
    "margin_path",
    "mode_times",
    "oscillating_descent",
    "plateaus",
    "refine",
    "rich_limit",
    "saddle_times",
    "samples_study",
    "step_size_study",
    "unobserved_entry",
    "width_study",
]
