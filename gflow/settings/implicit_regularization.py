"""``implicit-regularization``: ‖∇L‖² along descent, against the flow and the modified flow."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from gflow.settings.measured_base import MeasuredNetworkScenario

if TYPE_CHECKING:
    from gflow.callbacks import Stages
    from gflow.results.base import Result


class ImplicitRegularization(MeasuredNetworkScenario):
    """A network's flow, descent with several step sizes, and the modified flow of each."""

    setting: ClassVar[str] = "implicit-regularization"
    papers: ClassVar[tuple[str, ...]] = ("barrett2021implicit",)
    can_be_split: ClassVar[bool] = True

    def run(self, stages: Stages) -> Result:
        """Run the flow, and descent and the modified flow for every step size."""
        from gflow.errors import InputError
        from gflow.results.implicit_regularization import ImplicitRegularizationResult
        from gflow.studies.flow_and_descent import default_step_sizes
        from gflow.studies.implicit_regularization import implicit_regularization

        if not self.estimate_error:
            raise InputError(
                "implicit-regularization fits orders, which needs estimate_error = true; leave out "
                "--no-estimate-error"
            )
        setup = self.setup()
        sizes = self.step_sizes or default_step_sizes(
            setup.flow, setup.y0, self.t_end, count=4, max_evals=self.max_evals
        )
        result = implicit_regularization(
            setup.flow,
            setup.y0,
            self.t_end,
            sizes,
            options=self.solve_options(),
            progress=stages("flows and descent", self.t_end),
        )
        return ImplicitRegularizationResult.from_study(result, setup)
