"""Many runs and what follows from them: frozen results, no plotting, no files."""

from gflow.studies.compare import Gap, compare
from gflow.studies.step_size import StepSizeStudy, step_size_study

__all__ = ["Gap", "StepSizeStudy", "compare", "step_size_study"]
