"""One run split across processes."""

from gflow.distributed.team import Team as Team
from gflow.distributed.team import current as current
from gflow.distributed.team import processes as processes
