"""Text for one line of a terminal or a file: printable, brief, with suggestions."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

#: Control characters, bidirectional marks and lone surrogates.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    r"""Return a text in one line, without control characters, which a terminal would obey.

    Examples
    --------
    >>> printable("a name\x1b[2J\nand more")
    'a name [2J and more'
    """
    return " ".join(CONTROL.sub(" ", text).split())


def brief(value: object, show: Callable[[Any], str] = repr, max_length: int = 80) -> str:
    """Return a short text for any value, even one made to be long or deep.

    Parameters
    ----------
    value : object
    show : callable
        ``show(value)`` is its text.
    max_length : int
        The number of characters after which the text is cut.

    Returns
    -------
    str

    Examples
    --------
    >>> brief("a\\n"), brief(16**5000)
    ("'a\\\\n'", 'int too large to show')
    """
    try:
        return printable(show(value)[:max_length])
    except (ValueError, RecursionError):  # an integer of 5,000 digits, deeply nested tables
        return f"{type(value).__name__} too large to show"


def printable_values(value: object) -> Any:
    """Return a tree of plain values with every text `printable`, and cut at 500 characters."""
    if isinstance(value, Mapping):
        return {printable(str(k)): printable_values(v) for k, v in value.items()}
    if isinstance(value, list):
        return [printable_values(v) for v in value]
    return printable(value[:500]) if isinstance(value, str) else value


def one_line(error: BaseException) -> str:
    """Return the type and the message of an error in one line of at most 200 characters."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 200 else text[:197] + "..."


def plain(value: Any) -> Any:
    """Replace NaN by None and infinities by strings, so that any JSON reader accepts a value.

    Examples
    --------
    >>> plain({"a": [1.0, float("nan"), float("-inf")]})
    {'a': [1.0, None, '-inf']}
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value


def is_known(value: object) -> bool:
    """Return whether a value is a finite number; in a summary from JSON, NaN is None.

    Examples
    --------
    >>> [is_known(value) for value in (0.5, float("nan"), None, "inf")]
    [True, False, False, False]
    """
    return isinstance(value, int | float) and math.isfinite(value)


def clause(text: str, *values: object) -> str:
    """Return a part of a sentence with its numbers, or nothing where one of them is not known.

    Parameters
    ----------
    text : str
        With one replacement field, such as ``{:.2g}``, for each value.
    *values
        Numbers; NaN and None are not known.

    Returns
    -------
    str

    Examples
    --------
    >>> "the loss is 0" + clause(", its rate {:.2g}", 0.51), "it is 0" + clause("; {:g}", None)
    ('the loss is 0, its rate 0.51', 'it is 0')
    """
    return text.format(*values) if all(map(is_known, values)) else ""


def power_of_ten(exponent: float) -> str:
    """Return 10 to an exponent as a number with three digits, also below the least float.

    Examples
    --------
    >>> power_of_ten(-1000.0), power_of_ten(-1e6), power_of_ten(-300.5), power_of_ten(-0.5)
    ('1e-1000', '1e-1000000', '3.16e-301', '0.316')
    """
    if abs(exponent) < 4 and exponent != round(exponent):
        return f"{float(f'{10**exponent:.3g}'):g}"
    whole = math.floor(exponent)
    leading = float(f"{10 ** (exponent - whole):.3g}")
    if leading == 10:  # by rounding
        leading, whole = 1.0, whole + 1
    return f"{leading:g}e{whole:d}" if whole else f"{leading:g}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is nearest to a misspelt one, or None where none is near.

    Capitals, and ``-`` for ``_``, are no difference.

    Parameters
    ----------
    name : str
    known : iterable of str

    Returns
    -------
    str or None

    Examples
    --------
    >>> nearest("T-END", ["t_end", "time"]), nearest("xyz", ["t_end"])
    ('t_end', None)
    """
    plain = {option.lower().replace("-", "_"): option for option in known}
    wanted = name[:80].lower().replace("-", "_")
    close = difflib.get_close_matches(wanted, plain, n=1, cutoff=0.5)
    return plain[close[0]] if close else None


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the message about an unknown name, with the nearest known one.

    Parameters
    ----------
    kind : str
        What the name would be a name of.
    name : str
    known : iterable of str

    Returns
    -------
    str

    Examples
    --------
    >>> unknown("key", "dept", ["depth", "seed"])
    "there is no key 'dept'; did you mean 'depth'?"
    """
    options = list(known)
    close = nearest(name, options)
    hint = f"did you mean '{close}'?" if close else f"choose from {', '.join(options)}"
    return f"there is no {kind} '{printable(name[:80])}'; {hint}"
