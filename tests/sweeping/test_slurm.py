"""SLURM jobs: their script and their certificates."""

import pytest

from gflow.errors import InputError
from gflow.sweeping import slurm
from gflow.sweeping.workers import WorkerConfig


def test_job_script_has_the_options(tmp_path):
    options = {"queue": "gpu", "account": "theory", "walltime": "2:00:00", "memory": "8GB"}
    options["directives"] = ["--exclusive"]
    workers = WorkerConfig(threads=4, gpus=True, slurm=options)
    script = slurm.job_script(workers, tmp_path)
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
    assert not list(tmp_path.iterdir())  # a dry run writes nothing


def test_certificates_are_created_once_and_readable_by_their_owner_only(tmp_path):
    security = slurm.create_certificates(tmp_path)
    place = tmp_path / "tls"
    assert place.stat().st_mode & 0o077 == 0
    assert (place / "key.pem").stat().st_mode & 0o077 == 0
    before = (place / "key.pem").read_bytes()
    slurm.create_certificates(tmp_path)
    assert (place / "key.pem").read_bytes() == before
    assert security.get_connection_args("client")["ssl_context"].verify_mode.name == "CERT_REQUIRED"


def test_missing_slurm_is_reported_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="omit --slurm"):
        slurm.slurm_cluster(WorkerConfig(slurm={}), tmp_path)
    assert not list(tmp_path.iterdir())


def test_missing_openssl_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="openssl cannot create TLS certificates"):
        slurm.create_certificates(tmp_path)
