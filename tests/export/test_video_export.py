"""Video hosts from checkpoint and videos to the verdicts of their bundle, on both engines."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from definitions.background_agnostic_plain import PlainFramework
from definitions.films import HEIGHT, WIDTH, walk, write_film
from definitions.hf2vad_plain import PlainHfVad
from definitions.object_detectors import bright_detector, head_alone
from definitions.side_networks import shift_network
from definitions.ssmctb_plain import PlainBlock
from sspcab_edge.bundle import Bundle
from sspcab_edge.errors import EdgeError, OptionError, PictureError
from sspcab_edge.protocols import Request
from sspcab_export import FrontEndOptions, HostOptions, export
from sspcab_runtime import Detector
from sspcab_runtime.fit import fit
from sspcab_runtime.frontends import open_front_end
from sspcab_runtime.pipeline import Failure, Result
from sspcab_runtime.sources import open_source
from sspcab_runtime.verify import verify

FRAMES = 110


@dataclass(frozen=True)
class Street:
    """Checkpoints, the plain networks that they are of, and films."""

    framework: PlainFramework
    baf: Path
    hf: PlainHfVad
    hf2vad: Path
    films: Path
    other: Path


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Street:
    root = tmp_path_factory.mktemp("street")
    torch.manual_seed(3)
    framework = PlainFramework((8, 8, 8), "official", skip=False, colours=1)
    torch.save({"state_dict": framework.weights()}, root / "baf.pt")
    hf = PlainHfVad(block=PlainBlock(8)).eval()
    torch.save({"model_state_dict": hf.state_dict()}, root / "best.pth")
    for number in range(2):
        write_film(root / "films" / f"{number}.mp4", walk(FRAMES, seed=number))
    other = write_film(root / "other.mp4", walk(50, walkers=3, speed=7, seed=9))
    return Street(framework, root / "baf.pt", hf, root / "best.pth", root / "films", other)


@pytest.fixture(scope="module")
def baf(street: Street, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("baf") / "bundle"
    made = export(street.baf, output=out, targets=("onnx", "openvino"), calibration=street.films)
    return made.bundle


def results(detector: Detector, film: Path) -> list[Result]:
    detector.front_end.reset()
    with closing(open_source(str(film))) as source:
        found = list(detector.stream(source))
    assert not any(isinstance(one, Failure) for one in found)
    return [one for one in found if isinstance(one, Result)]


def requests(bundle: Bundle, film: Path) -> list[Request]:
    manifest = bundle.manifest
    front_end = open_front_end(manifest, manifest.artifacts[0], None, bundle.path)
    with closing(open_source(str(film))) as source:
        asked = [front_end.push(frame) for frame in source]
    return [one for one in asked if one is not None]


def test_a_framework_from_videos_to_objects(street: Street, baf: Bundle) -> None:
    """From file to verdict, against the plain definition on the crops that the front-end gives."""
    manifest = baf.manifest
    assert manifest.front_end.kind == "objects"
    assert manifest.decision.policy == "false-alarm-rate"
    assert manifest.decision.threshold is not None
    assert [one.parity.flips for one in manifest.artifacts] == [0, 0]
    assert manifest.calibration is not None
    assert manifest.calibration.judge > 50
    wanted = []
    for request in requests(baf, street.other):
        if request.inputs:
            scores = street.framework.scores(request.inputs["appearance"], request.inputs["flow"])  # type: ignore[arg-type]
            wanted.append(float(scores.max()))
    assert len(wanted) > 10
    for backend in ("onnxruntime", "openvino"):
        with Detector.open(baf.path, backend=backend) as detector:
            found = [one for one in results(detector, street.other) if one.verdict.objects]
        got = [one.verdict.score for one in found]
        assert np.abs(np.array(got) - wanted).max() <= 1e-4
        assert all(one.verdict.objects[0].score == one.verdict.score for one in found)  # type: ignore[index]
        assert "look_ahead" in found[0].stages_ms


def test_its_parity_pack_is_of_objects_and_replays(baf: Bundle) -> None:
    checked = [one for one in verify(baf) if one.parity is not None]
    assert {one.artifact.name for one in checked} == {"onnx-fp32", "openvino-fp32"}
    assert all(one.parity.passed for one in checked if one.parity is not None)


def test_the_run_command_tells_of_objects(baf: Bundle, street: Street, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sspcab_runtime.cli", str(baf.path), str(street.other), "--json"]
    done = subprocess.run(
        [*command, "--save", str(tmp_path / "drawn")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["index"] for line in lines] == list(range(49))  # the last one is never looked back on
    assert lines[0]["score"] is None
    judged = [line for line in lines if line["score"] is not None]
    assert len(judged) >= 15
    assert any(line["objects"] for line in judged)
    for one in judged[-1]["objects"]:
        left, top, right, bottom = one["box"]
        assert 0 <= left < right <= WIDTH
        assert 0 <= top < bottom <= HEIGHT
    assert len(list((tmp_path / "drawn").glob("0*.png"))) == 49


def test_a_threshold_is_fitted_to_videos_of_the_site(baf: Bundle, street: Street, tmp_path: Path) -> None:
    own = tmp_path / "bundle"
    shutil.copytree(baf.path, own)
    after = fit(own, street.films, quantile=0.9).manifest
    assert after.decision.fitted_on > 100
    assert after.decision.threshold is not None
    with Detector.open(own) as detector:
        scores = [r.verdict.score for film in sorted(street.films.iterdir()) for r in results(detector, film)]
    known = np.array([score for score in scores if score is not None])
    assert len(known) == after.decision.fitted_on
    assert after.decision.threshold == pytest.approx(np.quantile(known, 0.9), abs=1e-3)
    assert 0 < np.mean(known > after.decision.threshold) <= 0.1
    with pytest.raises(PictureError, match="holds no videos"):
        fit(own, tmp_path / "bundle" / "openvino")


def test_hf2vad_is_fitted_through_its_front_end(street: Street, tmp_path: Path) -> None:
    """Statistics, score of an empty frame and verdicts are those of the plain definition."""
    made = export(
        street.hf2vad, output=tmp_path / "bundle", calibration=street.films, targets=("onnx", "openvino")
    )
    bundle = made.bundle
    objects = [
        request.inputs
        for film in sorted(street.films.iterdir())
        for number, request in enumerate(requests(bundle, film))
        if request.inputs and number < FRAMES // 2
    ]
    appearance, flow = (np.concatenate([one[name] for one in objects]) for name in ("appearance", "flow"))
    flow_error, frame_error = street.hf.errors(appearance, flow)
    (said,) = [text for text in bundle.manifest.model.assumptions if text.startswith("statistics of")]
    assert f"statistics of {len(appearance)} normal objects" in said
    empty = -flow_error.mean() / flow_error.std() - 0.1 * frame_error.mean() / frame_error.std()
    assert bundle.manifest.front_end.objects is not None
    assert bundle.manifest.front_end.objects.empty_score == pytest.approx(empty, rel=1e-3)
    wanted = []
    for request in requests(bundle, street.other):
        if request.inputs:
            own_flow, own_frame = street.hf.errors(request.inputs["appearance"], request.inputs["flow"])  # type: ignore[arg-type]
            wanted.append(
                float(
                    np.max(
                        (own_flow - flow_error.mean()) / flow_error.std()
                        + 0.1 * (own_frame - frame_error.mean()) / frame_error.std()
                    )
                )
            )
    for backend in ("onnxruntime", "openvino"):
        with Detector.open(bundle.path, backend=backend) as detector:
            got = [one.verdict.score for one in results(detector, street.other) if one.verdict.objects]
        assert np.abs(np.array(got) - wanted).max() <= 1e-4 * max(1.0, float(np.ptp(wanted)))


def test_a_detector_and_a_flow_network_travel_in_the_bundle(street: Street, tmp_path: Path) -> None:
    (tmp_path / "detector.onnx").write_bytes(bright_detector(HEIGHT, WIDTH))
    (tmp_path / "flow.onnx").write_bytes(shift_network(HEIGHT // 2, WIDTH // 2))
    made = export(
        street.baf,
        output=tmp_path / "bundle",
        calibration=street.films,
        front_end=FrontEndOptions(
            detector=tmp_path / "detector.onnx", flow=tmp_path / "flow.onnx", flow_scale=2.0, min_area=20
        ),
    )
    manifest = made.bundle.manifest
    listed = {entry.path for entry in manifest.files}
    assert {"front_end/detector.onnx", "front_end/flow.onnx"} <= listed
    (appearance, flow) = manifest.inputs
    assert (flow.unit, flow.scale, appearance.scale) == ("pixels", 2.0, 1.0)
    with Detector.open(made.bundle.path) as detector:
        found = results(detector, street.other)
    assert all(one.verdict.objects for one in found[2:])
    asked = next(one for one in requests(made.bundle, street.other) if one.inputs)
    # the network says (1, -2) for every pixel, going back and going on
    assert np.allclose(np.asarray(asked.inputs["flow"]), [2.0, -4.0])
    (made.bundle.path / "front_end" / "flow.onnx").write_bytes(b"something else")
    with pytest.raises(EdgeError, match=r"front_end/flow\.onnx"):
        Detector.open(made.bundle.path)


def test_int8_passes_the_gate_and_runs(street: Street, tmp_path: Path) -> None:
    made = export(
        street.baf, output=tmp_path / "bundle", calibration=street.films, targets=("onnx", "tensorrt"),
        precisions=("fp32", "fp16", "int8"), gates=("int8:rate=0.5", "fp16:rate=0.5"),
    )  # fmt: skip
    assert [one.name for one in made.bundle.manifest.artifacts] == [
        "onnx-fp32", "tensorrt-fp32", "onnx-fp16", "tensorrt-fp16", "onnx-int8", "tensorrt-int8"
    ]  # fmt: skip
    with Detector.open(made.bundle.path, precision="int8") as detector:
        assert any(one.verdict.objects for one in results(detector, street.other))


def test_without_videos_a_frame_size_is_needed(street: Street, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="say its size with --frame-size"):
        export(street.baf, output=tmp_path / "a")
    made = export(
        street.baf,
        output=tmp_path / "b",
        front_end=FrontEndOptions(frame_size=(HEIGHT, WIDTH)),
        threshold=0.5,
    )
    assert made.bundle.manifest.artifacts[0].parity.scene == "built-in"
    with pytest.raises(OptionError, match="give --calibration VIDEOS of normal"):
        export(street.hf2vad, output=tmp_path / "c", front_end=FrontEndOptions(frame_size=(HEIGHT, WIDTH)))
    with pytest.raises(OptionError, match="int8 needs videos"):
        export(
            street.baf, output=tmp_path / "d", precisions=("int8",),
            front_end=FrontEndOptions(frame_size=(HEIGHT, WIDTH)),
        )  # fmt: skip
    assert not any((tmp_path / name).exists() for name in "acd")


def test_footage_that_cannot_be_used_is_refused(street: Street, tmp_path: Path) -> None:
    def refused(match: str, error: type[EdgeError] = OptionError, **more: object) -> None:
        with pytest.raises(error, match=match):
            export(street.baf, output=tmp_path / "bundle", **more)  # type: ignore[arg-type]
        assert not (tmp_path / "bundle").exists()

    empty = write_film(tmp_path / "still" / "still.mp4", walk(120, walkers=0))
    refused("no object was found in the first half", calibration=empty)
    short = write_film(tmp_path / "short" / "short.mp4", walk(20))
    refused("0 frames of the calibration videos can be fitted to", calibration=short)
    (tmp_path / "nothing").mkdir()
    refused("holds no videos", PictureError, calibration=tmp_path / "nothing")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "film.mp4").write_bytes(b"no film at all" * 100)
    refused("film.mp4", EdgeError, calibration=tmp_path / "bad")
    refused("--validation is for pictures", validation=street.films, calibration=street.films)
    refused("give videos with --calibration", training=street.films, calibration=street.films)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tiles": True}, "--tiles and --register are for pictures"),
        ({"detector": "unknown"}, "has a head that is not known: it gives out"),
        ({"flow": "unknown"}, "takes 1 inputs, expected two frames"),
        ({"flow": "flow", "flow_size": (64, 64)}, "are about inverse search"),
        ({"flow_range": (0.0, 1.0)}, "give --flow FILE"),
        ({"classes": (1,)}, "are about --detector FILE"),
        ({"detector": "boxes", "proposals": "difference"}, "leave --proposals difference out"),
        ({"flow_size": (4, 4)}, "computes flow at 4x4 pixels"),
    ],
)
def test_front_ends_that_do_not_fit_are_refused(
    street: Street, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    files = {
        "unknown": head_alone([1, 7]),
        "boxes": bright_detector(HEIGHT, WIDTH),
        "flow": shift_network(HEIGHT, WIDTH),
    }
    for name in ("detector", "flow"):
        if name in options:
            path = tmp_path / f"{options[name]}.onnx"
            path.write_bytes(files[str(options[name])])
            options = {**options, name: path}
    with pytest.raises(OptionError, match=message):
        export(
            street.baf, output=tmp_path / "bundle", calibration=street.films,
            front_end=FrontEndOptions(**options),  # type: ignore[arg-type]
        )  # fmt: skip
    assert not (tmp_path / "bundle").exists()


def test_options_of_other_hosts_are_refused(
    tmp_path: Path, street: Street, request: pytest.FixtureRequest
) -> None:
    scene = request.getfixturevalue("scene")
    with pytest.raises(OptionError, match="--flow-scale is about objects: draem looks at none"):
        export(scene.checkpoint, output=tmp_path / "a", front_end=FrontEndOptions(flow_scale=2.0))
    with pytest.raises(OptionError, match="--statistics"):
        export(street.baf, output=tmp_path / "b", host=HostOptions(statistics=(1.0, 1.0, 1.0, 1.0)))


def test_videos_with_nothing_in_them_and_of_changing_size(baf: Bundle, tmp_path: Path) -> None:
    still = write_film(tmp_path / "still.mp4", walk(60, walkers=0))
    brief = write_film(tmp_path / "brief.mp4", walk(2))
    large = write_film(tmp_path / "large.mp4", walk(60, size=(2 * HEIGHT, 2 * WIDTH)))
    assert baf.manifest.front_end.objects is not None
    empty = baf.manifest.front_end.objects.empty_score
    with Detector.open(baf.path) as detector:
        scores = {one.verdict.score for one in results(detector, still)[30:]}
        assert scores == {empty}
        assert [one.verdict.score for one in results(detector, brief)] == [None]
        boxes = [one.box for r in results(detector, large) for one in r.verdict.objects or ()]
    assert max(right for _, _, right, _ in boxes) > WIDTH
    assert msgspec.to_builtins(baf.manifest)["front_end"]["frame"] == {"width": WIDTH, "height": HEIGHT}
