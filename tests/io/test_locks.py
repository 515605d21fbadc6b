"""Locks: exclusive against shared, released with their process, and the calls made on Windows."""

import errno
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from gflow.io import locks
from gflow.io.locks import try_lock

HOLD = """
import sys, time
from gflow.io.locks import try_lock
file = open(sys.argv[1], "ab")
print(try_lock(file, exclusive=True), flush=True)
time.sleep(100)
"""


@pytest.fixture
def path(tmp_path):
    (tmp_path / "metrics.jsonl").write_bytes(b"content")
    return tmp_path / "metrics.jsonl"


def test_an_exclusive_lock_excludes_all_others(path):
    with path.open("ab") as first:
        assert try_lock(first, exclusive=True)
        with path.open("ab") as second, path.open("rb") as third:
            assert not try_lock(second, exclusive=True)
            assert not try_lock(third, exclusive=False)
    with path.open("ab") as file:  # closing releases the lock
        assert try_lock(file, exclusive=True)


def test_shared_locks_exclude_exclusive_ones_only(path):
    with path.open("rb") as first, path.open("rb") as second, path.open("ab") as third:
        assert try_lock(first, exclusive=False)
        assert try_lock(second, exclusive=False)
        assert not try_lock(third, exclusive=True)


def test_a_writer_waits_for_a_brief_shared_lock(path, monkeypatch):
    with path.open("rb") as reader, path.open("ab") as writer:
        assert try_lock(reader, exclusive=False)
        monkeypatch.setattr(locks.time, "sleep", lambda seconds: reader.close())
        assert try_lock(writer, exclusive=True)


def test_a_lock_ends_with_its_process(path):
    holder = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE)
    try:
        assert holder.stdout.readline() == b"True\n"
        with path.open("rb") as file:
            assert not try_lock(file, exclusive=False)
            holder.send_signal(signal.SIGKILL)
            holder.wait()
            assert try_lock(file, exclusive=False)
    finally:
        holder.kill()
        holder.communicate()


def test_locking_changes_and_creates_no_file(path):
    path.chmod(0o444)
    path.parent.chmod(0o555)
    try:
        with path.open("rb") as file:
            assert try_lock(file, exclusive=False)
            assert file.read() == b"content"
        assert [f.name for f in path.parent.iterdir()] == ["metrics.jsonl"]
    finally:
        path.parent.chmod(0o755)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EINVAL])
def test_a_file_system_without_locks_grants_every_lock(code, path, monkeypatch):
    def unsupported(file, mode):
        raise OSError(code, "no locks here")

    monkeypatch.setattr("fcntl.flock", unsupported)
    with path.open("ab") as file:
        assert try_lock(file, exclusive=True)


# -- Windows, by a stand-in for its module ------------------------------------------------


@pytest.fixture
def windows(monkeypatch):
    """Replace msvcrt: one lock for each byte of a file; returns the calls made."""
    held, calls = {}, []

    def locking(descriptor, mode, count):
        at = os.lseek(descriptor, 0, os.SEEK_CUR)
        calls.append((mode, at, count))
        key = (os.fstat(descriptor).st_ino, at)
        if held.setdefault(key, descriptor) != descriptor:
            raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(LK_NBLCK=2, locking=locking))
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(locks.time, "sleep", lambda seconds: calls.append("sleep"))
    return calls


def test_windows_locks_one_byte_beyond_the_content(windows, path):
    with path.open("ab") as writer, path.open("rb") as reader:
        assert try_lock(writer, exclusive=True)
        assert windows == [(2, 2**31 - 2, 1)]
        assert writer.tell() == 7  # unchanged position
        assert not try_lock(reader, exclusive=False)
        assert windows.count("sleep") == 4
        assert reader.read() == b"content"
        writer.write(b", more")
    assert path.read_bytes() == b"content, more"


def test_windows_without_locks_grants_every_lock(windows, path, monkeypatch):
    def unsupported(descriptor, mode, count):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(sys.modules["msvcrt"], "locking", unsupported)
    with path.open("ab") as file:
        assert try_lock(file, exclusive=True)
