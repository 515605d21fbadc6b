"""Values in a notebook: a verdict, the cost, and a small picture."""

from __future__ import annotations

import html as escaping
from typing import TYPE_CHECKING

from gflow.errors import InputError
from gflow.views.plotting import find_figure
from gflow.views.values import to_dataset

if TYPE_CHECKING:
    from gflow.display import Display

_COLOURS = {True: "#1b6e3c", False: "#b3261e"}


def html(value: Display) -> str:
    """Return a value as HTML: its short text, verdict, lines and a picture.

    Parameters
    ----------
    value : Trajectory, Descent, Gap, study or run

    Returns
    -------
    str
        Complete in itself: the picture is part of it.

    Examples
    --------
    >>> import gflow
    >>> flow, start = gflow.KernelFlow.example()
    >>> text = html(gflow.integrate(flow, start, [0.0, 1.0]))
    >>> "certificate holds" in text, "data:image/png" in text
    (True, True)
    """
    verdict, lines = value._lines()
    rows = "".join(
        f"<tr><th style='text-align:left;font-weight:normal;opacity:.7'>{_text(label)}</th>"
        f"<td style='text-align:left'>{_text(text)}</td></tr>"
        for label, text in lines
        if label != "certificate" or "NOT" in text
    )
    badge = ""
    if verdict:
        colour = _COLOURS["NOT" not in verdict and "DIVERGED" not in verdict]
        badge = f" <span style='color:{colour};font-weight:bold'>{_text(verdict)}</span>"
    return (
        f"<div style='display:flex;gap:1.5em;align-items:center;flex-wrap:wrap'>{_picture(value)}"
        f"<div><b>{_text(type(value).__name__)}</b>{badge}<table>{rows}</table></div></div>"
    )


def _text(text: str) -> str:
    return escaping.escape(text)


def _picture(value: Display) -> str:
    """Return an image element; nothing for a value without a figure."""
    ds = to_dataset(value)
    try:
        spec = find_figure(ds, None)
    except InputError:
        return ""
    from gflow.plots.drawing import thumbnail

    return (
        f"<img alt='{_text(spec.name)}' style='max-width:{340 * spec.panels}px' "
        f"src='data:image/png;base64,{thumbnail(spec, ds)}'/>"
    )
