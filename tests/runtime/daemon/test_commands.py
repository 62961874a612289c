"""``sspcab-daemon``'s verbs, and the unit that they write."""

from __future__ import annotations

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
    file.write_text(file.read_text().replace("[cameras.one]", "[cameras.one]\nfsp = 3"))
    done = command(DAEMON, "--config", file)
    assert done.returncode == 1
    assert f"{file}:4: cameras.one.fsp: there is no such key: did you mean fps?" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_every_verb_explains_itself() -> None:
    for verb in VERBS:
        result = CliRunner().invoke(group, [verb, "--help"])
        assert result.exit_code == 0
        assert "Usage" in result.output
