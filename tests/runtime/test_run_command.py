"""``sspcab-run`` as users meet it: a process with an exit code, stdout and stderr."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sspcab_edge.bundle import Bundle
from sspcab_edge.preprocess import decode_picture

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Network = Callable[[Pixels], tuple[Floats, Floats]]
Command = Callable[..., subprocess.CompletedProcess[str]]
Save = Callable[[str, npt.NDArray[np.generic]], Path]

RUN = "sspcab_runtime.cli"
KEYS = ["schema", "source", "index", "path", "score", "threshold", "anomalous", "latency_ms"]


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_json_lines(command: Command, pristine: Path, folder: Path, network: Network, backend: str) -> None:
    done = command(RUN, pristine, folder, "--json", "--backend", backend, "--threads", 1)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 12
    for index, line in enumerate(lines):
        assert list(line) == KEYS
        score = float(network(decode_picture(Path(line["path"])).pixels[None])[0][0])
        assert line["schema"] == 1
        assert line["source"] == str(folder)
        assert line["index"] == index
        assert line["score"] == pytest.approx(score, abs=1e-6)
        assert line["threshold"] == 0.6
        assert line["anomalous"] is (score > 0.6)
        assert line["latency_ms"] > 0
    anomalous = sum(line["anomalous"] for line in lines)
    assert f"sspcab-run: 12 frames, {anomalous} anomalous, " in done.stderr
    assert "frames/s, median latency" in done.stderr


def test_streams_print_the_same_lines(command: Command, pristine: Path, folder: Path) -> None:
    one, two = (
        [json.loads(line) for line in command(RUN, pristine, folder, "--json", *more).stdout.splitlines()]
        for more in ((), ("--streams", 2))
    )
    assert len(one) == 12
    for line in (*one, *two):
        del line["latency_ms"]
    assert [{**line, "score": pytest.approx(line["score"], abs=1e-6)} for line in one] == two


def test_lines_for_people(command: Command, pristine: Path, folder: Path) -> None:
    done = command(RUN, pristine, folder)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 12
    assert {line.split()[0] for line in lines} == {"anomalous", "normal"}
    assert len({line.index("threshold") for line in lines}) == 1, "aligned"
    assert len({line.index(str(folder)) for line in lines}) == 1, "aligned"
    assert done.stderr.count("\n") == 1, "no progress where there is no terminal"


def test_options_of_judging(command: Command, pristine: Path, folder: Path) -> None:
    done = command(RUN, pristine, folder, "--json", "--threshold", "-1", "--limit", 3)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["threshold"], line["anomalous"]) for line in lines] == [(-1.0, True)] * 3
    assert "3 frames, 3 anomalous" in done.stderr


def test_a_bundle_without_threshold(
    command: Command, build: Callable[..., Bundle], tmp_path: Path, folder: Path
) -> None:
    build(tmp_path / "bundle", threshold=None)
    done = command(RUN, tmp_path / "bundle", folder, "--json")
    assert done.returncode == 0
    assert {json.loads(line)["anomalous"] for line in done.stdout.splitlines()} == {None}
    done = command(RUN, tmp_path / "bundle", folder)
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"-"}


def test_overlays(command: Command, pristine: Path, folder: Path, tmp_path: Path) -> None:
    done = command(RUN, pristine, folder, "--save", tmp_path / "out")
    assert done.returncode == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names[0] == "000000_000.png"
    assert names[-1] == "contact_sheet.png"
    assert len(names) == 13
    assert str(tmp_path / "out/contact_sheet.png") in done.stderr
    for name in names:
        assert cv2.imread(str(tmp_path / "out" / name)) is not None


def test_bad_pictures_do_not_stop_the_others(command: Command, pristine: Path, folder: Path) -> None:
    bad = [folder / "early/004.png", folder / "late/001.png"]
    bad[0].write_bytes(b"")
    bad[1].write_bytes(b"no picture")
    done = command(RUN, pristine, folder, "--json")
    assert done.returncode == 1
    paths = [json.loads(line)["path"] for line in done.stdout.splitlines()]
    assert len(paths) == 10
    assert not {str(path) for path in bad} & set(paths)
    lines = done.stderr.splitlines()
    assert lines[0] == f"sspcab-run: {bad[0]} is empty, expected a picture"
    assert lines[1].startswith(f"sspcab-run: {bad[1]} cannot be decoded")
    assert lines[-1] == "sspcab-run: 2 of 12 pictures could not be judged"
    assert len(lines) == 4, "decoders have no say on stderr"


def test_names_of_any_bytes_are_one_line_each(
    command: Command, pristine: Path, folder: Path, tmp_path: Path
) -> None:
    """No UTF-8, line ends, escape codes, as long as they may be: in text, JSON, overlays and errors."""
    root = os.fsencode(folder / "early")
    names = [b"\xff\xfe.png", b"two\nlines.png", b"\x1b[2J.png", b"x" * 245 + b".png"]
    for number, name in enumerate(names):
        os.rename(os.path.join(root, f"{2 * number:03d}.png".encode()), os.path.join(root, name))
    with open(os.path.join(root, b"bad\n\x1b.png"), "wb") as bad:
        bad.write(b"no picture")
    done = command(RUN, pristine, folder, "--save", tmp_path / "out")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert len(lines) == 12
    assert done.stdout.isascii()
    assert "\x1b" not in done.stdout + done.stderr
    for shown in (r"\xff\xfe.png", r"two\nlines.png", r"\x1b[2J.png"):
        assert sum(line.endswith(shown) for line in lines) == 1
    assert r"bad\n\x1b.png cannot be decoded" in done.stderr
    assert len(list((tmp_path / "out").iterdir())) == 13
    found = [
        json.loads(line)["path"] for line in command(RUN, pristine, folder, "--json").stdout.splitlines()
    ]
    assert len(found) == 12
    assert str(folder / "early/two\nlines.png") in found
    assert sum(path.endswith(r"\xff\xfe.png") for path in found) == 1


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_full_standard_output_is_one_line(pristine: Path, folder: Path, as_json: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", RUN, str(pristine), str(folder), *as_json],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert (
        done.stderr.splitlines()[-1] == "sspcab-run: cannot write to standard output: No space left on device"
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_conversions_are_said_once(command: Command, pristine: Path, save: Save) -> None:
    rng = np.random.default_rng(0)
    for number in range(3):
        save(f"mixed/grey{number}.png", rng.integers(0, 256, (20, 20), dtype=np.uint8))
        save(f"mixed/deep{number}.png", rng.integers(0, 2**16, (20, 20, 3), dtype=np.uint16))
        folder = save(f"mixed/alpha{number}.png", rng.integers(0, 256, (20, 20, 4), dtype=np.uint8)).parent
    done = command(RUN, pristine, folder, "--json")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 9
    said = [line for line in done.stderr.splitlines() if "converting" in line]
    assert said == [
        f"sspcab-run: converting alpha dropped (first: {folder}/alpha0.png)",
        f"sspcab-run: converting 16-bit to 8-bit (first: {folder}/deep0.png)",
        f"sspcab-run: converting grey to RGB (first: {folder}/grey0.png)",
    ]


@pytest.fixture
def film(tmp_path: Path, frames: Pixels) -> Path:
    av = pytest.importorskip("av", reason="av is not installed: no videos")
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.options = {"x264-params": "log-level=none"}
        for number in range(40):
            pixels = cv2.resize(frames[number % 12], (64, 48), interpolation=cv2.INTER_NEAREST)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_a_video(command: Command, pristine: Path, film: Path, tmp_path: Path) -> None:
    done = command(RUN, pristine, film, "--json", "--save", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["index"] for line in lines] == list(range(40))
    assert {line["path"] for line in lines} == {None}
    assert len(list((tmp_path / "out").glob("0000??.png"))) == 40
    assert "frame 7" in command(RUN, pristine, film).stdout


def test_a_video_that_was_cut_off(command: Command, pristine: Path, film: Path) -> None:
    film.write_bytes(film.read_bytes()[: int(film.stat().st_size * 0.7)])
    done = command(RUN, pristine, film, "--json")
    assert done.returncode == 1
    judged = len(done.stdout.splitlines())
    assert 5 < judged < 40, "what there is, is judged"
    assert f"sspcab-run: {judged} frames" in done.stderr
    cut = [line for line in done.stderr.splitlines() if line.endswith("is damaged, or made from one that is")]
    assert len(cut) <= 1, "of the frame that was cut through"
    assert done.stderr.count("\n") == 2 + len(cut), "decoders have no say on stderr"
    assert done.stderr.splitlines()[-1].startswith(
        f"sspcab-run: {film} ends too early, after {judged} frames"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["{bundle}", "/nowhere"], 1, "/nowhere does not exist"),
        (["/nowhere", "{folder}"], 1, "/nowhere does not exist, expected a bundle folder"),
        (["{folder}", "{folder}"], 1, "is not a bundle: it has no manifest.json"),
        (["{bundle}", "ftp://x/1"], 1, "unknown source 'ftp://x/1'"),
        (["{bundle}", "{folder}", "--threshold", "nan"], 1, "--threshold is nan"),
        (["{bundle}", "{folder}", "--save", "{bundle}/manifest.json"], 1, "cannot make the folder"),
        (["{bundle}", "{folder}", "--backend", "tpu"], 2, "'tpu' is not one of 'onnxruntime'"),
        (["{bundle}", "{folder}", "--threads", "0"], 2, "0 is not in the range x>=1"),
        (["{bundle}"], 2, "Missing argument 'SOURCE...'"),
    ],
)
def test_what_is_wrong_is_one_line(
    command: Command, bundle_path: Path, folder: Path, arguments: list[str], code: int, message: str
) -> None:
    done = command(RUN, *(word.format(bundle=bundle_path, folder=folder) for word in arguments))
    assert done.returncode == code
    assert done.stdout == ""
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    if code == 1:
        assert done.stderr.count("\n") == 1
        assert done.stderr.startswith("sspcab-run: ")


def test_a_gate_not_passed(
    command: Command, build: Callable[..., Bundle], tmp_path: Path, folder: Path
) -> None:
    build(tmp_path / "bundle", lie=0.2)
    done = command(RUN, tmp_path / "bundle", folder)
    assert done.returncode == 3
    assert done.stdout == "", "not one verdict from an engine that did not prove itself"
    assert "does not give the source's verdicts on this device" in done.stderr
    done = command(RUN, tmp_path / "bundle", folder, "--no-prove")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 12


def test_a_backend_that_is_not_installed(
    command: Command, pristine: Path, folder: Path, tmp_path: Path
) -> None:
    """A finder in front of all others hides the package, as if it were not there."""
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text("import sys; sys.modules['openvino'] = None\n")
    environment = {**os.environ, "PYTHONPATH": f"{hook}:{':'.join(sys.path)}"}
    done = command(RUN, pristine, folder, "--backend", "openvino", env=environment)
    assert done.returncode == 1
    assert "openvino is not installed" in done.stderr
    assert "pip install 'openvino>=2025.0'" in done.stderr
    assert command(RUN, pristine, folder, env=environment).returncode == 0, "the other one is taken"


def test_verbose_shows_the_traceback(command: Command, folder: Path) -> None:
    done = command(RUN, "-v", "/nowhere", folder)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "sspcab-run: /nowhere does not exist" in done.stderr


def test_a_reader_that_leaves(pristine: Path, folder: Path) -> None:
    """``sspcab-run ... | head -n 1``."""
    line = f"{sys.executable} -m {RUN} {pristine} {folder} --json | head -n 1"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert json.loads(done.stdout)["index"] == 0
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_at_once(pristine: Path, folder: Path, tmp_path: Path, number: signal.Signals) -> None:
    many = tmp_path / "many"
    many.mkdir()
    some = next(folder.rglob("*.png"))
    for index in range(20_000):
        (many / f"{index:05d}.png").symlink_to(some)
    process = subprocess.Popen(
        [sys.executable, "-m", RUN, str(pristine), str(many), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for _ in range(50):
        process.stdout.readline()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert len(out.splitlines()) < 19_000
    assert err.splitlines()[-1] == "sspcab-run: interrupted"
    assert "Traceback" not in err


def test_progress_on_a_terminal(pristine: Path, folder: Path) -> None:
    """On a terminal a line of progress is shown, and taken away again."""
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", RUN, str(pristine), str(folder), "--json"],
        stdout=subprocess.PIPE,
        stderr=child,
        text=True,
    )
    out, _ = process.communicate(timeout=60)
    os.close(child)
    shown = os.read(parent, 65536).decode()
    os.close(parent)
    assert process.returncode == 0
    assert len(out.splitlines()) == 12
    assert "parity inputs, once on this device" in shown
    assert "\r\x1b[K" in shown


def test_help_and_version(command: Command) -> None:
    done = command(RUN, "--help")
    assert done.returncode == 0
    for option in (
        "--backend", "--precision", "--threads", "--streams", "--threshold", "--json", "--save", "--limit",
        "--no-prove", "--fallback", "--no-tuned",
    ):  # fmt: skip
        assert option in done.stdout
    assert command("sspcab_edge.cli", "--help").returncode == 0
