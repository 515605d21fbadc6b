"""``report.html``: one file that says what was asked, what came out and how far it can be trusted.

It opens from disk, loads nothing from anywhere, runs no code, and prints. Run folders may come from
others: every text in them is escaped, and a content security policy in the page forbids the browser
to load or run anything.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.resources
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gflow._version import __version__
from gflow.errors import InputError
from gflow.io.atomic import Folder
from gflow.io.plain import as_path, require_own_file
from gflow.reporting.comparison import comparison_of, labels_of
from gflow.reporting.damage import damage_is_an_input_error
from gflow.reporting.figures import overlays
from gflow.reporting.run_section import run_section
from gflow.reporting.sweep_section import sweep_section
from gflow.runs.reading import load_run
from gflow.sweeping.folder import is_sweep
from gflow.text import CONTROL

NAME = "report.html"
#: The start of a report, by which an older one is recognised and replaced.
MARK = "<!doctype html>\n<!-- gflow report -->"


def write_report(
    paths: str | Path | Sequence[str | Path], output: str | Path | None = None
) -> Path:
    """Write the report of a run or of a sweep, or of several runs side by side.

    Parameters
    ----------
    paths : str, Path or sequence of them
        The folder of a run or a sweep, or the folders of several runs.
    output : str or Path, optional
        The HTML file; by default ``report.html`` in the folder, and in the working directory for
        several runs.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If Jinja2 is missing, a folder holds no finished run, or the file exists and is no report.
    OutputError
        If the file cannot be written.

    Examples
    --------
    >>> write_report("nowhere")
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: no run at nowhere: manifest.json is missing; `gflow runs` lists runs
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    folders = [as_path(path) for path in given]
    if not folders:
        raise InputError("a report needs at least one run, got none; name the folder of a run")
    default = folders[0] / NAME if len(folders) == 1 else Path(NAME)
    file = default if output is None else as_path(output)
    if output is not None and not file.parent.is_dir():
        raise InputError(f"the folder of {file} must exist; make it, or choose another --output")
    if file.is_symlink() or file.exists():
        _require_report(file)
    with damage_is_an_input_error(", ".join(map(str, folders))):
        content = _content(folders)
    text = render(**content)
    _Place(file.parent).write_text(file.name, text)
    return file


def _content(folders: Sequence[Path]) -> dict[str, Any]:
    """Return the values that the page shows."""
    sweeps = [folder for folder in folders if is_sweep(folder)]
    if sweeps and len(folders) > 1:
        raise InputError(
            f"a report shows one sweep or several runs, got the sweep {sweeps[0]} among "
            f"{len(folders)} folders; pass it alone"
        )
    if sweeps:
        sweep = sweep_section(sweeps[0])
        return {"title": sweep.heading, "sweep": sweep}
    runs = [load_run(folder) for folder in folders]
    labels = labels_of([run.path for run in runs])
    sections = [run_section(run, label) for run, label in zip(runs, labels, strict=True)]
    if len(runs) == 1:
        return {"title": sections[0].heading, "sections": sections}
    compared = comparison_of(runs)
    return {
        "title": f"Comparison of {len(runs)} runs",
        "sections": sections,
        "comparison": compared,
        "overlays": overlays(runs, labels, compared.curves),
    }


def render(title: str, **content: Any) -> str:
    """Return the page as text.

    Parameters
    ----------
    title : str
    **content
        ``sections``, with ``comparison`` and ``overlays`` for several runs; or ``sweep``.

    Returns
    -------
    str

    Raises
    ------
    InputError
        If Jinja2 is missing.

    Examples
    --------
    >>> "<h1>a &lt;b&gt; c</h1>" in render("a <b> c", sections=[])
    True
    """
    try:
        import jinja2
    except ImportError:
        raise InputError("a report needs Jinja2; run: pip install 'gflow-ode[report]'") from None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gflow.reporting", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    empty: dict[str, Any] = {"sections": [], "comparison": None, "overlays": [], "sweep": None}
    page = environment.get_template("page.html").render(
        **{**empty, **content},
        title=title,
        style=importlib.resources.files("gflow.reporting").joinpath("page.css").read_text("utf-8"),
        version=__version__,
        made=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    )
    # Line ends are the page's own; the other characters are of texts made by others.
    clean = "\n".join(CONTROL.sub(" ", line) for line in page.split("\n"))
    return f"{MARK}\n{clean}\n"


class _Place(Folder):
    """A folder into which a report is written."""

    def __init__(self, path: Path):
        self.path = path


def _require_report(file: Path) -> None:
    """Raise InputError unless a file is an older report, which may be replaced."""
    old = b""
    with contextlib.suppress(OSError, ValueError):
        require_own_file(file)
        with file.open("rb") as opened:
            old = opened.read(len(MARK))
    if old != MARK.encode():
        raise InputError(f"{file} exists and is no report of gflow; choose another --output")
