"""A real SLURM of one node on the loopback interface, for the duration of a test.

slurmctld and slurmd of Debian's ``slurm-wlm`` run in the foreground as children of this process,
with all their files in one folder. Anyone who reaches the ports can submit jobs
(``AuthType=auth/none``), so they listen on 127.0.0.1 only.
"""

from __future__ import annotations

import contextlib
import ctypes
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

CPUS = 8
PACKAGE = "slurm-wlm"
_PROGRAMS = ("slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo", "scontrol")
_DIES_WITH_PARENT = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>

_CONF = """\
ClusterName=gflow
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller_port}
SlurmdPort={daemon_port}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
AuthType=auth/none
CredType=cred/none
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=2,sched_min_interval=100000
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=5
MinJobAge=300
JobRequeue=1
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={megabytes} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


class NoSlurm(Exception):
    """SLURM is missing and cannot be installed; the message says why."""


class Slurm:
    """A running SLURM.

    Attributes
    ----------
    folder : Path
        Its configuration, state and logs.
    environment : dict
        The environment variables with which its commands find it.
    """

    def __init__(self, folder: Path, environment: dict[str, str]):
        self.folder = folder
        self.environment = environment

    def call(self, *command: str, seconds: float = 20.0) -> str:
        """Return the standard output of a command; raise RuntimeError if it fails."""
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds, env=self.environment
        )
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
        return done.stdout.strip()

    def jobs(self, *states: str) -> list[str]:
        """Return the ids of the jobs in these states, by default of all unfinished jobs."""
        chosen = ["--states", ",".join(states)] if states else []
        return self.call("squeue", "--noheader", "--format=%i", "--sort=i", *chosen).split()

    def state(self, job: str) -> str:
        """Return the state of a job, also of a finished one: RUNNING, COMPLETED, CANCELLED, ..."""
        text = self.call("scontrol", "--oneliner", "show", "job", job)
        return dict(part.split("=", 1) for part in text.split() if "=" in part)["JobState"]


def install() -> None:
    """Install SLURM if it is missing.

    Raises
    ------
    NoSlurm
        If it cannot be installed, with the reason in one line.
    """
    if _missing():
        if not shutil.which("apt-get"):
            raise NoSlurm(f"{', '.join(_missing())} missing, and there is no apt-get to install")
        if os.geteuid() != 0:
            raise NoSlurm(f"{', '.join(_missing())} missing; as root: apt-get install {PACKAGE}")
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update", "-qq"], ["install", "-y", "--no-install-recommends", PACKAGE]):
            try:
                subprocess.run(
                    ["apt-get", *command], env=quiet, capture_output=True, check=True, timeout=600
                )
            except (OSError, subprocess.SubprocessError) as error:
                raise NoSlurm(f"apt-get {' '.join(command)}: {error}") from None
    if _missing():
        raise NoSlurm(f"{', '.join(_missing())} missing after apt-get install {PACKAGE}")


def _missing() -> list[str]:
    return [name for name in _PROGRAMS if not shutil.which(name, path=_search_path())]


def _search_path() -> str:
    """Return PATH with the folders of daemons, which an ordinary user's lacks."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


@contextlib.contextmanager
def one_node_slurm(folder: Path, *, cpus: int = CPUS) -> Iterator[Slurm]:
    """Run SLURM with one idle node; its jobs and daemons end with the context.

    Parameters
    ----------
    folder : Path
        An empty folder for its configuration, state, spool and logs.
    cpus : int, default 8
        The number of CPUs that the node declares, whatever the machine has.

    Raises
    ------
    RuntimeError
        If it does not start, with the end of its logs.
    """
    configuration = folder / "slurm.conf"
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    controller_port, daemon_port = _free_ports(2)
    configuration.write_text(
        _CONF.format(
            host=socket.gethostname().split(".")[0],
            user=getpass.getuser(),
            folder=folder,
            controller_port=controller_port,
            daemon_port=daemon_port,
            cpus=cpus,
            megabytes=1024 * cpus,
        )
    )
    environment = {**os.environ, "SLURM_CONF": str(configuration), "PATH": _search_path()}
    slurm = Slurm(folder, environment)
    with contextlib.ExitStack() as stack:
        stack.callback(_end_processes_of, configuration)
        for daemon in ("slurmctld", "slurmd"):
            stack.enter_context(_foreground(daemon, environment, folder))
        try:
            wait_for(lambda: "idle" in slurm.call("sinfo", "--noheader", "--format=%t"), 60)
        except TimeoutError:
            raise RuntimeError(f"SLURM did not start:\n{_logs(folder)}") from None
        stack.callback(_cancel_all, slurm)
        yield slurm


@contextlib.contextmanager
def _foreground(daemon: str, environment: dict[str, str], folder: Path) -> Iterator[None]:
    with (folder / f"{daemon}.out").open("wb") as out:
        process = subprocess.Popen(
            [daemon, "-D"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            preexec_fn=_die_with_parent,
        )
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_DIES_WITH_PARENT, signal.SIGTERM)


def _cancel_all(slurm: Slurm) -> None:
    with contextlib.suppress(RuntimeError, TimeoutError, subprocess.SubprocessError):
        for job in slurm.jobs():
            slurm.call("scancel", job)
        wait_for(lambda: not slurm.jobs(), 30)


def _end_processes_of(configuration: Path) -> None:
    """Kill the remaining processes of jobs, which leave the process group of the daemons."""
    ours = f"SLURM_CONF={configuration}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if ours in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in held]


def _logs(folder: Path) -> str:
    files = sorted([*folder.glob("*.log"), *folder.glob("*.out")])
    return "\n".join(f"{f.name}: {f.read_text(errors='replace')[-1500:]}" for f in files)


def wait_for(ready: Callable[[], bool], seconds: float, *, every: float = 0.2) -> None:
    """Wait until a condition holds; an error of a command counts as False.

    Raises
    ------
    TimeoutError
        If the condition does not hold in time.
    """
    last: Exception | None = None
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if ready():
                return
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            last = error
        time.sleep(every)
    raise TimeoutError(f"the condition does not hold after {seconds:g} s; last error: {last}")
