"""Small plans, and the work of a run that kills its worker."""

import os
import signal

from gflow.sweeping import task
from gflow.sweeping.plan import make_plan


def small_plan(*sets, **options):
    """Kernel flows of eight points: some milliseconds each."""
    fixed = "data=synthetic samples=8 test_samples=4 inputs=3 points=4 t_end=3.0"
    return make_plan("kernel", [*(tuple(w.split("=")) for w in fixed.split()), *sets], **options)


def killing(id):
    """The work of a run, of which one kills its worker."""

    def work(request, state):
        if request.id == id:
            os.kill(os.getpid(), signal.SIGKILL)
        return task.execute(request, state)

    return work
