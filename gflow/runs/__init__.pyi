from .job import Job as Job
from .reading import Run as Run
from .reading import load_run as load_run
from .runner import RunOptions as RunOptions
from .runner import resume as resume
from .runner import run as run
from .writing import RunResult as RunResult
