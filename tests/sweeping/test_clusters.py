"""Where runs are done: who is trusted, and what a job of SLURM is."""

import sys

import pytest

from gflow.errors import InputError
from gflow.sweeping import clusters, slurm
from gflow.sweeping.clusters import connected
from gflow.sweeping.workers import WorkerConfig


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("tcp://10.0.0.7:8786", "must use TLS"),
        ("tcp://example.org:8786", "must use TLS"),
        ("tcp://127.0.0.1.example.org:8786", "must use TLS"),
        ("tcp://0.0.0.0:8786", "must use TLS"),
        ("tls://example.org:8786", "needs certificates"),
        ("ucx://127.0.0.1:8786", "must read tcp://"),
        ("127.0.0.1:8786", "must read tcp://"),
        ("tcp://127.0.0.1", "must read tcp://"),
        ("tcp://127.0.0.1:99999", "must read tcp://"),
        ("", "must read tcp://"),
    ],
)
def test_a_scheduler_that_is_not_to_be_trusted_is_refused(address, says, tmp_path):
    with (
        pytest.raises(InputError, match=says),
        connected(WorkerConfig(scheduler=address), tmp_path),
    ):
        pass


def test_a_scheduler_that_does_not_answer_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(clusters, "_ANSWER", "0.3s")
    address = "tcp://127.0.0.1:1"
    with pytest.raises(InputError, match="no scheduler answers at"):  # noqa: SIM117
        with connected(WorkerConfig(scheduler=address), tmp_path):
            pass


def test_without_the_engine_one_line_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match="pip install"), connected(WorkerConfig(), tmp_path):
        pass


def test_the_script_of_a_job(tmp_path):
    said = {"queue": "gpu", "account": "theory", "walltime": "2:00:00", "memory": "8GB"}
    said["directives"] = ["--exclusive"]
    where = WorkerConfig(threads=4, gpus=True, slurm=said)
    script = slurm.job_script(where, tmp_path)
    for line in (
        "#SBATCH -p gpu",
        "#SBATCH -A theory",
        "#SBATCH -t 2:00:00",
        "#SBATCH --mem=8G",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH --gres=gpu:1",
        "#SBATCH --exclusive",
        f"#SBATCH -o {tmp_path}/slurm/%j.out",
        "export OMP_NUM_THREADS=4",
    ):
        assert line in script.splitlines()
    command = script.strip().splitlines()[-1]
    for part in ("--nthreads 1", "--resources GPU=1", "--tls-ca-file", "tls://", "--nanny"):
        assert part in command
    assert not list(tmp_path.iterdir())  # a dry run leaves nothing


def test_certificates_are_made_once_and_for_their_owner_alone(tmp_path):
    security = slurm.certificates(tmp_path)
    place = tmp_path / "tls"
    assert place.stat().st_mode & 0o077 == 0
    assert (place / "key.pem").stat().st_mode & 0o077 == 0
    before = (place / "key.pem").read_bytes()
    slurm.certificates(tmp_path)
    assert (place / "key.pem").read_bytes() == before
    assert security.get_connection_args("client")["ssl_context"].verify_mode.name == "CERT_REQUIRED"


def test_without_slurm_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(InputError, match="no SLURM here"),
        connected(WorkerConfig(slurm={}), tmp_path),
    ):
        pass


def test_workers_here_get_their_threads_and_each_a_gpu(monkeypatch):
    monkeypatch.setattr(clusters, "_core_count", lambda: 8)
    assert len(clusters._environments(WorkerConfig())) == 8
    found = clusters._environments(WorkerConfig(threads=3))
    assert [env["OMP_NUM_THREADS"] for env in found] == ["3", "3"]
    monkeypatch.setattr(clusters, "_gpus", lambda: ["0", "1", "4"])
    found = clusters._environments(WorkerConfig(gpus=True))
    assert [env["CUDA_VISIBLE_DEVICES"] for env in found] == ["0", "1", "4"]
    with pytest.raises(InputError, match="there are 3 GPUs here, got --workers 4"):
        clusters._environments(WorkerConfig(gpus=True, workers=4))
    assert WorkerConfig(gpus=True).resources == {"GPU": 1}
