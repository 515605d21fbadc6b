"""What to cite for a run: gflow, the papers of its setting and study, and the method's.

A setting names its papers in the class variable ``papers``; those of the methods are listed here.
The entries are in ``references.bib``, in the order in which they are printed.
"""

from __future__ import annotations

import functools
import importlib.resources
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gflow._version import __version__
from gflow.errors import InputError
from gflow.reporting.damage import damage_is_an_input_error
from gflow.runs.job import Job, read_job
from gflow.runs.reading import load_run

#: Papers of the methods, by words in their names; torchdiffeq and SciPy are for all of theirs.
METHODS: Mapping[str, str] = {
    "tsit5": "tsitouras2011runge",
    "dop853": "hairer1993solving",
    "bdf": "hairer1993solving",
    "rkc2": "sommeijer1998rkc",
    "rock4": "abdulle2002fourth",
    "krylov": "hochbruck1997krylov",
    "scipy": "virtanen2020scipy",
}
#: Methods that need no citation.
OWN = ("exact", "auto")

_ENTRY = re.compile(r"^@\w+\{([^,\s]+),.*?^\}", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Reference:
    """A BibTeX entry.

    Attributes
    ----------
    key, bibtex : str
    """

    key: str
    bibtex: str

    def field(self, name: str) -> str:
        """Return a field as plain text, or an empty text.

        Examples
        --------
        >>> references()["sommeijer1998rkc"].field("title")
        'RKC: An explicit solver for parabolic PDEs'
        """
        found = re.search(rf"^\s*{name} = \{{(.*)\}},?$", self.bibtex, re.MULTILINE)
        text = "" if found is None else found[1]
        for marked, plain in (
            ("--", "–"),
            (r"\&", "&"),
            (r"{\'e}", "é"),
            (r"{\'o}", "ó"),
            (r"{\o}", "ø"),
        ):
            text = text.replace(marked, plain)
        return text.replace("{", "").replace("}", "")

    @property
    def text(self) -> str:
        """Authors, title, place and year, in one line."""
        authors = [
            a.partition(", ")[0] if a != "others" else "et al."
            for a in self.field("author").split(" and ")
        ]
        place = self.field("booktitle") or self.field("journal") or self.field("publisher")
        parts = [", ".join(authors), self.field("title"), place, self.field("year")]
        return ". ".join(part.rstrip(".") for part in parts if part) + "."

    @property
    def address(self) -> str:
        """The address of the paper on arXiv, or an empty text."""
        number = self.field("eprint")
        return f"https://arxiv.org/abs/{number}" if re.fullmatch(r"[\d.]+", number) else ""


@functools.cache
def references() -> dict[str, Reference]:
    """Return all entries by their keys.

    Examples
    --------
    >>> references()["barrett2021implicit"].field("eprint")
    '2009.11162'
    """
    file = importlib.resources.files("gflow.reporting").joinpath("references.bib")
    return parse(file.read_text(encoding="utf-8"))


def parse(text: str) -> dict[str, Reference]:
    """Return the entries of a BibTeX text by their keys; each ends with a brace on its own line."""
    return {m[1]: Reference(m[1], m[0]) for m in _ENTRY.finditer(text)}


def software(version: str = __version__) -> Reference:
    """Return the entry of gflow itself.

    Examples
    --------
    >>> software("0.1.0").field("version")
    '0.1.0'
    """
    shown = re.sub(r"[^\w.+-]", "", version)[:40]  # it may come from a manifest made by others
    entry = f"""@software{{gflow,
  title = {{gflow: gradient flow of neural networks beside gradient descent}},
  author = {{{{The gflow developers}}}},
  version = {{{shown}}}
}}"""
    return Reference("gflow", entry)


def citations_of(job: Job, method: str, version: str = __version__) -> list[Reference]:
    """Return what to cite for a job: gflow, the papers of its setting, and those of the method.

    Parameters
    ----------
    job : Job
    method : str
        The methods that were used, as ``cost.method`` in a summary has them.
    version : str
        The version of gflow.

    Returns
    -------
    list of Reference

    Examples
    --------
    >>> from gflow.scenario import load_scenario
    >>> [r.key for r in citations_of(Job(load_scenario("factorization")), "rkc2")]
    ['gflow', 'gunasekar2017implicit', 'sommeijer1998rkc']
    """
    keys = [*job.scenario.papers, *(["barrett2021implicit"] if job.modified else [])]
    words = re.findall(r"[a-z0-9_]+", method.lower())
    known = [METHODS[word] for word in words if word in METHODS]
    others = [word for word in words if word in _torchdiffeq_names()]
    keys += known + (["chen2018neural"] if others and "scipy" not in words else [])
    return [software(version), *(_reference(key) for key in dict.fromkeys(keys))]


def _torchdiffeq_names() -> frozenset[str]:
    from gflow.solvers.torchdiffeq import TorchdiffeqSolver

    return frozenset(TorchdiffeqSolver.names)


def _reference(key: str) -> Reference:
    """Return an entry by its key; a setting of the user's own may have the entry itself."""
    entry = references().get(key) or next(iter(parse(key).values()), None)
    if entry is None:
        raise InputError(
            f"papers must be keys of references.bib or BibTeX entries, got {key!r:.80}; see "
            "gflow/reporting/citations.py"
        )
    return entry


def cite(path: str | Path) -> list[Reference]:
    """Return what to cite for a finished run.

    Parameters
    ----------
    path : str or Path
        The run's folder.

    Returns
    -------
    list of Reference

    Raises
    ------
    InputError
        If the folder holds no finished run.

    Examples
    --------
    >>> cite("nowhere")
    Traceback (most recent call last):
        ...
    gflow.errors.InputError: no run at nowhere: manifest.json is missing; `gflow runs` lists runs
    """
    run = load_run(path)
    with damage_is_an_input_error(run.path):
        return citations_of(
            read_job(run.path), method_of(run.summary), str(run.manifest.get("gflow"))
        )


def method_of(summary: Mapping[str, Any]) -> str:
    """Return the methods that a summary names, or an empty text."""
    cost = summary.get("cost")
    return str(cost.get("method", "")) if isinstance(cost, Mapping) else ""
