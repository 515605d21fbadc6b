import itertools

import numpy as np
import pytest

from gflow.solvers.loop import control
from gflow.solvers.loop.system import StepMeasurement
from gflow.solvers.problem import NOT_FINITE, RISES, UNDERFLOW

NAN = float("nan")
ORDERS = [2, 3, 4, 5, 8]


def row(value):
    return np.array([float(value)])


def verdict(
    error=0.0, energy=0.0, rate=0.0, loss=1.0, size=1.0, before=1.0, rtol=1e-3, atol=0.0, first=1.0
):
    measured = StepMeasurement(
        error=row(error),
        energy_error=row(energy),
        energy=row(0),
        rate=row(rate),
        speed=row(0),
        size=row(size),
        loss=row(loss),
        signal=row(0),
        event=row(0),
    )
    result = control.judge(
        measured,
        row(1.0),
        row(before),
        row(first),
        rtol=rtol,
        atol=atol,
        error_factor=1.0,
        round_off=1e-14,
    )
    return float(result.error[0]), bool(result.good[0]), control.FAULTS[int(result.fault[0])]


# -- is a step good? --------------------------------------------------------------------


def test_error_is_relative_to_the_tolerance_of_the_larger_end():
    assert verdict(error=5e-4)[:2] == (pytest.approx(0.5), True)
    assert verdict(error=2e-3)[:2] == (pytest.approx(2.0), False)
    assert verdict(error=2e-3, size=4.0)[:2] == (pytest.approx(0.5), True)
    assert verdict(error=2e-3, size=0.1)[:2] == (pytest.approx(2.0), False)
    assert verdict(error=2e-3, atol=3e-3)[:2] == (pytest.approx(0.5), True)


@pytest.mark.parametrize("sign", [1, -1])
def test_energy_tolerance_is_a_third_of_rtol_of_the_loss(sign):
    bound = 1e-3 / 3 + 1e-6
    assert verdict(energy=0.9 * sign * bound)[1]
    error, good, fault = verdict(energy=1.1 * sign * bound)
    assert (error, good, fault) == (pytest.approx(1.1), False, UNDERFLOW)
    assert verdict(energy=1.1 * sign * bound, before=2.0, loss=2.0)[1]
    assert verdict(energy=1.1 * sign * bound, first=2.0)[1]


def test_the_loss_may_not_rise():
    assert verdict(loss=1.0 + 0.5e-4)[1]
    assert verdict(loss=0.2, before=1.0)[1]
    assert verdict(loss=1.0 + 2e-4)[1:] == (False, RISES)
    assert not verdict(loss=0.1 + 2e-4, before=0.1)[1]  # even where the loss is small
    assert verdict(loss=-1.0, before=-0.9)[1]  # the loss may be negative
    assert not verdict(loss=-0.9, before=-1.0)[1]


def test_round_off_of_the_loss_is_not_a_rise():
    assert verdict(loss=1 + 5e-15, rtol=1e-20)[1]
    assert not verdict(loss=1 + 5e-14, rtol=1e-20)[1]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *itertools.product(["error", "energy", "rate", "loss", "size"], [NAN, np.inf]),
        ("energy", -np.inf),
        ("loss", -np.inf),
    ],
)
def test_a_step_that_is_not_finite_is_not_good(field, value):
    if field == "size":
        assert not verdict(**{field: value})[1]
    else:
        assert verdict(**{field: value})[1:] == (False, NOT_FINITE)


def test_every_step_at_rest_at_zero_without_atol_is_good():
    measured = StepMeasurement(*(row(0.0) for _ in StepMeasurement._fields))
    zero = row(0.0)
    result = control.judge(
        measured, zero, zero, zero, rtol=1e-6, atol=0.0, error_factor=1.0, round_off=1e-14
    )
    assert result.good[0]


def test_members_are_judged_separately():
    rows = dict.fromkeys(StepMeasurement._fields, np.zeros(2)) | {
        "size": np.ones(2),
        "loss": np.ones(2),
    }
    measured = StepMeasurement(**rows | {"error": np.array([0.0, 1.0])})
    ones = np.ones(2)
    result = control.judge(
        measured, ones, ones, ones, rtol=1e-3, atol=0, error_factor=1, round_off=0
    )
    assert result.good.tolist() == [True, False]


# -- how long is the next one? ----------------------------------------------------------


def settle(order, law, start, steps=60):
    """Step lengths under an error law err(h, n): good steps grow, bad ones shrink."""
    h, before, error_before = row(start), row(NAN), row(NAN)
    taken = []
    for n in range(steps):
        error = row(law(float(h[0]), n))
        if error[0] > 1:
            h = control.shrunk(h, error, order)
            continue
        taken.append(float(h[0]))
        grown = control.grown(h, error, before, error_before, order)
        h, before, error_before = grown, h, error
    return taken


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("start", [1e-6, 1.0, 1e3])
def test_step_settles_where_the_error_is_on_target(order, start):
    """err = (h/2)^q: the right step has err = safety^q."""
    taken = settle(order, lambda h, n: (h / 2) ** order, start)
    assert taken[-1] == pytest.approx(2 * 0.85, rel=0.01)
    assert len(taken) >= 55
    assert max(taken) < 2.0


@pytest.mark.parametrize("order", ORDERS)
def test_noise_is_filtered(order):
    """An error off by factors of 2^±q moves the step by less than half as much."""
    noise = np.random.default_rng(0).uniform(-0.3, 0.0, 500)
    taken = settle(order, lambda h, n: (h * 2 ** noise[n]) ** order, 0.5, 500)[100:]
    assert np.std(np.log2(taken)) < 0.5 * np.std(noise)
    assert len(taken) > 370


@pytest.mark.parametrize("order", ORDERS)
def test_step_follows_an_error_that_changes_smoothly(order):
    """The right step doubles or halves every 20 steps; few steps are rejected or too short."""
    for rate in (0.05, -0.05):
        taken = settle(order, lambda h, n, r=rate: (h * 2 ** (-r * n)) ** order, 0.5, 200)
        assert len(taken) >= 180
        expected = 0.85 * 2.0 ** (rate * 199)
        assert 0.4 <= taken[-1] / expected <= 1.3


def test_growth_is_bounded_and_the_first_step_may_grow_more():
    for error in (0.0, 1e-300, 1e-12):
        settled = control.grown(row(1), row(error), row(1), row(error), 5)
        assert settled == pytest.approx(2.0)
        assert control.grown(row(1), row(error), row(NAN), row(NAN), 5) == pytest.approx(10.0)
    assert control.grown(row(1), row(1.0), row(1e9), row(1e-9), 2) >= 0.1


def test_a_good_step_just_on_the_tolerance_is_followed_by_a_shorter_one():
    assert control.grown(row(1), row(1.0), row(1), row(1.0), 5) < 1
    assert control.grown(row(1), row(1.0), row(NAN), row(NAN), 5) == pytest.approx(0.85)


@pytest.mark.parametrize("order", ORDERS)
def test_rejected_step_shrinks_to_where_the_error_would_be_right(order):
    for expected in (0.2, 0.5, 0.65):
        error = (0.85 / expected) ** order
        assert control.shrunk(row(3.0), row(error), order) == pytest.approx(3 * expected)


def test_rejected_step_always_shrinks_by_a_bounded_factor():
    for error in (0.0, 0.5, 1.0, 1.0001, 10.0, 1e300, np.inf, NAN):
        assert 0.1 <= float(control.shrunk(row(1.0), row(error), 5)[0]) <= 0.7
    # If the loss rises although the error is small, the error does not determine the factor.
    assert control.shrunk(row(1.0), row(0.5), 5) == control.shrunk(row(1.0), row(NAN), 5)


def first(bound=1e-6, speed=1.0, rate=1.0, rtol=1e-6, span=1e9, order=5):
    return float(control.first(row(bound), row(speed), row(rate), rtol, span, order)[0])


@np.errstate(all="ignore")  # as in the loop
def test_first_step():
    # The error (hλ)^q ‖f‖/λ is below the bound, at most 2^q times.
    for order in ORDERS:
        h = first(order=order)
        assert 0.4**order * 1e-6 <= h**order <= 1e-6
    # The step does not depend on the units of time and of the state.
    assert first(speed=1e3, rate=1e3) == pytest.approx(1e-3 * first())
    assert first(bound=1e3, speed=1e9) == pytest.approx(first())
    assert first(span=1e-9) == 1e-9
    assert first(bound=0.0) == first()  # a start at zero without atol: rtol of the distance
    assert first(speed=0.0, rate=0.0, span=7.0) == 7.0  # a stationary start
    assert first(rate=0.0, span=7.0) == 7.0  # a straight path
    for bad in ({"speed": NAN}, {"rate": NAN}, {"rate": np.inf}, {"speed": np.inf}):
        assert 0 <= first(**bad) <= 1e9


SPECIAL = [0.0, 0.3, 1.0, 2.0, 1e-300, 1e300, np.inf, NAN]


def test_a_single_start_is_judged_and_steered_as_a_member_of_an_ensemble():
    """NumPy scalars and arrays give the same results, infinities and NaN included."""
    keys = {"rtol": 1e-3, "atol": 1e-9, "error_factor": 2.0, "round_off": 1e-14}
    rows = list(itertools.product(SPECIAL, repeat=3))
    error, size, loss = (np.array(column) for column in zip(*rows, strict=True))
    measured = StepMeasurement(error, 1e-4 * loss, loss, size, size, size, loss, loss, loss)
    with np.errstate(all="ignore"):
        batch = control.judge(measured, np.ones(len(rows)), 0.9 * loss, loss, **keys)
        of_batch = control.shrunk(size, error, 5), control.grown(size, error, loss, size, 5)
        for i in range(len(rows)):
            member = StepMeasurement(*(values[i] for values in measured))
            result = control.judge(member, np.float64(1.0), 0.9 * loss[i], loss[i], **keys)
            for of_member, of_all in zip(result, batch, strict=True):
                assert of_member == pytest.approx(of_all[i], rel=1e-14, nan_ok=True)
            shorter = control.shrunk(size[i], error[i], 5)
            longer = control.grown(size[i], error[i], loss[i], size[i], 5)
            for of_member, of_all in zip((shorter, longer), of_batch, strict=True):
                assert of_member == pytest.approx(of_all[i], rel=1e-14, nan_ok=True)
