"""``sspcab-daemon``'s verbs, and the unit that they write."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from sspcab_edge.errors import OptionError, OutputError
from sspcab_runtime.daemon.cli import VERBS, group
from sspcab_runtime.daemon.config_file import read_config
from sspcab_runtime.daemon.install_command import install

Command = Callable[..., "subprocess.CompletedProcess[str]"]
DAEMON = "sspcab_runtime.daemon.cli"


def run(*arguments: str) -> str:
    """What a verb prints."""
    result = CliRunner().invoke(install, arguments, catch_exceptions=False, standalone_mode=False)
    return result.output


@pytest.mark.parametrize(
    ("options", "threshold"),
    [((), 15), (("--jetson",), 20), (("--v4l2",), 20), (("--allow", "10.0.0.0/8"), 15)],
)
def test_the_unit_is_hardened(tmp_path: Path, options: tuple[str, ...], threshold: int) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    run("--root", str(tmp_path), *options)
    unit = tmp_path / "etc/systemd/system/sspcab-daemon.service"
    verified = subprocess.run(
        [analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    judged = subprocess.run(
        [analyze, "security", "--offline=true", f"--threshold={threshold}", str(unit)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    overall = next(line for line in judged.stdout.splitlines() if "Overall exposure" in line)
    print(options, overall.strip())
    assert judged.returncode == 0, overall


def test_install_writes_a_configuration_that_is_fine(tmp_path: Path) -> None:
    run("--root", str(tmp_path), "--camera", "rtsp://10.0.0.9/x", "--bundle", "/srv/bundle")
    config = read_config(tmp_path / "etc/sspcab/edge.toml")
    assert config.cameras["one"].source == "rtsp://10.0.0.9/x"
    (tmp_path / "etc/sspcab/edge.toml").write_text("mine")
    with pytest.raises(OutputError, match="is there already: --force"):
        run("--root", str(tmp_path))
    run("--root", str(tmp_path), "--force")
    assert (tmp_path / "etc/sspcab/edge.toml").read_text() == "mine"


def test_install_refuses(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="is no network"):
        run("--root", str(tmp_path), "--allow", "everything")
    with pytest.raises(OptionError, match="user = and password"):
        run("--root", str(tmp_path), "--camera", "rtsp://a:b@c/x")
    assert not list(tmp_path.iterdir())


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    assert "[Service]" in run("--root", str(tmp_path), "--jetson", "--dry-run")
    assert not list(tmp_path.iterdir())


def test_check_and_status(tmp_path: Path, pristine: Path, command: Command) -> None:
    file = tmp_path / "edge.toml"
    file.write_text(
        f'[bundles.tiny]\npath = "{pristine}"\n'
        '[cameras.one]\nsource = "rtsp://127.0.0.1:9/x"\nbundle = "tiny"\n'
        '[web]\nlisten = "127.0.0.1:9"\n'
    )
    done = command(DAEMON, "check", "--config", file)
    assert done.returncode == 0, done.stderr
    assert "camera one: live, judged by tiny" in done.stdout
    done = command(DAEMON, "status", "--config", file)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    (tmp_path / "token").write_text("a token\nof two lines\n")
    (tmp_path / "token").chmod(0o600)
    sink = f'[sinks.hook]\nkind = "webhook"\nurl = "https://127.0.0.1:9/"\ntoken = "file:{tmp_path}/token"\n'
    (tmp_path / "hook.toml").write_text(file.read_text() + sink)
    for verb in ("check", ""):
        done = command(DAEMON, *filter(None, [verb]), "--config", tmp_path / "hook.toml")
        assert done.returncode == 1
        assert "sinks.hook.token: what file:" in done.stderr.splitlines()[-1]
        assert "two lines" not in done.stderr
    file.write_text(file.read_text().replace("[cameras.one]", "[cameras.one]\nfsp = 3"))
    done = command(DAEMON, "--config", file)
    assert done.returncode == 1
    assert f"{file}:4: cameras.one.fsp: there is no such key: did you mean fps?" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def _config(path: Path, bundle: Path, sources: dict[str, str]) -> Path:
    cameras = "".join(
        f"[cameras.{name}]\nsource = '{source}'\nbundle = 'tiny'\n" for name, source in sources.items()
    )
    path.write_text(f"[bundles.tiny]\npath = '{bundle}'\n{cameras}")
    return path


def test_check_looks_at_every_source_that_needs_no_camera(
    tmp_path: Path, pristine: Path, command: Command
) -> None:
    films = pytest.importorskip("definitions.films", reason="av is not installed: no videos")
    films.write_film(tmp_path / "line 1.mp4", films.walk(5))
    file = _config(
        tmp_path / "edge.toml",
        pristine,
        {
            "plain": "line 1.mp4",
            "uri": f"file://{tmp_path}/line%201.mp4",
            "home": "~/line 1.mp4",
            "far": "rtsp://127.0.0.1:9/x",
        },
    )
    done = command(DAEMON, "check", "--config", file, env={**os.environ, "HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    for name in ("plain", "uri", "home"):
        assert f"source of {name}: a video, h264 128x96, 25 frames/s" in done.stdout
    assert "source of far: a camera in the network, which is not connected to here" in done.stdout
    done = command(DAEMON, "check", "--config", file, "--json", env={**os.environ, "HOME": str(tmp_path)})
    assert json.loads(done.stdout)["cameras"]["plain"]["source"] == "a video, h264 128x96, 25 frames/s"


def test_check_says_each_source_that_is_wrong_in_one_line(
    tmp_path: Path, pristine: Path, command: Command
) -> None:
    (tmp_path / "text.mp4").write_text("no film")
    (tmp_path / "still.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    wrong = {
        "none": ("missing.mp4", "missing.mp4 cannot be read: No such file or directory"),
        "text": ("text.mp4", "text.mp4 cannot be opened as a video"),
        "still": ("still.png", "still.png is an image, allowed is a video"),
        "folder": ("folder.mp4", "folder.mp4 is no file, expected a video"),
        "pipe": ("pipe.mp4", "pipe.mp4 is no file, expected a video"),
        "device": ("v4l2:///dev/video987", "/dev/video987 cannot be read: No such file or directory; is the"),
    }
    file = _config(tmp_path / "edge.toml", pristine, {name: source for name, (source, _) in wrong.items()})
    done = command(DAEMON, "check", "--config", file)
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == len(wrong)
    for number, (line, (name, (_, message))) in enumerate(zip(lines, wrong.items(), strict=True)):
        assert line.startswith(f"sspcab-daemon: {file}:{4 + 3 * number}: cameras.{name}.source: ")
        assert message in line


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ("videotestsrc ! identity name=x ! video/x-raw,width=64", None),
        ("videotestsrc ! no-such-element", "GStreamer has no element 'no-such-element'"),
        ("videotestsrc ! ! identity", "has nothing before, between or behind two links"),
        ("videotestsrc !", "has nothing before, between or behind two links"),
        ("videotestsrc ! location=rtsp://u:p@h/", "part 2 of a pipeline does not begin with an element"),
    ],
)
def test_check_reads_pipelines(
    tmp_path: Path, pristine: Path, command: Command, pipeline: str, message: str | None
) -> None:
    if shutil.which("gst-inspect-1.0") is None:
        pytest.skip("GStreamer's tools are not installed")
    file = _config(tmp_path / "edge.toml", pristine, {"one": f"gst:{pipeline}"})
    done = command(DAEMON, "check", "--config", file)
    if message is None:
        assert done.returncode == 0, done.stderr
        assert "a pipeline of elements that are installed: videotestsrc ! identity" in done.stdout
    else:
        assert done.returncode == 1
        assert message in done.stderr


def test_every_verb_explains_itself() -> None:
    for verb in VERBS:
        result = CliRunner().invoke(group, [verb, "--help"])
        assert result.exit_code == 0
        assert "Usage" in result.output


def test_learn_takes_footage_and_no_other_camera(tmp_path: Path, pristine: Path, command: Command) -> None:
    file = _config(tmp_path / "edge.toml", pristine, {"one": "rtsp://127.0.0.1:9/x"})
    done = command(DAEMON, "learn", "--config", file, "--camera", "one", "--source", "http://127.0.0.1:9/x")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "--source is footage, a video or a folder: a camera is named by --camera" in done.stderr
