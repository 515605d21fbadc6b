"""Signals and the time limit stop a run; afterwards the handlers are as before."""

import signal
import threading
import time
from types import SimpleNamespace

import pytest

from gflow.execution import using
from gflow.runs.signals import catch_signals, stop_on_signals

NAMES = ["SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2"]


def handlers():
    return [signal.getsignal(signal.Signals[name]) for name in [*NAMES, "SIGALRM"]]


@pytest.mark.parametrize("name", NAMES)
def test_a_signal_calls_the_function_with_its_name(name):
    before, received = handlers(), []
    with catch_signals(received.append):
        signal.raise_signal(signal.Signals[name])
    assert received == [name]
    assert handlers() == before


def test_the_time_limit_calls_the_function():
    before, received = handlers(), []
    with catch_signals(received.append, 0.01):
        end = time.monotonic() + 10
        while not received and time.monotonic() < end:
            time.sleep(0.01)
    assert received == ["time"]
    assert handlers() == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_handlers_are_restored_after_an_error():
    before = handlers()
    with pytest.raises(ZeroDivisionError), catch_signals(print, 60.0):
        raise ZeroDivisionError
    assert handlers() == before


def test_signals_can_be_ignored_afterwards():
    before = handlers()
    try:
        with catch_signals(print, ignore_afterwards=lambda: True):
            pass
        assert handlers()[:4] == [signal.SIG_IGN] * 4
    finally:
        for name, handler in zip(NAMES, before, strict=False):
            signal.signal(signal.Signals[name], handler)


def test_no_signals_are_caught_in_another_thread():
    before, inside = handlers(), []

    def work():
        with catch_signals(print, 60.0):
            inside.append(handlers())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert inside == [before]


@pytest.mark.parametrize(
    ("broken", "team_exists", "reasons"),
    [
        (False, False, ["SIGINT", "SIGTERM"]),
        (False, True, ["SIGINT"]),  # SIGTERM follows from torchrun, and means the same
        (True, True, []),
    ],
)
def test_the_second_signal_of_torchrun_is_ignored(broken, team_exists, reasons):
    team = SimpleNamespace(rank=0, size=2, broken=False) if team_exists else None
    received = []
    checkpointer = SimpleNamespace(stop=received.append)
    with using(team=team), stop_on_signals(checkpointer):
        if team is not None:
            team.broken = broken
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        if team is not None:
            team.broken = False
    assert received == reasons
