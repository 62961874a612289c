"""``sspcab-edge demo``: the whole path on the demo detector, by the commands a user would type.

Each step is a command of its own, in a process of its own, and is printed before it runs: the demo teaches by
being read. Nothing here imports what the commands need.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import msgspec

from sspcab_edge.command import PATH, common_options
from sspcab_edge.errors import EdgeError, GateError, OptionError, OutputError

__all__ = ["Step", "command", "defect_table", "steps"]

_MODULES = {
    "sspcab-export": "sspcab_export.cli",
    "sspcab-edge": "sspcab_edge.cli",
    "sspcab-run": "sspcab_runtime.cli",
    "sspcab-bench": "sspcab_bench.cli",
}
_NEEDED = ("model", "calibration", "test", "surface.mp4")
_BENCH_SECONDS = "3"
_DRAWING = "demo_pictures.py"
_VERIFY = "Replay the bundle's parity pack on this device"


@dataclass(frozen=True, slots=True)
class Step:
    """One command of the demo.

    Attributes:
        title: What it is for.
        words: The command as a user types it.
        results: File that its standard output goes to; None for the terminal.
    """

    title: str
    words: tuple[str, ...]
    results: Path | None = None

    @property
    def line(self) -> str:
        """The command line, fit for a shell."""
        typed = shlex.join(self.words)
        return typed if self.results is None else f"{typed} > {shlex.quote(str(self.results))}"


def steps(data: Path, output: Path, *, int8: bool = False) -> tuple[Step, ...]:
    """The commands of the demo, in order, up to the verified bundle and beyond it.

    int8 is judged on more pictures of the scene than the repository holds: the flip rate has to be bounded.
    """
    bundle = str(output / "bundle")
    test = str(data / "test")
    targets = ("--target", "onnx", "--target", "openvino")
    pictures = ("--calibration", str(data / "calibration"), "--validation", test)
    rate = ("--false-alarm-rate", "0.1")  # 32 pictures cannot tell less than 3 %, and one of them is odd
    run = ("sspcab-run", bundle)
    other = ("--backend", "openvino")
    drawn: tuple[Step, ...] = ()
    precisions: tuple[str, ...] = ()
    if int8:
        more = output / "more-pictures"
        draw = (str(data.parent / _DRAWING), "--out", str(more))
        if not more.exists():
            drawn = (Step("Draw more pictures of the scene, to judge int8 on", draw),)
        precisions = ("--precision", "fp32", "--precision", "int8")
        pictures = ("--calibration", str(more / "calibration"), "--validation", str(more / "test"))
    return (
        *drawn,
        Step(
            "Export the trained checkpoint for two engines, judged on real pictures",
            (
                *("sspcab-export", str(data / "model"), *targets, *precisions, *pictures, *rate),
                *("-o", bundle, "--force"),
            ),
        ),
        Step(_VERIFY, ("sspcab-edge", "verify", bundle)),
        Step(
            "Judge the test pictures, and draw what the detector saw",
            (*run, test, "--save", str(output / "pictures"), "--json"),
            output / "pictures.jsonl",
        ),
        Step(
            "Judge a video of the surface moving under the camera, on the other engine",
            (*run, str(data / "surface.mp4"), *other, "--save", str(output / "video"), "--json"),
            output / "video.jsonl",
        ),
        Step("Measure how fast it is here", ("sspcab-bench", bundle, "--seconds", _BENCH_SECONDS)),
    )


class _Line(msgspec.Struct, frozen=True):
    """What the demo reads of a line of ``sspcab-run --json``."""

    path: str | None
    score: float | None
    anomalous: bool | None


def defect_table(results: bytes) -> str:
    """The verdicts of a run, summed up per folder of the pictures (per defect, in the MVTec layout).

    Raises:
        EdgeError: ``results`` are not the JSON lines of ``sspcab-run``.
    """
    try:
        lines = msgspec.json.Decoder(_Line).decode_lines(results)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EdgeError(f"sspcab-run printed something else than JSON lines: {error}") from error
    groups: dict[str, list[_Line]] = {}
    for line in lines:
        groups.setdefault("frames" if line.path is None else Path(line.path).parent.name, []).append(line)
    width = max([len("pictures of"), *map(len, groups)])
    rows = [f"{'pictures of':<{width}}  judged  anomalous  lowest score  highest score"]
    for name, group in groups.items():
        scores = [line.score for line in group if line.score is not None]
        spread = f"{min(scores):>12.4g}  {max(scores):>13.4g}" if scores else f"{'-':>12}  {'-':>13}"
        flagged = sum(bool(line.anomalous) for line in group)
        rows.append(f"{name:<{width}}  {len(group):>6}  {flagged:>9}  {spread}")
    return "\n".join(rows)


def _execute(step: Step) -> None:
    """Run one command to its end.

    Raises:
        EdgeError: It failed; a GateError where a gate did.
        OutputError: Its results cannot be written.
    """
    name, *arguments = step.words
    script = [name] if name.endswith(".py") else ["-m", _MODULES[name]]
    command = [sys.executable, *script, *arguments]
    if step.results is None:
        code = subprocess.run(command, check=False).returncode
    else:
        try:
            file = step.results.open("wb")
        except OSError as error:
            raise OutputError(f"cannot write {step.results}: {error.strerror}") from error
        with file:
            code = subprocess.run(command, stdout=file, check=False).returncode
    if code:
        kind = GateError if code == GateError.exit_code else EdgeError
        raise kind(f"the demo stops: {name} failed with exit status {code} (see above)")


def _perform(wanted: Sequence[Step]) -> None:
    for number, step in enumerate(wanted, start=1):
        click.echo(f"\n[{number}/{len(wanted)}] {step.title}\n$ {step.line}")
        _execute(step)
        if step.results is not None:
            click.echo(defect_table(step.results.read_bytes()))


@click.command("demo")
@click.option(
    "--data",
    type=PATH,
    default=Path("examples/demo"),
    show_default=True,
    help="Folder with model/, calibration/, test/ and surface.mp4.",
)
@click.option(
    "--output",
    type=PATH,
    default=Path("demo-output"),
    show_default=True,
    help="Folder for the bundle and what it says; an older bundle in it is replaced.",
)
@click.option("--only-bundle", is_flag=True, help="Stop when the bundle is made and verified.")
@click.option("--int8", is_flag=True, help="Export int8 too; draws some 500 more pictures to judge it on.")
@common_options
def command(data: Path, output: Path, only_bundle: bool, int8: bool) -> None:
    """Export, verify, run and benchmark the demo detector, showing every command."""
    missing = [name for name in _NEEDED if not (data / name).exists()]
    if missing:
        raise OptionError(
            f"{data} lacks {', '.join(missing)}: run this in a clone of the repository, or give --data DIR"
        )
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {output}: {error.strerror}") from error
    wanted = steps(data, output, int8=int8)
    last = next(number for number, step in enumerate(wanted) if step.title == _VERIFY)
    _perform(wanted[: last + 1] if only_bundle else wanted)
    click.echo(f"\nbundle: {output / 'bundle'}")
    if not only_bundle:
        for folder in ("pictures", "video"):
            click.echo(f"contact sheet: {output / folder / 'contact_sheet.png'}")
