"""Run folders may come from others: what their files do not hold as expected is one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from gflow.errors import InputError
from gflow.text import brief


@contextlib.contextmanager
def damage_is_an_input_error(where: object) -> Iterator[None]:
    """Turn errors about unexpected contents of a folder into an InputError.

    Parameters
    ----------
    where : object
        The folder, or the folders.

    Yields
    ------
    None

    Raises
    ------
    InputError

    Examples
    --------
    >>> with damage_is_an_input_error("outputs/run"):
    ...     {}["cost"]
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: damaged run at outputs/run: unexpected contents ('cost'); run it again
    """
    try:
        yield
    except InputError:
        raise
    except (LookupError, TypeError, AttributeError, ArithmeticError, ValueError) as error:
        what = brief(error, str, 150)
        raise InputError(
            f"damaged run at {where}: unexpected contents ({what}); run it again"
        ) from error
    except RecursionError:
        raise InputError(f"damaged run at {where}: contents too deep; run it again") from None
