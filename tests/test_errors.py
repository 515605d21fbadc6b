"""One base class for all errors; an interruption is not an error."""

from pathlib import Path

import pytest

from gflow import errors
from gflow.errors import GflowError, InputError, Interrupted, OutputError, PeerError


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [(InputError, ValueError), (PeerError, RuntimeError), (OutputError, OSError)],
)
def test_errors_derive_from_gflow_error_and_a_builtin_error(kind, builtin):
    for base in (GflowError, builtin):
        with pytest.raises(base, match="one line"):
            raise kind("one line")


def test_every_error_is_documented_and_derives_from_the_base():
    kinds = [k for k in vars(errors).values() if isinstance(k, type)]
    assert all(k.__doc__ for k in kinds)
    assert {k for k in kinds if not issubclass(k, GflowError)} == {Interrupted}


def test_handlers_of_errors_do_not_catch_an_interruption():
    stop = Interrupted("SIGTERM", Path("run"))
    assert not isinstance(stop, Exception)
    assert (stop.why, stop.folder, str(stop)) == ("SIGTERM", Path("run"), "interrupted (SIGTERM)")
