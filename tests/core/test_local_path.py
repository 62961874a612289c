"""One reader of names of files: homes, URIs, and names that only look like them."""

from __future__ import annotations

import getpass
import os
import pwd
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sspcab_edge.command import PATH
from sspcab_edge.errors import OptionError
from sspcab_edge.local_path import local_path

HOME = pwd.getpwuid(os.getuid()).pw_dir


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a/b.png", "a/b.png"),
        ("~", "/home/me"),
        ("~/a b.png", "/home/me/a b.png"),
        (f"~{getpass.getuser()}/x", f"{HOME}/x"),
        ("~nobody-of-this-name/x", "~nobody-of-this-name/x"),
        ("./~/x", "./~/x"),
        ("100%25.png", "100%25.png"),
        ("50% off/%20.png", "50% off/%20.png"),
        ("file:///a/b%20c.png", "/a/b c.png"),
        ("FILE://localhost/a%25b.png", "/a%b.png"),
        ("file:///50% off.png", "/50% off.png"),
        ("file://~/a%23b.png", "/home/me/a#b.png"),
        ("file:///%7Ex", "/~x"),
        ("images://~/x", "/home/me/x"),
        ("images://a/b%20c", "a/b c"),
        ("images:///a", "/a"),
        ("file:///%FF.png", "/\udcff.png"),
        ("odd:name.png", "odd:name.png"),
    ],
)
def test_what_a_name_means(monkeypatch: pytest.MonkeyPatch, name: str, path: str) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert local_path(name) == Path(path)
    assert PATH.convert(name, None, None) == Path(path)
    assert local_path(Path(name)) == Path(name), "what is a path already is not read again"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("file://host/x", "names the host 'host': write file:///absolute/path, or a path"),
        ("file:///a?b.png", "has a query or fragment: write [?] as %3F"),
        ("file:///a#1.png", "and # as %23"),
        ("a\0b", "holds a NUL"),
        ("file:///a%00b", "holds a NUL"),
    ],
)
def test_what_is_no_path_is_one_line(name: str, message: str) -> None:
    with pytest.raises(OptionError, match=message) as caught:
        local_path(name)
    assert "\n" not in str(caught.value)


@given(st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name))
def test_any_name_can_be_given_as_a_uri(name: bytes) -> None:
    escaped = "".join(f"%{byte:02x}" for byte in name)
    assert os.fsencode(local_path(f"file:///{escaped}")) == os.fsencode(Path(os.fsdecode(b"/" + name)))


def test_an_option_is_checked_as_paths_are(tmp_path: Path) -> None:
    from sspcab_edge.command import LocalPath

    with pytest.raises(click.BadParameter, match="does not exist"):
        LocalPath(exists=True).convert(f"file://{tmp_path}/a%20b", None, None)
    (tmp_path / "a b").touch()
    assert LocalPath(exists=True).convert(f"file://{tmp_path}/a%20b", None, None) == tmp_path / "a b"
