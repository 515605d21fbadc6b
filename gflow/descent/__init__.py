"""Discrete gradient descent on the parameters: explicit Euler for the parameter flow."""

from gflow.descent.loop import DescentRecord as DescentRecord
from gflow.descent.loop import DescentRequest as DescentRequest
from gflow.descent.loop import descend_measured as descend_measured
from gflow.descent.loop import serve_descent as serve_descent
from gflow.descent.path import Descent as Descent
from gflow.descent.path import descend as descend
from gflow.descent.path import descend_to as descend_to
