"""``sspcab-run`` at a camera that wants a login, and what FFmpeg tells an RTSP camera."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import cv2
import pytest

from definitions.asking_rtsp import AskingRtsp
from definitions.login_camera import LoginCamera
from definitions.tiny_bundle import Pixels
from sspcab_edge.errors import ConfigError, OptionError, SourceError
from sspcab_runtime.login import with_login
from sspcab_runtime.sources.camera_address import camera_address
from sspcab_runtime.sources.live import open_stream
from sspcab_runtime.sources.streams import StreamOptions

pytest.importorskip("av", reason="PyAV is not installed: no cameras")

Command = Callable[..., "subprocess.CompletedProcess[str]"]
RUN = "sspcab_runtime.cli"
PASSWORD = 'p@ss:/#w "ö"%\\'


def test_a_camera_with_a_login(command: Command, pristine: Path, frames: Pixels, tmp_path: Path) -> None:
    images = [cv2.imencode(".jpg", frame[..., ::-1])[1].tobytes() for frame in frames[:5]]
    body = b"".join(b"--part\r\n\r\n" + image + b"\r\n" for image in images)
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD + "\n")
    secret.chmod(0o600)
    with closing(LoginCamera(['Digest realm="c", nonce="NONCE"'], "admin", PASSWORD, body)) as camera:
        login = ("--every-frame", "--user", "admin", "--password")
        for given, variables in ((f"file:{secret}", {}), ("env:CAMERA", {"CAMERA": PASSWORD})):
            done = command(RUN, pristine, camera.uri, *login, given, env={**os.environ, **variables})
            assert len(done.stdout.splitlines()) == 5, done.stderr
            assert done.stderr.splitlines()[-1].endswith("/video?channel=1 ended")
        done = command(RUN, pristine, camera.uri, *login, "env:CAMERA", env={**os.environ, "CAMERA": "wrong"})
        assert "refuses this user or this password (401)" in done.stderr
        assert "wants a user and a password (401)" in command(RUN, pristine, camera.uri).stderr


def test_images_that_a_camera_sends_damaged_are_counted(
    command: Command, pristine: Path, frames: Pixels
) -> None:
    images = [cv2.imencode(".jpg", frame[..., ::-1])[1].tobytes() for frame in frames[:5]]
    half = len(images[1]) * 3 // 4
    cut = [images[0][:300], images[1][:half] + b"\xff\xd9"]
    body = b"".join(b"--part\r\n\r\n" + image + b"\r\n" for image in (*images[:2], *cut, *images[2:]))
    with closing(LoginCamera(['Basic realm="c"'], "admin", PASSWORD, body)) as camera:
        login = ("--user", "admin", "--password", "env:CAMERA", "--limit", "5")
        for more in ((), ("--every-frame",)):
            environment = {**os.environ, "CAMERA": PASSWORD}
            done = command(RUN, pristine, camera.uri, *login, *more, env=environment)
            assert len(done.stdout.splitlines()) == 5, done.stderr
            assert done.returncode == 1
            assert "; 2 more damaged" in done.stderr
            assert done.stderr.splitlines()[-1] == "sspcab-run: 2 of 7 frames could not be judged"


def test_a_password_on_the_command_line_is_refused_and_not_shown(command: Command, pristine: Path) -> None:
    done = command(RUN, pristine, "http://127.0.0.1:9/x", "--user", "admin", "--password", "Zx9geheim")
    assert done.returncode == 2
    assert "(ps): expected where it is, file:PATH, env:NAME or credential:NAME" in done.stderr
    done = command(RUN, pristine, "rtsp://admin:Zx9geheim@127.0.0.1:9/x")
    assert (done.returncode, "geheim" in done.stderr) == (1, False)
    assert "write sspcab-run's --user NAME and --password file:PATH or env:NAME" in done.stderr


def test_logins_that_cannot_be(tmp_path: Path) -> None:
    def login(user: str | None, password: str | None, source: str = "rtsp://x/y") -> StreamOptions:
        return with_login(StreamOptions(), [source], user, password)

    with pytest.raises(OptionError, match="--password has no --user"):
        login(None, "env:X")
    with pytest.raises(OptionError, match="has a colon"):
        login("admin:Zx9geheim", None)
    with pytest.raises(OptionError, match="--user is for a camera at rtsp://"):
        login("admin", None, str(tmp_path))
    with pytest.raises(ConfigError, match="cannot be read"):
        login("admin", f"file:{tmp_path}/none")
    assert login(None, None) == StreamOptions()
    assert login("admin", None).user == "admin"


def tell(challenges: list[str], user: str | None, password: str) -> tuple[list[str], str, str]:
    """Logins that a camera is told, the address, and what is said in the end."""
    with closing(AskingRtsp(challenges)) as camera:
        options = StreamOptions(open_s=3.0, read_s=3.0, user=user, password=password)
        with pytest.raises(SourceError) as caught:
            open_stream(camera_address(camera.uri), options)
        return camera.logins(), camera.uri, str(caught.value)


def test_ffmpeg_tells_an_rtsp_camera_nothing_unasked() -> None:
    logins, uri, said = tell(['Basic realm="c"', 'Digest realm="c", nonce="n"'], "ädmin", PASSWORD)
    assert logins[:2] == ["", ""]
    first = hashlib.md5(f"ädmin:c:{PASSWORD}".encode()).hexdigest()
    second = hashlib.md5(f"DESCRIBE:{uri}".encode()).hexdigest()
    response = hashlib.md5(f"{first}:n:{second}".encode()).hexdigest()
    assert f'response="{response}"' in logins[2]
    assert not any(login.startswith("Basic") for login in logins)
    assert "refuses this user or this password (401)" in said
    logins, _, _ = tell(['Basic realm="c"'], "ädmin", PASSWORD)
    assert logins[2] == f"Basic {base64.b64encode(f'ädmin:{PASSWORD}'.encode()).decode()}"
    assert "wants a user and a password (401)" in tell(['Basic realm="c"'], None, "")[2]


def test_a_login_that_ffmpeg_would_cut_off() -> None:
    assert "have 128 bytes as a URL, FFmpeg takes 127" in tell([], "admin", "x" * 122)[2]
    logins, _, _ = tell(['Basic realm="c"'], "admin", "x" * 121)
    assert base64.b64decode(logins[-1].split()[1]) == b"admin:" + b"x" * 121
