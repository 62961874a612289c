"""``sspcab-edge fit``: a threshold for the site, and a bundle that still proves itself."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from sspcab_edge.bundle import Bundle
from sspcab_edge.datasets import list_images
from sspcab_edge.decision import CLEARANCE
from sspcab_edge.errors import GateError, OptionError, PictureError
from sspcab_edge.preprocess import decode_picture
from sspcab_runtime import Detector
from sspcab_runtime.fit import fit
from sspcab_runtime.verify import verify

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Network = Callable[[Pixels], tuple[Floats, Floats]]
Build = Callable[..., Bundle]
Command = Callable[..., subprocess.CompletedProcess[str]]
Save = Callable[[str, npt.NDArray[np.generic]], Path]


@pytest.fixture
def normal(save: Save, tmp_path: Path) -> tuple[Path, Pixels]:
    """Thirty pictures at graph size that are in no parity pack."""
    rng = np.random.default_rng(99)
    small = rng.integers(0, 256, (30, 6, 8, 3), dtype=np.uint8)
    pixels = np.repeat(np.repeat(small, 4, 1), 4, 2)
    for number, picture in enumerate(pixels):
        save(f"normal/{number:03d}.png", picture[..., ::-1])
    return tmp_path / "normal", pixels


def test_fits_to_the_rate_that_was_asked_for(
    bundle_path: Path, normal: tuple[Path, Pixels], network: Network
) -> None:
    folder, pixels = normal
    before = Bundle.open(bundle_path)
    after = fit(bundle_path, folder, rate=0.2)
    decision = after.manifest.decision
    scores = np.sort(network(pixels)[0].astype(float))
    assert decision.threshold == pytest.approx(scores[24] + CLEARANCE, abs=1e-6), (
        "ceil(31 * 0.8) = 25th smallest"
    )
    assert (decision.policy, decision.parameter, decision.fitted_on) == ("false-alarm-rate", 0.2, 30)
    assert decision.normal is not None
    assert decision.normal.median == pytest.approx(np.median(scores), abs=1e-6)
    assert after.manifest.release == before.manifest.release + 1 == 2
    assert after.digest != before.digest
    assert after == Bundle.open(bundle_path), "on disk, and still whole"


def test_the_new_bundle_proves_itself_at_once(bundle_path: Path, normal: tuple[Path, Pixels]) -> None:
    fit(bundle_path, normal[0], quantile=0.5)
    replayed: list[int] = []
    with Detector.open(bundle_path, progress=lambda done, of: replayed.append(done)) as detector:
        verdicts = [detector(pixels).anomalous for pixels in normal[1]]
    assert replayed == [], "fitting attested it"
    assert sum(bool(anomalous) for anomalous in verdicts) == 15
    assert {check.status for check in verify(Bundle.open(bundle_path))} == {"passed"}


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("quantile", [0.0, 3 / 11, 7 / 11, 1.0])
def test_a_threshold_fitted_to_parity_inputs_lies_clear_of_them(
    bundle_path: Path, folder: Path, backend: str, quantile: float
) -> None:
    """On a score itself, rounding alone would decide, and the bundle refuse to open on some backend."""
    after = fit(bundle_path, folder, quantile=quantile, backend=backend)
    assert {check.status for check in verify(Bundle.open(bundle_path))} == {"passed"}
    decision = after.manifest.decision
    assert decision.normal is not None
    with Detector.open(bundle_path) as detector:
        scores = [float(detector(pixels).score or 0) for pixels in _pictures(folder)]
    exact = np.quantile(scores, quantile)
    assert decision.threshold == pytest.approx(float(exact) + CLEARANCE, abs=1e-5)


def _pictures(folder: Path) -> list[Pixels]:
    return [decode_picture(path).pixels for path in list_images(folder).paths]


def test_a_given_threshold_is_taken_as_it_is(bundle_path: Path, normal: tuple[Path, Pixels]) -> None:
    decision = fit(bundle_path, None, threshold=0.75).manifest.decision
    assert (decision.threshold, decision.policy, decision.normal) == (0.75, "given", None)
    decision = fit(bundle_path, normal[0], threshold=0.75).manifest.decision
    assert decision.threshold == 0.75
    assert decision.normal is not None
    assert Bundle.open(bundle_path).manifest.release == 3


def test_a_given_threshold_that_the_pack_cannot_prove_is_refused(
    build: Build, tmp_path: Path, network: Network, frames: Pixels
) -> None:
    build(tmp_path / "bundle", lie=5e-5, threshold=0.99)
    before = (tmp_path / "bundle/manifest.json").read_bytes()
    score = float(network(frames[3:4])[0][0])
    with pytest.raises(GateError, match=r"1 of 12 parity inputs flip.*choose a threshold away from them"):
        fit(tmp_path / "bundle", None, threshold=score + 2e-5)
    assert (tmp_path / "bundle/manifest.json").read_bytes() == before


def test_a_bundle_without_threshold_gets_one(
    build: Build, tmp_path: Path, normal: tuple[Path, Pixels]
) -> None:
    build(tmp_path / "bundle", threshold=None)
    with Detector.open(tmp_path / "bundle") as detector:
        assert detector(normal[1][0]).anomalous is None
    fit(tmp_path / "bundle", normal[0])
    with Detector.open(tmp_path / "bundle") as detector:
        assert detector(normal[1][0]).anomalous is not None


def test_one_bad_picture_and_nothing_is_fitted(bundle_path: Path, normal: tuple[Path, Pixels]) -> None:
    (normal[0] / "017.png").write_bytes(b"no picture")
    before = (bundle_path / "manifest.json").read_bytes()
    with pytest.raises(PictureError, match=r"017\.png cannot be decoded"):
        fit(bundle_path, normal[0])
    assert (bundle_path / "manifest.json").read_bytes() == before


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"rate": 0.1, "quantile": 0.5}, OptionError, "not several"),
        ({"quantile": 0.5, "threshold": 0.5}, OptionError, "not several"),
        ({"rate": 1.5}, OptionError, "false-alarm rate is 1.5"),
        ({"quantile": -1.0}, OptionError, "quantile is -1.0"),
        ({"threshold": float("inf")}, OptionError, "threshold is inf"),
    ],
)
def test_options_that_make_no_sense(
    pristine: Path,
    normal: tuple[Path, Pixels],
    options: dict[str, float],
    kind: type[Exception],
    message: str,
) -> None:
    with pytest.raises(kind, match=message):
        fit(pristine, normal[0], **options)  # type: ignore[arg-type]


def test_nothing_to_fit_to(pristine: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="give a folder of normal pictures"):
        fit(pristine, None)
    with pytest.raises(PictureError, match="holds no images"):
        fit(pristine, tmp_path)


def test_a_full_disk_leaves_the_bundle_as_it_was(bundle_path: Path, normal: tuple[Path, Pixels]) -> None:
    """No file may grow: what a full disk does, for root too."""
    before = Bundle.open(bundle_path)
    arguments = [sys.executable, "-m", "sspcab_edge.cli", "fit", str(bundle_path), str(normal[0])]
    line = f"ulimit -f 0; exec {shlex.join(arguments)}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("sspcab-edge: cannot write")
    assert done.stderr.count("\n") == 1
    assert Bundle.open(bundle_path) == before
    assert not list(bundle_path.parent.glob(".*")), "nothing half-written stays"


def test_the_command(command: Command, bundle_path: Path, normal: tuple[Path, Pixels]) -> None:
    done = command("sspcab_edge.cli", "fit", bundle_path, normal[0], "--false-alarm-rate", "0.2")
    assert done.returncode == 0, done.stderr
    header, before, now, _ = done.stdout.splitlines()
    assert header.split()[:3] == ["release", "threshold", "policy"]
    assert before.split()[:4] == ["before", "1", "0.6", "given"]
    assert now.split()[:2] == ["now", "2"]
    done = command("sspcab_edge.cli", "fit", bundle_path, normal[0], "--quantile", "0.9", "--json")
    result = json.loads(done.stdout)
    assert result["schema"] == 1
    assert (result["release"], result["after"]["policy"]) == (3, "quantile")
    assert result["before"]["policy"] == "false-alarm-rate"
    assert set(result["after"]["normal"]) == {"minimum", "q25", "median", "q75", "maximum"}


def test_too_few_pictures_for_the_rate_are_told(command: Command, bundle_path: Path, folder: Path) -> None:
    done = command("sspcab_edge.cli", "fit", bundle_path, folder)
    assert done.returncode == 0
    assert "note: 12 normal pictures support a false-alarm rate of 0.0769, not 0.01" in done.stderr
