"""``sspcab-daemon install``: unit, drop-in and a first configuration, where systemd looks for them."""

from __future__ import annotations

import ipaddress
import shutil
import sys
from importlib.resources import files
from pathlib import Path

import click

from sspcab_edge.command import PATH, common_options
from sspcab_edge.errors import OptionError, OutputError
from sspcab_runtime.cache import write_atomically
from sspcab_runtime.sources.camera_address import camera_address

__all__ = ["example_config", "install"]

_UNIT = "etc/systemd/system/sspcab-daemon.service"
_CONFIG = "etc/sspcab/edge.toml"

_EXAMPLE = """# sspcab-daemon: `sspcab-daemon check --config {config}` says what is wrong with it
state = "{state}"

[bundles.main]
path = "{bundle}"

[cameras.one]
source = "{camera}"
bundle = "main"
# user = "viewer"                      # of the camera
# password = "file:/etc/sspcab/camera" # never the password itself
# fps = 5                              # judge at most so many frames a second

# [cameras.one.integrity]
# moved = 0                            # off: for a scene that moves, such as a conveyor
# [cameras.one.alarm]
# threshold = 0.2                      # from: sspcab-daemon learn --camera one
# needed = 2
# of = 3

[sinks.lines]
kind = "jsonl"
path = "{state}/events.jsonl"

# [sinks.broker]
# kind = "mqtt"
# host = "broker.example"
# tls = true
# user = "edge"
# password = "file:/etc/sspcab/broker"
"""


@click.command("install")
@click.option("--bundle", type=PATH, default=Path("/var/lib/sspcab/bundle"), show_default=True)
@click.option("--camera", default="rtsp://192.168.1.10/stream", show_default=True, help="Its address.")
@click.option("--allow", multiple=True, metavar="NETWORK", help="Networks of cameras and broker; repeats.")
@click.option("--jetson", is_flag=True, help="Add the drop-in for a Jetson's GPU and cameras.")
@click.option("--v4l2", is_flag=True, help="Add the drop-in for USB cameras.")
@click.option("--root", type=PATH, default=Path("/"), show_default=True, help="Write below it.")
@click.option("--force", is_flag=True, help="Replace files that are there.")
@click.option("--dry-run", is_flag=True, help="Print what would be written.")
@common_options
def install(
    bundle: Path,
    camera: str,
    allow: tuple[str, ...],
    jetson: bool,
    v4l2: bool,
    root: Path,
    force: bool,
    dry_run: bool,
) -> None:
    """Write the systemd unit, with --jetson or --v4l2 its drop-in, and a first /etc/sspcab/edge.toml.

    The unit reaches loopback and the networks of --allow only: the kernel keeps everything else out. A
    configuration that is there is left alone.
    """
    written = {Path(_UNIT): _unit(allow), Path(_CONFIG): example_config(bundle.absolute(), camera)}
    for name, wanted in (("jetson", jetson), ("v4l2", v4l2)):
        if wanted:
            written[Path(f"{_UNIT}.d/{name}.conf")] = _read(f"{name}.conf")
    if dry_run:
        for path, text in written.items():
            click.echo(f"# {root / path}\n{text}")
        return
    if (root / _CONFIG).exists():
        del written[Path(_CONFIG)]
    taken = [str(root / path) for path in written if (root / path).exists()]
    if taken and not force:
        raise OutputError(f"{', '.join(taken)} is there already: --force replaces it")
    for path, text in written.items():
        try:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(root / path, text.encode())
            (root / path).chmod(0o644)
        except OSError as error:
            raise OutputError(f"{root / path} cannot be written: {error.strerror}") from error
        click.echo(f"wrote {root / path}")
    click.echo("next:\n  useradd --system --no-create-home sspcab\n  chown -R sspcab: /etc/sspcab")
    click.echo(f"  sspcab-daemon check --config /{_CONFIG}\n  systemctl daemon-reload")
    click.echo("  systemctl enable --now sspcab-daemon")


def example_config(bundle: Path, camera: str) -> str:
    """A first ``edge.toml``.

    Raises:
        OptionError: The camera's address is not allowed.
    """
    camera_address(camera)
    for value in (str(bundle), camera):
        if any(letter in value for letter in '"\\\n'):
            raise OptionError(f"{value!r} has characters that a configuration cannot hold")
    return _EXAMPLE.format(config=f"/{_CONFIG}", state="/var/lib/sspcab", bundle=bundle, camera=camera)


def _unit(allow: tuple[str, ...]) -> str:
    for network in allow:
        try:
            ipaddress.ip_network(network, strict=False)
        except ValueError as error:
            raise OptionError(f"--allow {network!r} is no network, such as 192.168.1.0/24") from error
    program = shutil.which("sspcab-daemon") or str(Path(sys.executable).with_name("sspcab-daemon"))
    text = _read("sspcab-daemon.service").replace("@PROGRAM@", program)
    return text.replace("@ALLOW@", " ".join(["localhost", *allow]))


def _read(name: str) -> str:
    return files("sspcab_runtime.daemon").joinpath("units", name).read_text()
