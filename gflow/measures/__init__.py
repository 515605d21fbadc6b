"""Measures of a network: one file each, under the names that users ask for them by.

A file defines subclasses of `gflow.measures.base.Measure`; it needs no entry elsewhere. Those that
cost no more than a gradient are observables of every `NetworkFlow`; others are asked for by
``NetworkFlow(…, measure=("kernel_distance", "hessian_eigenvalues:10"))``.
"""

from gflow.measures.base import Measure as Measure
from gflow.measures.base import Network as Network
from gflow.measures.base import Snapshot as Snapshot
from gflow.measures.names import always as always
from gflow.measures.names import chosen as chosen
from gflow.measures.names import measures as measures
