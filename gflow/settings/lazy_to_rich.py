"""``lazy-to-rich``: the balance of two linear layers chooses between lazy and rich learning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from gflow.settings.base import Positive
from gflow.settings.laboratory_base import LaboratoryScenario

if TYPE_CHECKING:
    from torch import Tensor

    from gflow.callbacks import Stages
    from gflow.results.base import Result, Setup

Balance = Annotated[float, Field(ge=-1e4, le=1e4, allow_inf_nan=False)]
Mode = Annotated[float, Field(ge=1e-3, le=1e3, allow_inf_nan=False)]


class LazyToRich(LaboratoryScenario):
    """Two linear layers W = W_2 W_1 on a target of few modes, W_2'W_2 - W_1 W_1' = balance * I."""

    setting: ClassVar[str] = "lazy-to-rich"
    papers: ClassVar[tuple[str, ...]] = ("domine2024lazy", "kunin2024rich")

    size: Annotated[int, Field(ge=1, le=22)] = Field(6, description="size d of all matrices")
    modes: tuple[Mode, ...] = Field(
        (3.0, 2.0, 1.0), min_length=1, description="singular values of the target"
    )
    init_scale: Annotated[float, Field(ge=1e-8, le=1e3, allow_inf_nan=False)] = Field(
        0.01, description="standard deviation of the entries of W at t = 0"
    )
    balances: tuple[Balance, ...] = Field(
        (-10.0, -3.0, -1.0, 0.0, 1.0, 3.0, 10.0), min_length=1, description="balances of the starts"
    )
    rtol: Positive = Field(1e-8, description="relative tolerance of the solver")
    atol: Annotated[float, Field(ge=0, allow_inf_nan=False)] = Field(
        1e-10, description="absolute tolerance of the solver"
    )
    points: Annotated[int, Field(ge=2, le=100_000)] = Field(
        40, description="number of times at which a path is measured"
    )

    def problem(self) -> tuple[Tensor, Tensor]:
        """Draw the target and W at t = 0, with determinants of the same sign.

        Raises
        ------
        InputError
            If there are more modes than rows.
        """
        import torch

        from gflow.errors import InputError

        if len(self.modes) > self.size:
            raise InputError(
                f"a matrix of size {self.size} has at most {self.size} modes, got "
                f"{len(self.modes)}; give fewer modes or a larger size"
            )
        generator, shape = self.generator(), (self.size, self.size)
        U, V, W0 = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3))
        U, V = torch.linalg.qr(U)[0], torch.linalg.qr(V)[0]
        sigma = torch.zeros(self.size, dtype=torch.float64)
        sigma[: len(self.modes)] = torch.tensor(sorted(self.modes, reverse=True)).double()
        M = (U * sigma) @ V.mT
        # A balanced start keeps the sign of det W: with the other one it would stay at a saddle.
        if float(torch.linalg.det(U @ V.mT) * torch.linalg.det(W0)) < 0:
            W0[0] *= -1
        options = self.torch_options()
        return M.to(**options), (self.init_scale * W0).to(**options)

    def setup(self) -> Setup:
        """Make the flow from the start of the least unbalance."""
        from gflow.flows import LayerwiseFlow
        from gflow.losses import SquaredDistance
        from gflow.results.base import Setup

        target, start = self.problem()
        flow = LayerwiseFlow(SquaredDistance(target), [self.size] * 3)
        y0 = flow.balanced_start(start, balance=min(self.balances, key=abs))
        return Setup(flow, y0, facts={"size": self.size, "modes": len(self.modes)})

    def run(self, stages: Stages) -> Result:
        """Follow the layers from every balance, beside their closed form."""
        from gflow.results.lazy_to_rich import LazyToRichResult
        from gflow.studies.lazy_to_rich import lazy_to_rich

        study = lazy_to_rich(
            *self.problem(),
            self.balances,
            t_end=self.t_end or 10.0 / min(self.modes),
            options=self.solve_options(),
            stages=stages,
        )
        return LazyToRichResult.from_study(study)
