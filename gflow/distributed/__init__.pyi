from .process_group import current as current
from .process_group import processes as processes
from .team import Team as Team
