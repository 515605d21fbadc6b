"""Small scenarios on synthetic data."""

from gflow.scenario import validate
from gflow.settings.base import Scenario


def make(setting: str, **keys: object) -> Scenario:
    needed = {} if setting == "wide-network" else {"t_end": 1.0}
    return validate({"setting": setting, "data": "synthetic", **needed, **keys}, "a test")


def no_stage(name: str, t_end: float) -> None:
    return None
