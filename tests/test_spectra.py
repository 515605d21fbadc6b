"""The names that gflow.spectra re-exports."""

import gflow.flows.sharpness
import gflow.linalg.eigen
from gflow import spectra


def test_public_names():
    assert spectra.effective_rank is gflow.linalg.eigen.effective_rank
    assert spectra.sharpness is gflow.flows.sharpness.sharpness
    assert spectra.sharpness_along is gflow.flows.sharpness.sharpness_along
