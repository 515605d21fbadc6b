"""How solves are executed: checkpointed, in a batch, or split across processes."""

from gflow.execution.context import Execution as Execution
from gflow.execution.context import current as current
from gflow.execution.context import using as using
