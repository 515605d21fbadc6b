"""Trajectories: the states of a flow, the cost of computing them, and their certificate."""

from gflow.trajectory.certificate import Certificate as Certificate
from gflow.trajectory.certificate import Escape as Escape
from gflow.trajectory.certificate import attempt as attempt
from gflow.trajectory.certificate import certify as certify
from gflow.trajectory.certificate import invariant_drift as invariant_drift
from gflow.trajectory.certificate import relative_error as relative_error
from gflow.trajectory.result import IntegrationError as IntegrationError
from gflow.trajectory.result import Stats as Stats
from gflow.trajectory.result import Trajectory as Trajectory
