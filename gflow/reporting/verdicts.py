"""The verdict of a run and the checks of its certificates, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gflow.results.base import Result, Verdict
from gflow.results.lines import format_value

#: Heading and explanation of each verdict.
WORDS: Mapping[Verdict, tuple[str, str]] = {
    Verdict.HOLDS: (
        "The certificate holds",
        "Every check that ran is within its bound, so the computed path can be taken for the "
        "gradient flow within the stated error. These are measurements of this run, not a proof.",
    ),
    Verdict.UNCERTIFIED: (
        "The certificate does not hold",
        "At least one check exceeds its bound: the computed path may not be the gradient flow. Do "
        "not use its numbers before the cause is known; a smaller rtol or another method is the "
        "first thing to try.",
    ),
    Verdict.DIVERGED: (
        "The flow is certified, and a descent diverged",
        "Every check of the flow is within its bound. Gradient descent with at least one step size "
        "diverged: its step size is beyond the stability limit, and it has no gap to the flow.",
    ),
    Verdict.STOPPED: (
        "The solver stopped early",
        "The path ends before the time that was asked for. What follows describes the part that "
        "was reached.",
    ),
}

#: Name and meaning of each check, by its key in a certificate.
CHECKS: Mapping[str, tuple[str, str]] = {
    "energy_residual": (
        "energy identity",
        "the loss that the path lost, less the integral of the squared slope along it, relative "
        "to the loss",
    ),
    "loss_increase": (
        "monotone loss",
        "largest rise of the loss between two steps, relative to the loss; a gradient flow has "
        "none",
    ),
    "invariant_drift": (
        "conserved quantity",
        "largest change of a quantity that the flow conserves, relative to its natural scale",
    ),
    "velocity_error": (
        "velocity",
        "right-hand side against automatic differentiation of the loss at states along the path",
    ),
    "error_estimate": (
        "error of the states",
        "against the closed form where there is one, else against a solve at a tenth of the "
        "tolerance",
    ),
    "escape_error": (
        "escape from saddles",
        "against a finer solve that resolves the modes that leave a saddle",
    ),
    "round_off": ("round-off", "error of the states by round-off, relative to the largest state"),
}


@dataclass(frozen=True)
class Check:
    """One check of a certificate: its name and meaning, what was measured, and its bound."""

    name: str
    meaning: str
    measured: str
    bound: str
    outcome: str


@dataclass(frozen=True)
class CertificateText:
    """A certificate in words: of which path, its checks, and those that could not run."""

    title: str
    checks: tuple[Check, ...]
    not_run: tuple[str, ...]
    notes: tuple[str, ...]


def verdict_words(kind: type[Result], summary: Mapping[str, Any]) -> tuple[str, str, list[str]]:
    """Return heading, explanation and the failures of a summary.

    Parameters
    ----------
    kind : type
        The kind of result.
    summary : mapping

    Returns
    -------
    heading, explanation : str
    failures : list of str

    Examples
    --------
    >>> from gflow.results.registry import find_kind
    >>> summary = {"kind": "stopped", "certificate": {"holds": True, "failures": []}}
    >>> verdict_words(find_kind(summary), summary)[0]
    'The solver stopped early'
    """
    heading, explanation = WORDS[kind.verdict(summary)]
    failures = [str(f) for c in kind.certificates(summary) for f in c["failures"]]
    return heading, explanation, failures


def certificate_texts(kind: type[Result], summary: Mapping[str, Any]) -> list[CertificateText]:
    """Return every certificate with measurements in a summary, and in its rows.

    Parameters
    ----------
    kind : type
        The kind of result.
    summary : mapping

    Returns
    -------
    list of CertificateText

    Examples
    --------
    >>> from gflow.results.registry import find_kind
    >>> certificate = {"energy_residual": 1e-9, "bounds": {"energy_residual": 1e-5}}
    >>> summary = {"kind": "stopped", "certificate": certificate}
    >>> [check.outcome for check in certificate_texts(find_kind(summary), summary)[0].checks]
    ['within']
    """
    titles = {"certificate": "The flow", "parameter_certificate": "The flow of the parameters"}
    found = [
        (titles.get(key, key.replace("_", " ")), summary[key])
        for key in kind.certificate_keys
        if key in summary
    ]
    for row in kind.rows(summary):
        if isinstance(row.get("certificate"), Mapping):
            name = f"{kind.row_label.replace('_', ' ')} {format_value(row.get(kind.row_label))}"
            found.append((name[0].upper() + name[1:], row["certificate"]))
    return [_text(title, c) for title, c in found if "energy_residual" in c]


def _text(title: str, certificate: Mapping[str, Any]) -> CertificateText:
    bounds = certificate.get("bounds") or {}
    checks = []
    for key, (name, meaning) in CHECKS.items():
        value = certificate.get(key)
        if isinstance(value, Mapping):
            for quantity, drift in value.items():
                text = f"{name}: {str(quantity).replace('_', ' ')}"
                checks.append(_check(text, meaning, drift, bounds.get(key)))
        elif value is not None and (key in bounds or value):
            checks.append(_check(name, meaning, value, bounds.get(key)))
    notes = [str(certificate[key]) for key in ("underflow", "rest") if certificate.get(key)]
    growth = certificate.get("amplification")
    if isinstance(growth, float | int) and growth > 1:
        notes.append(f"errors grew by a factor of up to {format_value(float(growth), '.2g')}")
    return CertificateText(
        title, tuple(checks), tuple(map(str, certificate.get("not_run") or ())), tuple(notes)
    )


def _check(name: str, meaning: str, value: Any, bound: Any) -> Check:
    measured = format_value(value, ".2g")
    if bound is None:
        return Check(name, meaning, measured, "-", "measured")
    within = isinstance(value, float | int) and value <= bound
    return Check(
        name, meaning, measured, format_value(bound, ".2g"), "within" if within else "EXCEEDED"
    )
