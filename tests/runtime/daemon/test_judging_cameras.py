"""Camera integrity, alarms and drift: pure state machines against definitions."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from definitions.fake_camera import noisy_scene
from sspcab_edge.manifest import Quantiles
from sspcab_runtime.daemon.alarms import Alarm, AlarmClosed, AlarmOpened, CameraAlarms
from sspcab_runtime.daemon.alarms.camera import largest_share, zone_mask
from sspcab_runtime.daemon.config import AlarmConfig, DriftConfig, IntegrityConfig, ZoneConfig
from sspcab_runtime.daemon.drift import DriftWatch, drift_evidence
from sspcab_runtime.daemon.integrity.facts import FactsMeter, sharpness
from sspcab_runtime.daemon.integrity.judge import CameraJudge
from sspcab_runtime.daemon.messages import Facts

NORMAL = Quantiles(minimum=0.0, q25=0.1, median=0.2, q75=0.3, maximum=0.5)


def run(
    frames: list[npt.NDArray[np.uint8]], config: IntegrityConfig | None = None, reference: Path | None = None
) -> list[frozenset[str]]:
    """Faults after each frame, at ten frames a second."""
    meter, judge = FactsMeter(reference), CameraJudge(config or IntegrityConfig())
    return [judge.frame(meter.measure(frame), number / 10) for number, frame in enumerate(frames)]


def test_a_sound_camera_has_no_faults() -> None:
    scene = noisy_scene(240, 320)
    assert not any(run([scene(number) for number in range(100)]))


def test_black_and_saturated() -> None:
    scene = noisy_scene(240, 320)
    black = np.clip(scene(0).astype(int) // 60, 0, 4).astype(np.uint8)
    white = np.full_like(black, 255)
    assert run([scene(0), black]) == [frozenset(), {"black"}]
    assert "saturated" in run([scene(0), white])[-1]


def test_a_dark_scene_with_something_in_it_is_not_black() -> None:
    dark = np.zeros((240, 320, 3), np.uint8)
    dark[100:140, 100:140] = 120
    assert "black" not in run([dark])[-1]


def test_frozen_after_its_time_and_over_with_motion() -> None:
    scene = noisy_scene(240, 320)
    found = run(
        [scene(number) for number in range(5)]
        + [scene(4)] * 40
        + [scene(9), scene(10), *map(scene, range(20, 40))],
        IntegrityConfig(frozen_s=2.0, hold_s=0.5),
    )
    first = next(number for number, faults in enumerate(found) if "frozen" in faults)
    assert (first - 5) / 10 == pytest.approx(2.0, abs=0.15)
    assert all("frozen" in faults for faults in found[first:45])
    assert "frozen" not in found[-1]


def test_a_still_picture_that_is_encoded_anew_is_frozen() -> None:
    """Key frames and predicted ones of the same picture differ a little."""
    av = pytest.importorskip("av", reason="av is not installed: no video")
    scene = noisy_scene(240, 320)(1)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "8", "preset": "veryfast", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for _ in range(60):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(scene, format="rgb24")))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert "frozen" in run(frames, IntegrityConfig(frozen_s=2.0))[-1]


@pytest.mark.parametrize("size", [(240, 320), (720, 1280)])
def test_a_quiet_sensor_is_not_frozen(size: tuple[int, int]) -> None:
    scene = noisy_scene(*size)(1).astype(np.float64)
    rng = np.random.default_rng(12)
    frames = [np.clip(scene + rng.normal(0, 1, scene.shape), 0, 255).astype(np.uint8) for _ in range(30)]
    assert not any(run(frames, IntegrityConfig(frozen_s=1.0)))


def test_blurred() -> None:
    scene = noisy_scene(480, 640)
    blurred = [cv2.GaussianBlur(scene(number), (0, 0), 3).astype(np.uint8) for number in range(20)]
    found = run([scene(number) for number in range(40)] + blurred)
    assert not any(found[:40])
    assert "blurred" in found[-1]


@pytest.mark.parametrize("light", [0.6, 0.8, 1.2, 1.4])
def test_sharpness_does_not_follow_the_light(light: float) -> None:
    base = np.clip(noisy_scene(240, 320)(1).astype(float) * 0.6, 0, 255)
    one, other = sharpness(base.astype(np.uint8)), sharpness((base * light).astype(np.uint8))
    assert other == pytest.approx(one, rel=0.15)


def test_moved(tmp_path: Path) -> None:
    wide = noisy_scene(240, 480)
    still = [np.ascontiguousarray(wide(number)[:, :320]) for number in range(200)]
    away = [np.ascontiguousarray(wide(number)[:, 60:380]) for number in range(80)]
    found = run(still + away, reference=tmp_path / "view")
    assert not any(found[:200])
    assert "moved" in found[-1]
    assert "moved" in run(away, reference=tmp_path / "view")[-1], "the reference view was kept"


def test_a_moving_scene_has_no_reference_view(tmp_path: Path) -> None:
    wide = noisy_scene(240, 3000)(0)
    frames = [np.ascontiguousarray(wide[:, 8 * number : 8 * number + 320]) for number in range(300)]
    assert not any("moved" in faults for faults in run(frames, reference=tmp_path / "view"))
    assert not (tmp_path / "view").exists()


_FACTS = st.builds(
    Facts,
    luma=st.floats(0, 255),
    contrast=st.floats(0, 80),
    clipped=st.floats(0, 1),
    sharpness=st.floats(0, 2),
    change=st.none() | st.floats(0, 5),
    shift=st.none() | st.floats(0, 1),
)


@given(st.lists(_FACTS, max_size=40))
def test_what_is_off_is_never_found(facts: list[Facts]) -> None:
    off = IntegrityConfig(frozen_s=0, black=0, saturated=0, blurred=0, moved=0)
    judge = CameraJudge(off)
    assert not any(judge.frame(one, number / 10) for number, one in enumerate(facts))


@given(st.lists(_FACTS, max_size=40))
def test_faults_open_and_close_in_turn(facts: list[Facts]) -> None:
    judge, state = CameraJudge(IntegrityConfig(frozen_s=0.5)), dict[str, bool]()
    for number, one in enumerate(facts):
        judge.frame(one, number / 10)
        opened, closed = judge.changes()
        for fault in opened:
            assert not state.get(fault)
            state[fault] = True
        for fault in closed:
            assert state[fault]
            state[fault] = False
        assert judge.faults == {fault for fault, open_ in state.items() if open_}


def first_alarm(scores: list[float], threshold: float, tau: float, needed: int, of: int) -> int | None:
    """The frame that opens the first alarm (one frame a second), from the definition."""
    means: list[float] = []
    for number, score in enumerate(scores):
        weight = 1.0 if not means or tau == 0 else 1 - float(np.exp(-1 / tau))
        means.append(score if not means else means[-1] + weight * (score - means[-1]))
        if sum(mean > threshold for mean in means[max(0, number - of + 1) :]) >= needed:
            return number
    return None


@given(
    st.lists(st.floats(0, 1), max_size=60), st.sampled_from([0.0, 2.0]), st.integers(1, 3), st.integers(0, 2)
)
def test_alarms_alternate_and_keep_their_pause(
    scores: list[float], tau: float, needed: int, more: int
) -> None:
    config = AlarmConfig(smoothing_s=tau, needed=needed, of=needed + more, cool_down_s=5.0)
    alarm = Alarm(config, 0.6, NORMAL)
    changes = [
        (number, change)
        for number, score in enumerate(scores)
        if (change := alarm.push(score, number, number))
    ]
    kinds = [type(change) for _, change in changes]
    assert kinds == [AlarmOpened if number % 2 == 0 else AlarmClosed for number in range(len(kinds))]
    times = [number for number, _ in changes]
    assert all(times[i] - times[i - 1] >= 5 for i in range(2, len(times), 2))
    for (begin, opened), (end, closed) in zip(changes[::2], changes[1::2], strict=False):
        assert isinstance(closed, AlarmClosed)
        assert closed.peak.score == max(scores[begin : end + 1])
        assert closed.duration_s == end - begin
        assert opened.threshold == 0.6


@given(
    st.lists(st.floats(0, 1), max_size=60), st.sampled_from([0.0, 2.0]), st.integers(1, 3), st.integers(0, 2)
)
def test_opening_is_k_of_n_of_smoothed_scores(
    scores: list[float], tau: float, needed: int, more: int
) -> None:
    config = AlarmConfig(smoothing_s=tau, needed=needed, of=needed + more, cool_down_s=0.0)
    alarm = Alarm(config, 0.6, None)
    opened = [
        isinstance(alarm.push(score, number, number), AlarmOpened) for number, score in enumerate(scores)
    ]
    first = opened.index(True) if any(opened) else None
    assert first == first_alarm(scores, 0.6, tau, needed, needed + more)


def test_hysteresis() -> None:
    alarm = Alarm(AlarmConfig(needed=1, of=2, clear=0.5, cool_down_s=0), 0.6, NORMAL)
    assert isinstance(alarm.push(0.7, 0, 0), AlarmOpened)
    for number in range(1, 10):
        assert alarm.push(0.5, number, number) is None, "below the threshold, and above half the way"
    assert alarm.push(0.35, 10, 10) is None
    assert isinstance(alarm.push(0.35, 11, 11), AlarmClosed)


def test_a_gap_closes() -> None:
    alarm = Alarm(AlarmConfig(needed=1, of=1), 0.6, None)
    alarm.push(0.9, 0, 0)
    closed = alarm.gap(4.0)
    assert closed is not None
    assert (closed.reason, closed.duration_s) == ("gap", 4.0)
    assert alarm.gap(5.0) is None


def test_zones_have_alarms_of_their_own() -> None:
    left = ZoneConfig(name="left", corners=((0, 0), (0.5, 0), (0.5, 1), (0, 1)))
    right = ZoneConfig(name="right", corners=((0.55, 0), (1, 0), (1, 1), (0.55, 1)), threshold=0.8)
    alarms = CameraAlarms(AlarmConfig(needed=1, of=1, zones=(left, right)), 0.6, None)
    heat = np.full((20, 40), 0.1, np.float32)
    heat[5:8, 30:33] = 0.7
    assert alarms.push(0.7, heat, 0, 0) == [], "right is below its own threshold, and left sees nothing"
    heat[5:8, 3:6] = 0.75
    changes = alarms.push(0.75, heat, 1, 1)
    assert [change.zone for change in changes] == ["left"]


def test_the_area_counts() -> None:
    alarms = CameraAlarms(AlarmConfig(needed=1, of=1, min_area=0.02), 0.5, None)
    heat = np.zeros((20, 20), np.float32)
    heat[::4, ::4] = 0.9
    assert alarms.push(0.9, heat, 0, 0) == [], "many small pieces are no large one"
    heat[10:13, 10:13] = 0.9
    assert len(alarms.push(0.9, heat, 1, 1)) == 1


def test_areas_and_masks_by_definition() -> None:
    above = np.zeros((10, 10), bool)
    above[0, 0] = above[1, 1] = above[5:8, 5:7] = True
    assert largest_share(above, None) == 6 / 100
    inside = np.zeros((10, 10), bool)
    inside[:3] = True
    assert largest_share(above, inside) == 2 / 100
    mask = zone_mask(((0, 0), (0.5, 0), (0.5, 1), (0, 1)), 10, 10)
    assert mask[:, :5].all()
    assert not mask[:, 6:].any()


def test_drift_is_found_and_not_imagined() -> None:
    rng = np.random.default_rng(9)
    edges = [float(edge) for edge in np.quantile(rng.standard_normal(100_000), [0.25, 0.5, 0.75])]
    values = np.empty((400, 240))
    values[:, 0] = rng.standard_normal(400)
    for step in range(1, 240):
        values[:, step] = 0.7 * values[:, step - 1] + np.sqrt(1 - 0.49) * rng.standard_normal(400)
    false = np.mean([drift_evidence(series, edges) < 0.01 for series in values])
    found = np.mean([drift_evidence(series + 1.0, edges) < 0.01 for series in values])
    print(f"at level 0.01: {false:.3f} of stationary windows, {found:.3f} of windows that moved by one sigma")
    assert false <= 0.03
    assert found >= 0.8


def test_drift_warns_after_two_windows() -> None:
    watch = DriftWatch(DriftConfig(window_s=240.0), NORMAL)
    rng = np.random.default_rng(10)
    warned = [watch.push(float(rng.normal(0.45, 0.05)), second) for second in range(600)]
    first = warned.index(True)
    assert 470 <= first <= 500
    sound = DriftWatch(DriftConfig(window_s=240.0), NORMAL)
    assert not any(sound.push(float(rng.normal(0.2, 0.148)), second) for second in range(2000))
