"""Only plain files up to a size are read; pipes, devices, folders and links are refused."""

import os
from pathlib import Path

import pytest

from gflow.errors import InputError
from gflow.io.plain import as_path, read_text, require_own_file, require_plain_file


def test_text_up_to_the_limit_is_read(tmp_path):
    (tmp_path / "a").write_text("größe", encoding="utf-8")  # 7 bytes
    assert read_text(tmp_path / "a", 7) == "größe"
    with pytest.raises(ValueError, match="it is over 6 bytes"):
        read_text(tmp_path / "a", 6)


def test_bytes_that_are_not_utf_8_are_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="utf-8"):
        read_text(tmp_path / "a", 10)


def test_pipes_and_devices_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/zero")
    for name in ("pipe", "link"):
        with pytest.raises(ValueError, match="it is not a plain file"):
            require_plain_file(tmp_path / name)
        with pytest.raises(ValueError, match="it is not a plain file"):
            read_text(tmp_path / name, 10)


def test_links_to_plain_files_are_plain_files_but_not_own_files(tmp_path):
    (tmp_path / "a").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    require_plain_file(tmp_path / "link")
    require_own_file(tmp_path / "a")
    with pytest.raises(ValueError, match="it is a link"):
        require_own_file(tmp_path / "link")
    with pytest.raises(ValueError, match="it is not a plain file"):
        require_own_file(tmp_path)
    with pytest.raises(FileNotFoundError):
        require_own_file(tmp_path / "missing")


def test_paths_are_strings_or_paths_below_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert as_path("~/a") == as_path(Path("~/a")) == tmp_path / "a"
    for value in (None, 3, b"a", ["a"]):
        with pytest.raises(InputError, match=r"a path must be a string or a pathlib.Path, got "):
            as_path(value)
