"""Tables read from scikit-learn's files are what scikit-learn loads, without importing it."""

import subprocess
import sys

import numpy as np
import pytest

from gflow.data import shipped as module
from gflow.data.shipped import by_scikit_learn, shipped


@pytest.mark.parametrize("name", ["digits", "diabetes", "wine"])
def test_every_number_is_that_of_scikit_learn(name):
    ours, theirs = shipped(name), by_scikit_learn(name)
    assert np.array_equal(ours.inputs, theirs.inputs)
    assert np.array_equal(ours.targets, theirs.targets)
    assert ours.targets.dtype.kind == theirs.targets.dtype.kind
    assert (ours.classes, ours.features) == (theirs.classes, theirs.features)


def test_scikit_learn_is_not_imported():
    code = "import sys; from gflow.data import load; load('digits'), load('diabetes')"
    code += "; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"sklearn", "scipy.stats", "pandas"} & set(done.stdout.split())


def test_a_table_that_is_elsewhere_is_loaded_by_scikit_learn(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "_folder", lambda: tmp_path)
    assert np.array_equal(shipped("digits").inputs, by_scikit_learn("digits").inputs)
