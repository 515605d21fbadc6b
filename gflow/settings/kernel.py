"""``kernel``: the kernel flow of an infinitely wide network."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, cast

from pydantic import Field

import gflow
from gflow.discovery import module_names
from gflow.errors import InputError
from gflow.settings.base import Positive
from gflow.settings.sphere_base import SphereScenario

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from gflow.callbacks import CountProgress, Stages
    from gflow.data.named import Data
    from gflow.flows import Flow, KernelFlow
    from gflow.results.base import Result, Setup

    ActivationName = str
else:
    # Each file of this folder is an activation; its name is known without loading it.
    _FOLDERS = [f"{folder}/kernels/activations" for folder in gflow.__path__]
    ActivationName = Literal[tuple(module_names(_FOLDERS))]


_SAMPLES = 300


class Kernel(SphereScenario):
    """Kernel flow u̇ = −H(u − y) from u = 0 on the sum ½‖u − y‖², beside descent.

    Epoch k of full-batch descent with step size η on that sum is the time t = kη; on the mean
    over n points the same path needs the step size nη. Descent is stable below 2/λ_max(H).

    The recursion of ``ntk`` and ``nngp`` starts from w_std²·x·x'/d + b_std². For unit rows x their
    H is thus about d times smaller, and time d times longer, than with the two-layer H*.
    """

    setting: ClassVar[str] = "kernel"
    papers: ClassVar[tuple[str, ...]] = ("jacot2018neural", "du2019gradient", "lee2019wide")
    can_be_split: ClassVar[bool] = True

    kernel: Literal["two-layer", "ntk", "nngp"] = Field(
        "two-layer",
        description="two-layer: ReLU network whose first layer is trained; ntk: deep network whose "
        "layers are all trained; nngp: deep network whose last layer is trained",
    )
    depth: Annotated[int, Field(ge=1, le=1000)] = Field(
        1, description="number of hidden layers, for ntk and nngp"
    )
    activation: ActivationName = Field("relu", description="activation, for ntk and nngp")
    w_std: Positive = Field(
        1.0,
        description="standard deviation of the weights, for ntk and nngp; the first kernel is "
        "w_std² x·x'/d + b_std²",
    )
    b_std: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        0.0, description="standard deviation of the biases, for ntk and nngp"
    )

    def gram(self, progress: CountProgress | None = None) -> Callable[..., Tensor]:
        """Return the kernel as a function of one or two sets of points.

        Raises
        ------
        InputError
            If the two-layer kernel is given options that it does not have.
        """
        from gflow.kernels import nngp, ntk, two_layer_relu_gram

        network = {key: getattr(self, key) for key in ("depth", "activation", "w_std", "b_std")}
        if self.kernel != "two-layer":
            deep = {"ntk": ntk, "nngp": nngp}[self.kernel]
            return functools.partial(deep, **network, progress=progress)
        for key, value in network.items():
            if value != type(self).model_fields[key].default:
                raise InputError(
                    f"{key} applies to the kernels ntk and nngp, got {key}={value} with kernel "
                    "two-layer; leave it out or choose another kernel"
                )
        return two_layer_relu_gram

    def build_flow(self) -> Flow:
        """Make the kernel's flow."""
        return self._build()[0]

    def _build(self) -> tuple[KernelFlow, Data, Tensor]:
        """Return the flow, the data, and the targets of the test samples.

        Inputs are unit rows, targets centred one-hot classes or standardised numbers.
        """
        import torch

        from gflow import execution
        from gflow.distributed import current
        from gflow.flows import KernelFlow
        from gflow.kernels import memory_needed
        from gflow.preparation import regression_targets, unit_rows

        options = self.torch_options()
        data, train = self.points_on_sphere(_SAMPLES, held_out=1)
        x = torch.as_tensor(unit_rows(data.inputs), **options)
        y = torch.as_tensor(regression_targets(data), **options)
        points, others = x[:train], x[train:]
        name = f"kernel, {memory_needed(points, depth=self.depth)}"
        with execution.current().counter(name) as progress:
            gram = self.gram(progress)
            team = current()
            if team is None:
                flow = KernelFlow(gram(points), y[:train], H_test=gram(others, points))
            else:
                flow = KernelFlow.from_kernel(gram, points, y[:train], others, team=team)
        return flow, data, y[train:]

    def setup(self) -> Setup:
        """Make the flow from u = 0, with the spectrum of H and measurements along the path."""
        import torch

        from gflow.results.base import Setup

        flow, data, held_out = self._build()
        train = len(flow.targets)
        start = torch.zeros_like(flow.targets)

        def measure(ts: Tensor, ys: Tensor) -> Mapping[str, tuple[str, Tensor]]:
            times = ts.to(ys.device)
            bound = flow.residual_bound(times, start)
            slack = flow.bound_slack(times, ys, start)
            dimension = flow.effective_dimension(times)
            squares = flow.norm(ys - flow.targets).square()
            first = squares[0].clamp_min(torch.finfo(squares.dtype).tiny)
            holds = flow.bound_holds(times, ys, start).to(bound.dtype)
            predicted = flow.predict(times, start, method="exact", train=False)
            outputs = cast("Tensor", predicted.test)
            if data.classes is None:
                error = (outputs - held_out).square().mean(dim=(-2, -1)).sqrt()
                label = "root-mean-square test error of the flow"
            else:
                error = (outputs.argmax(-1) != held_out.argmax(-1)).to(bound.dtype).mean(-1)
                label = "share of test points the flow misclassifies"
            return {
                "residual_bound": ("bound exp(−λ_min t)‖u₀ − y‖", bound.sqrt()),
                "bound_slack": ("bound on ‖u − y‖² less ‖u − y‖²", slack),
                "bound_holds": ("whether the bound holds", holds),
                "effective_dimension": ("effective dimension Σλ/(λ + 1/t)", dimension),
                "learned_share": ("share of ‖y − u₀‖² learned", 1 - squares / first),
                "test_error": (label, error),
            }

        lam, modes = flow.eigenvalues, ("mode",)
        spectral = {
            "kernel_eigenvalues": ("eigenvalues λ of H, largest first", modes, lam.flip(0)),
            "learning_times": ("learning time 1/λ of each mode", modes, flow.learning_times),
            "target_energy": (
                "share of ‖y − u₀‖² along each eigenvector",
                modes,
                flow.target_energy(start),
            ),
        }
        facts = {
            "samples": train,
            "test_samples": len(held_out),
            "lambda_min": float(lam[0]),
            "lambda_max": float(lam[-1]),
            "time_unit": f"t = epochs × step size, on the sum ½‖u − y‖² over {train} points; "
            f"on their mean the same path takes {train} times the step size",
        }
        return Setup(flow, start, measure_flow=measure, spectral=spectral, facts=facts)

    def run(self, stages: Stages) -> Result:
        """Run the kernel flow and descent in function space."""
        from gflow.settings.flow_and_descent import run_paths

        return run_paths(self, stages)
