from .team import Team as Team
from .team import current as current
from .team import processes as processes
