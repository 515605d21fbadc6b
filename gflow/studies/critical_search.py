r"""From the end of a flow to the critical point behind it, by Newton-Krylov.

Each step works in the Krylov space of the gradient g with the Hessian H, by its Ritz values θ:

* towards the nearest critical point of any kind, d = −H(H² + μ²)⁻¹g, the damped Newton step of
  g = 0 (Levenberg-Marquardt), where it shortens the gradient to a half;
* else downhill by damped Gauss-Newton steps, of networks with a squared error alone whose samples
  times outputs are few (`gflow.flows.objective.gauss_newton`), while these lower the loss by 1 %;
* else downhill, d = −(|H| + ν)⁻¹g, as the flow goes, at eigenvalues of both signs (Dauphin et al.
  2014, arXiv:1406.2572, section 5).

The first kind converges to saddles as well as to minima, also to those that are not isolated, as
the zeros of a wide network's loss (Yamashita & Fukushima 2001, doi:10.1007/978-3-7091-6217-0_18).
Where the loss falls for ever, as that of a classifier of separable data, the gradient falls at
every step by a factor and the steps do not become shorter: that is the way to infinity.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gflow.flows.base import Chart, Flow
from gflow.flows.sharpness import hessian_product
from gflow.linalg.eigen import largest_eigenvalues
from gflow.linalg.krylov_space import KrylovSpace
from gflow.studies.critical_point import CriticalPoint, Verdict

_SIZES = (20, 60, 200)  # dimensions of the Krylov space, until the linear residual is small
_RESIDUAL = 0.1  # of the gradient
_SHORTER = 0.5  # factor from which a Newton step counts as near a critical point
_FIRST_DAMPING = 1e-3  # of λ_max
_LEAST_DAMPING = 1e-9
_LEAST_GAUSS_NEWTON = 1e-13  # damping, relative to the kernel's norm
_TRIES = 8  # dampings of one step
_LEAST_FALL = 0.01  # of the loss, by a Gauss-Newton step
_MOST_GAUSS_NEWTON = 50  # steps
_ZERO_LOSS = 1e-20  # relative to the first loss: the Hessian is that of Gauss-Newton
_FAR = 1e-3  # relative length of a further Newton step that shows that no point is near
_NEGLIGIBLE = 1e-8  # of λ_max: eigenvalues that are zero to round-off
_DENSE_OUTPUTS = 3000  # samples × outputs up to which the tangent kernel is decomposed
_DENSE = 1500  # numbers of a state up to which the whole Hessian is decomposed
_MOST_NEGATIVE = 50  # eigenvalues
_EIGEN_TOLERANCE = 1e-6


class Search:
    """The search from one state, in coordinates in which the Hessian is symmetric.

    Parameters
    ----------
    flow : Flow
        A flow of parameters.
    y : Tensor, shape (*state)
        Where the search begins.
    max_products : int
        Hessian products before it ends.
    """

    def __init__(self, flow: Flow, y: Tensor, max_products: int):
        self._flow, self._start, self._budget = flow, y, max_products
        self.products = self.steps = 0
        self._damping = math.nan
        self._gauss_newton_steps, self._downhill_damping = 0, _FIRST_DAMPING
        self._goes_down = False  # by Gauss-Newton, without another look for a saddle
        self._move(y)
        self._first_loss = abs(self.loss)

    def _at(self, y: Tensor) -> tuple[float, Tensor, Chart | None]:
        """Return loss and gradient at a state, and the coordinates of its changes."""
        with torch.no_grad():
            loss, velocity = self._flow.loss_and_velocity(y)
        chart = self._flow.perturbations(y)
        gradient = -velocity if chart is None else -chart.from_state(velocity)
        return float(loss), gradient.flatten(), chart

    def _move(self, y: Tensor) -> None:
        self.y = y
        self.loss, self.gradient, self._chart = self._at(y)

    def _moved(self, d: Tensor) -> Tensor:
        d = d.reshape(self.y.shape)
        return self.y + (d if self._chart is None else self._chart.to_state(d))

    def step(self) -> bool:
        """Take one step; return whether there was one, and products are left."""
        if self.products >= self._budget:
            return False
        if self._goes_down and self._gauss_newton():
            return True
        space = self._space()
        scale = float(space.ritz()[0].abs().max())
        if not 0 < scale < math.inf:
            return False
        if math.isnan(self._damping):
            self._damping = _FIRST_DAMPING
        if self._newton(space, scale):
            self._goes_down = False
        elif self._gauss_newton():
            return True
        elif not self._downhill(space, scale):
            return False
        self.steps += 1
        return True

    def _gauss_newton(self) -> bool:
        """Move to where the loss is lower by a part, by the least damped step that does."""
        self._goes_down = False
        if self._gauss_newton_steps >= _MOST_GAUSS_NEWTON:
            return False
        steps = self._flow.gauss_newton(self.y)
        if steps is None:
            self._gauss_newton_steps = _MOST_GAUSS_NEWTON
            return False
        scale, damping = steps.scale, self._downhill_damping
        for _ in range(2 * _TRIES):
            d = steps.step(damping * scale)
            y = self.y if d is None else self.y + d
            loss = self.loss if d is None else self._at(y)[0]
            if loss < (1 - _LEAST_FALL) * self.loss:
                self._move(y)
                self._downhill_damping = max(damping / 10, _LEAST_GAUSS_NEWTON)
                self._gauss_newton_steps += 1
                self.steps += 1
                self._goes_down = True
                return True
            damping *= 10
            if damping > 1:
                break
        self._downhill_damping = _FIRST_DAMPING
        return False

    def _space(self) -> KrylovSpace:
        """Return a Krylov space in which the least damped Newton step is nearly exact."""
        space = KrylovSpace(hessian_product(self._flow, self.y), self.gradient)
        for size in _SIZES:
            space.grow(size)
            values, _ = space.ritz()
            mu = _LEAST_DAMPING * float(values.abs().max())
            rest = self.gradient - space.image(_newton_factor(mu))
            if space.closed or float(rest.norm()) <= _RESIDUAL * float(self.gradient.norm()):
                break
        self.products += space.steps
        return space

    def _newton(self, space: KrylovSpace, scale: float) -> bool:
        """Move to where the gradient is half as long, by the least damped step that does."""
        before = float(self.gradient.norm())
        damping = self._damping
        for _ in range(_TRIES):
            mu = damping * scale
            y = self._moved(-space.apply(_newton_factor(mu)))
            loss, gradient, _ = self._at(y)
            if math.isfinite(loss) and float(gradient.norm()) <= _SHORTER * before:
                self._damping = max(damping / 10, _LEAST_DAMPING)
                self._move(y)
                return True
            damping *= 10
            if damping > 1:
                break
        self._damping = min(10 * self._damping, _FIRST_DAMPING)
        return False

    def _downhill(self, space: KrylovSpace, scale: float) -> bool:
        """Move downhill, by the least damped step that lowers the loss as much as it promises."""
        nu = 1e-6
        for _ in range(_TRIES + 4):
            shift = nu * scale
            d = -space.apply(_downhill_factor(shift))
            y = self._moved(d)
            loss, gradient, _ = self._at(y)
            promised = -float(self.gradient @ d)
            if math.isfinite(loss) and self.loss - loss >= 1e-4 * promised > 0:
                self._move(y)
                return True
            nu *= 10
        # Where the loss has no digits left, a shorter gradient decides.
        if math.isfinite(loss) and float(gradient.norm()) < float(self.gradient.norm()):
            self._move(y)
            return True
        return False

    def result(self, tol: float) -> CriticalPoint:
        """Return what was found, with the Hessian's eigenvalues."""
        values, flat = self._eigenvalues()
        high = float(values.max())
        size = float(values.abs().max())
        index = int((values < -_NEGLIGIBLE * size).sum())
        norm = float(self.gradient.norm())
        return CriticalPoint(
            state=self.y,
            loss=self.loss,
            gradient_norm=norm,
            distance=float((self.y - self._start).norm()),
            verdict=self._verdict(norm <= tol, index),
            index=index,
            eigenvalues=(float(values.min()), high),
            flat=flat,
            steps=self.steps,
            products=self.products,
        )

    def _verdict(self, reached: bool, index: int) -> Verdict:
        if not reached:
            return "not reached"
        if float(self.gradient.norm()) > 0:
            space = self._space()
            mu = _NEGLIGIBLE * float(space.ritz()[0].abs().max())
            further = space.apply(_newton_factor(mu)) if mu > 0 else self.gradient * 0
            grown = float(self.y.norm()) > float(self._start.norm())
            if grown and float(further.norm()) > _FAR * float(self.y.norm()):
                return "way to infinity"
        return "saddle" if index else "minimum"

    def _eigenvalues(self) -> tuple[Tensor, int | None]:
        """Return eigenvalues with all negative ones and the largest, and how many are zero."""
        product, n = hessian_product(self._flow, self.y), self.y.numel()
        flat = None
        if n > _DENSE and abs(self.loss) <= _ZERO_LOSS * self._first_loss:
            steps = self._flow.gauss_newton(self.y)
            if steps is not None and len(steps.kernel) <= _DENSE_OUTPUTS:
                flat = n - steps.rank(_NEGLIGIBLE)
        if n <= _DENSE:
            identity = torch.eye(n, dtype=self.y.dtype, device=self.y.device)
            H = torch.stack([product(row) for row in identity])
            values = torch.linalg.eigvalsh((H + H.mT) / 2)
            return values, int((values.abs() <= _NEGLIGIBLE * values.abs().max()).sum())
        noise = torch.Generator().manual_seed(0)
        starts = torch.randn(_MOST_NEGATIVE, n, generator=noise, dtype=torch.float64).to(self.y)
        top = largest_eigenvalues(product, starts[:1], tol=_EIGEN_TOLERANCE).values
        shift, k = float(top.abs().max()), 1
        while True:  # of shift − H, so that residuals are relative to the largest eigenvalue
            pairs = largest_eigenvalues(
                lambda v: shift * v - product(v), starts[:k], k, tol=_EIGEN_TOLERANCE,
                max_products=400 + 4 * k,
            )  # fmt: skip
            low = shift - pairs.values
            if float(low[-1]) >= -_NEGLIGIBLE * shift or k == _MOST_NEGATIVE:
                return torch.cat([low, top]), flat
            k = min(2 * k, _MOST_NEGATIVE)


def _newton_factor(mu: float) -> Callable[[Tensor], Tensor]:
    """Return θ ↦ θ/(θ² + μ²)."""
    return lambda x: x / (x * x + mu * mu)


def _downhill_factor(shift: float) -> Callable[[Tensor], Tensor]:
    """Return θ ↦ 1/(|θ| + ν)."""
    return lambda x: 1 / (x.abs() + shift)
