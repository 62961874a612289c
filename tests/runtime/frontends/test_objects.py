"""Objects in videos: found, cut out, looked ahead for, bounded, smoothed; and clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from definitions.tiny_bundle import make_bundle
from sspcab_edge.errors import BundleError, EngineError
from sspcab_edge.front_end_spec import (
    DetectorHead,
    FlowSpec,
    FrameSize,
    FrontEndSpec,
    Objects,
    Preprocess,
    Proposals,
    Region,
)
from sspcab_edge.manifest import Manifest, decode_manifest, encode_manifest
from sspcab_edge.ports import clip_ports, object_ports
from sspcab_edge.protocols import Frame, FrontEnd, Request, Verdict
from sspcab_edge.score_map import ScoreMap
from sspcab_runtime.frontends.clip import Clip
from sspcab_runtime.frontends.objects import ObjectFrontEnd
from sspcab_runtime.frontends.proposals.detector import letterbox, read_head
from sspcab_runtime.frontends.table import open_front_end

WIDTH, HEIGHT = 160, 96
BEHIND = ((-2, -1), (-1, 0))
AHEAD = ((0, -1), (0, 1))
Pixels = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return make_bundle(tmp_path_factory.mktemp("objects") / "bundle", targets=("onnx",)).manifest


Made = Callable[..., Manifest]


@pytest.fixture
def made(plain: Manifest) -> Made:
    """A manifest of an object host, its front-end as asked for."""

    def make(
        window: Sequence[int] = (0,), pairs: Sequence[tuple[int, int]] = AHEAD, smoothing: int = 1,
        size: int = 16, zones: Any = (), score_map: ScoreMap | None = None, **proposals: Any,
    ) -> Manifest:  # fmt: skip
        inputs, outputs = object_ports(size, size, window, pairs)
        asked: dict[str, Any] = {"kind": "difference", "min_area": 30, "grow": 1, **proposals}
        spec = FrontEndSpec(
            kind="objects",
            frame=FrameSize(width=WIDTH, height=HEIGHT),
            zones=zones,
            objects=Objects(
                proposals=Proposals(**asked),
                flow=FlowSpec(width=WIDTH, height=HEIGHT) if pairs else None,
                empty_score=-3.0,
                smoothing=smoothing,
            ),
        )
        artifact = msgspec.structs.replace(plain.artifacts[0], score_map=score_map or ScoreMap())
        return msgspec.structs.replace(
            plain,
            inputs=inputs,
            outputs=outputs,
            front_end=spec,
            preprocess=Preprocess(width=size, height=size, resize="opencv-linear"),
            artifacts=(artifact,),
        )

    return make


def scene(*squares: tuple[int, int], side: int = 14) -> Pixels:
    """A textured background with bright textured squares at (left, top)."""
    rng = np.random.default_rng(0)
    picture = cv2.GaussianBlur(rng.integers(0, 120, (HEIGHT, WIDTH, 3), dtype=np.uint8), (0, 0), 2)
    patch = np.random.default_rng(1).integers(160, 256, (side, side, 3), dtype=np.uint8)
    for left, top in squares:
        picture[top : top + side, left : left + side] = cv2.GaussianBlur(patch, (0, 0), 1)
    return np.asarray(picture, np.uint8)


def frame(pixels: Pixels, index: int) -> Frame:
    return Frame(pixels, index, "test", index / 10, index / 10)


def opened(manifest: Manifest, threshold: float | None = 5.0) -> ObjectFrontEnd:
    front_end = open_front_end(manifest, manifest.artifacts[0], threshold, None)
    assert isinstance(front_end, ObjectFrontEnd)
    return front_end


def scores_of(request: Request) -> dict[str, Any]:
    """A network whose score is the mean brightness of an object."""
    pixels = np.asarray(request.inputs["appearance"])
    return {"score": pixels.reshape(len(pixels), -1).mean(axis=1).astype(np.float32)}


def overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    """Intersection over union."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    common = max(0, across) * max(0, down)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return common / (sum(areas) - common)


def run(front_end: ObjectFrontEnd, pictures: Sequence[Pixels]) -> list[tuple[int, Verdict]]:
    found = []
    for index, pixels in enumerate(pictures):
        request = front_end.push(frame(pixels, index))
        if request is None:
            continue
        about = request.frame.index if request.frame is not None else index
        outputs = scores_of(request) if request.inputs else {}
        found.append((about, front_end.merge(outputs, request.context)))
    return found


def moving(count: int, step: int = 3) -> list[Pixels]:
    return [scene((20 + step * n, 40)) for n in range(count)]


def test_a_moving_object_is_found_cut_out_and_scored(made: Made) -> None:
    front_end = opened(made(pairs=(), size=14))
    found = run(front_end, moving(8))
    assert [index for index, _ in found] == list(range(8))
    verdict = found[-1][1]
    assert verdict.objects is not None
    assert overlap(verdict.objects[0].box, (41, 40, 55, 54)) > 0.2
    assert verdict.score == verdict.objects[0].score
    assert verdict.anomalous is True


def test_flow_says_how_it_moves_in_pixels(made: Made) -> None:
    front_end = opened(made(window=(-1, 0), pairs=((-1, 0), (0, -1))))
    pictures = moving(8)
    requests = [front_end.push(frame(pixels, index)) for index, pixels in enumerate(pictures)]
    last = requests[-1]
    assert last is not None
    flow = np.asarray(last.inputs["flow"], np.float32)
    assert last.inputs["flow"].dtype == np.float32
    assert flow.shape[1:] == (2, 16, 16, 2)
    assert np.median(flow[0, 0, 4:12, 4:12, 0]) == pytest.approx(3, abs=0.6)
    assert np.median(flow[0, 1, 4:12, 4:12, 0]) == pytest.approx(-3, abs=0.6)
    appearance = np.asarray(last.inputs["appearance"])
    assert appearance.shape[1:] == (2, 16, 16, 3)
    assert np.abs(appearance[0, 0].astype(int) - appearance[0, 1]).mean() > 3


def test_a_graph_that_looks_ahead_speaks_of_the_frame_before(made: Made) -> None:
    front_end = opened(made(pairs=AHEAD))
    assert (front_end.behind, front_end.ahead) == (1, 1)
    assert front_end.push(frame(scene(), 0)) is None
    found = run(front_end, moving(5))
    assert [index for index, _ in found[:1]] == [0]
    assert found[0][1].score is None
    assert [verdict.score is None for _, verdict in found[1:]] == [False] * (len(found) - 1)


def test_frames_without_objects_have_a_score_too(made: Made) -> None:
    found = run(opened(made(pairs=BEHIND)), [scene()] * 6)
    assert [verdict.score for _, verdict in found] == [None, None, -3.0, -3.0, -3.0, -3.0]
    assert found[-1][1].objects == ()
    assert found[-1][1].anomalous is False


def test_a_video_shorter_than_the_window_gives_no_verdict(made: Made) -> None:
    found = run(opened(made(pairs=((-4, -3), (-1, 0)))), moving(3))
    assert [verdict.score for _, verdict in found] == [None] * 3


def test_a_change_of_size_is_a_gap(made: Made) -> None:
    large = [np.asarray(cv2.resize(pixels, (320, 192)), np.uint8) for pixels in moving(5)]
    found = run(opened(made(pairs=BEHIND)), [*moving(5), *large])
    assert [verdict.score is None for _, verdict in found] == [True, True, False, False, False] * 2
    objects = found[-1][1].objects
    assert objects
    assert overlap(objects[0].box, (64, 80, 92, 108)) > 0.2  # in pixels of the frame as it came


def test_reset_forgets(made: Made) -> None:
    front_end = opened(made(pairs=BEHIND))
    run(front_end, moving(5))
    front_end.reset()
    assert [verdict.score for _, verdict in run(front_end, moving(3))][:2] == [None, None]


class Crowd:
    """Proposes the same five hundred boxes in every frame."""

    def __init__(self) -> None:
        places = [(x, y) for x in range(0, 150, 6) for y in range(0, 80, 4)]
        self.boxes = np.array([(x, y, x + 8, y + 9) for x, y in places], np.int64)

    def propose(self, pixels: Pixels) -> npt.NDArray[np.int64]:
        return self.boxes

    def reset(self) -> None:
        pass


def test_five_hundred_objects_are_bounded_and_counted(made: Made) -> None:
    front_end = opened(made(pairs=BEHIND))
    crowd = Crowd()
    assert len(crowd.boxes) == 500
    front_end._proposer = crowd
    verdict = run(front_end, moving(4))[-1][1]
    assert verdict.objects is not None
    assert (len(verdict.objects), verdict.ignored) == (64, 436)


def test_more_objects_than_the_limit_are_ignored_and_said(made: Made) -> None:
    before = scene()
    after = scene(*[(4 + 26 * n, 10) for n in range(6)], *[(4 + 26 * n, 60) for n in range(6)])
    verdict = run(opened(made(pairs=(), limit=5)), [before, after])[-1][1]
    assert verdict.objects is not None
    assert len(verdict.objects) == 5
    assert verdict.ignored == 7


def test_smoothing_is_the_mean_of_the_last_frames_and_begins_anew(made: Made) -> None:
    pictures = moving(9)
    raw = [verdict.score for _, verdict in run(opened(made(pairs=())), pictures)]
    front_end = opened(made(pairs=(), smoothing=3))
    smooth = [verdict.score for _, verdict in run(front_end, pictures)]
    plain_scores = [score for score in raw if score is not None]
    want = [np.mean(plain_scores[max(0, n - 2) : n + 1]) for n in range(len(plain_scores))]
    assert [score for score in smooth if score is not None] == pytest.approx(want)
    front_end.reset()
    again = [verdict.score for _, verdict in run(front_end, pictures)]
    assert again == smooth


def test_zones_leave_objects_out(made: Made) -> None:
    left_half = (((0, 0), (79, 0), (79, 95), (0, 95)),)
    pictures = [scene((20 + 3 * n, 20), (100 + 3 * n, 60)) for n in range(5)]
    everywhere = run(opened(made(pairs=())), pictures)[-1][1].objects
    inside = run(opened(made(pairs=(), zones=left_half)), pictures)[-1][1].objects
    assert everywhere is not None
    assert inside is not None
    assert {one.box for one in inside} == {one.box for one in everywhere if one.box[0] < 70}
    assert len(inside) < len(everywhere)


def test_scores_come_on_the_sources_scale(made: Made) -> None:
    knots = ScoreMap(artifact=(0.0, 1.0), source=(10.0, 12.0))
    one = run(opened(made(pairs=())), moving(4))[-1][1]
    mapped = run(opened(made(pairs=(), score_map=knots)), moving(4))[-1][1]
    assert one.score is not None
    assert mapped.score == pytest.approx(10 + 2 * one.score)


def test_scores_that_are_no_numbers_are_refused(made: Made) -> None:
    front_end = opened(made(pairs=()))
    requests = [front_end.push(frame(pixels, n)) for n, pixels in enumerate(moving(3))]
    assert requests[-1] is not None
    count = len(np.asarray(requests[-1].inputs["appearance"]))
    with pytest.raises(EngineError, match="cannot be judged"):
        front_end.merge({"score": np.full(count, np.nan, np.float32)}, requests[-1].context)


def test_background_proposals_warm_up_and_find_what_moves(made: Made) -> None:
    front_end = opened(made(pairs=(), kind="background", warm_up=20))
    found = run(front_end, [scene()] * 20 + moving(6))
    assert [verdict.score is None for _, verdict in found] == [True] * 20 + [False] * 6
    objects = found[-1][1].objects
    assert objects
    left, top, right, bottom = objects[0].box
    assert left <= 35 <= 49 <= right
    assert top <= 40 <= 54 <= bottom


def test_an_object_graph_behind_a_whole_frame_front_end_is_refused(made: Made) -> None:
    manifest = made()
    wrong = msgspec.structs.replace(manifest, front_end=FrontEndSpec())
    with pytest.raises(BundleError, match=r"front-end of kind whole-frame for a graph that takes appearance"):
        decode_manifest(encode_manifest(wrong))
    assert decode_manifest(encode_manifest(manifest)).front_end == manifest.front_end


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min_area": 0}, "min_area 0 of objects"),
        ({"limit": 0}, "limit 0 of objects"),
        ({"kind": "detector"}, "no detector for proposals of kind detector"),
    ],
)
def test_manifests_that_contradict_themselves_are_refused(
    made: Made, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        decode_manifest(encode_manifest(made(**change)))


def clips(plain: Manifest) -> Manifest:
    """A manifest of a host that looks at three frames at a time."""
    inputs, outputs = clip_ports(3, HEIGHT, WIDTH, None)
    return msgspec.structs.replace(
        plain, inputs=inputs, outputs=outputs, front_end=FrontEndSpec(kind="clip"),
        preprocess=Preprocess(width=WIDTH, height=HEIGHT, resize="opencv-linear"),
    )  # fmt: skip


def test_clips_wait_for_their_frames_and_begin_anew(plain: Manifest) -> None:
    manifest = clips(plain)
    assert decode_manifest(encode_manifest(manifest)).front_end.kind == "clip"
    front_end = open_front_end(manifest, manifest.artifacts[0], 0.5, None)
    assert isinstance(front_end, Clip)
    pictures = moving(5)
    requests = [front_end.push(frame(pixels, n)) for n, pixels in enumerate(pictures)]
    assert [bool(request.inputs) for request in requests] == [False, False, True, True, True]
    assert np.array_equal(np.asarray(requests[-1].inputs["frames"])[0], np.stack(pictures[2:]))
    assert front_end.merge({}, None).score is None
    assert front_end.merge({"score": np.array([0.7], np.float32)}, None).anomalous is True
    other = np.asarray(cv2.resize(pictures[0], (80, 48)), np.uint8)
    assert not front_end.push(frame(other, 5)).inputs


def asked(front_end: FrontEnd, pictures: Sequence[Pixels], memory: Pixels | None) -> list[Request]:
    """What is asked of the engine; with ``memory`` every frame lies there, as in the slots of the daemon."""
    requests = []
    for index, pixels in enumerate(pictures):
        if memory is not None:
            memory[:] = pixels
        request = front_end.push(frame(pixels if memory is None else memory, index))
        if request is not None and request.inputs:
            requests.append(request)
    return requests


@pytest.mark.parametrize("kind", ["objects", "region", "clip"])
def test_frames_are_remembered_when_their_memory_is_used_again(
    made: Made, plain: Manifest, kind: str
) -> None:
    manifest = made(window=(-2, -1, 0))
    if kind == "region":
        region = Region(left=8, top=8, width=120, height=80)
        manifest = msgspec.structs.replace(
            manifest, front_end=msgspec.structs.replace(manifest.front_end, region=region)
        )
    elif kind == "clip":
        manifest = clips(plain)
    fresh, again = (
        asked(open_front_end(manifest, manifest.artifacts[0], 0.5, None), moving(9), memory)
        for memory in (None, np.empty_like(scene()))
    )
    assert len(fresh) == len(again) > 3
    for one, other in zip(fresh, again, strict=True):
        for name, array in one.inputs.items():
            assert np.array_equal(array, other.inputs[name])


def head(kind: Any, shape: tuple[int | str, ...], **more: Any) -> DetectorHead:
    return DetectorHead(
        file="d.onnx", head=kind, input="images", output="out", width=64, height=64, shape=shape, **more
    )


def test_every_head_gives_the_same_boxes() -> None:
    """Two boxes of classes 0 and 2, and one that is not sure enough, in each head's own form."""
    corners = np.array([[10, 20, 30, 50], [40, 8, 60, 20], [1, 1, 9, 9]], np.float64)
    scores, classes = np.array([0.9, 0.6, 0.1]), np.array([0, 2, 1])
    middles = np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], axis=1)
    by_class = np.zeros((3, 3))
    by_class[np.arange(3), classes] = scores
    final = np.concatenate([corners, scores[:, None], classes[:, None].astype(float)], axis=1)[None]
    forms = {
        "boxes": final,
        "yolo-end-to-end": final,
        "yolo": np.concatenate([middles, by_class], axis=1).T[None],
        "yolo-anchor": np.concatenate([middles, np.full((3, 1), 0.8), by_class / 0.8], axis=1)[None],
    }
    for kind, found in forms.items():
        boxes, sure, which = read_head(found, head(kind, found.shape))
        np.testing.assert_allclose(boxes, corners[:2])
        np.testing.assert_allclose(sure, scores[:2])
        assert which.tolist() == [0, 2]
        boxes, _, _ = read_head(found, head(kind, found.shape, classes=(2,)))
        np.testing.assert_allclose(boxes, corners[1:2])
    with pytest.raises(EngineError, match="no number"):
        read_head(final * np.nan, head("boxes", final.shape))


@pytest.mark.parametrize(("width", "height"), [(640, 360), (100, 400), (32, 20)])
def test_letterboxes_keep_proportions_and_never_enlarge(width: int, height: int) -> None:
    pixels = np.full((height, width, 3), 200, np.uint8)
    picture, scale, left, top = letterbox(pixels, 128, 96)
    assert picture.shape == (96, 128, 3)
    assert scale == pytest.approx(min(128 / width, 96 / height, 1))
    inside = picture[top : top + round(height * scale), left : left + round(width * scale)]
    assert (inside == 200).all()
    assert (picture == 200).sum() == inside.size


def test_a_detector_finds_objects_in_the_frame(made: Made, tmp_path: Path) -> None:
    """An ONNX file with the documented contract, which boxes what is bright."""
    from definitions.object_detectors import bright_detector

    (tmp_path / "d.onnx").write_bytes(bright_detector(64, 64))
    spec = head("boxes", (1, 1, 6))
    manifest = made(pairs=(), kind="detector", detector=spec)
    front_end = open_front_end(manifest, manifest.artifacts[0], 5.0, tmp_path)
    assert isinstance(front_end, ObjectFrontEnd)
    verdict = run(front_end, [scene((60, 40))])[-1][1]
    assert verdict.objects is not None
    ((left, top, right, bottom),) = [one.box for one in verdict.objects]
    # the frame is 2.5 times as large as the detector sees it
    assert left == pytest.approx(60, abs=6)
    assert top == pytest.approx(40, abs=6)
    assert right == pytest.approx(74, abs=6)
    assert bottom == pytest.approx(54, abs=6)
    with pytest.raises(BundleError, match="need its file"):
        open_front_end(manifest, manifest.artifacts[0], 5.0, None)
