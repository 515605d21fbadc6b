"""Only plain files up to a size are read; pipes, devices, folders and links are refused."""

import os

import pytest

from gflow.io.plain import read_text, require_own_file, require_plain_file


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
