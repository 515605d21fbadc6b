"""A small plan, and a run that kills its worker."""

import os
import signal

from gflow.sweeping import task
from gflow.sweeping.plan import make_plan


def small_plan(*sets, **options):
    """Return a plan of kernel flows of eight points, of some milliseconds each."""
    fixed = "data=synthetic samples=8 test_samples=4 inputs=3 points=4 t_end=3.0"
    specs = dict(word.split("=") for word in fixed.split()) | dict(sets)
    return make_plan("kernel", list(specs.items()), **options)


def killing(id):
    """Return an ``execute`` with which one run kills its worker."""

    def execute(request, state):
        if request.id == id:
            os.kill(os.getpid(), signal.SIGKILL)
        return task.start_or_resume(request, state)

    return execute
