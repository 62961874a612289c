"""One artifact of a bundle on one backend: what is measured, and in which order."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sspcab_bench.batched import Batched
from sspcab_bench.checking import PackCheck
from sspcab_bench.files import read_text
from sspcab_bench.inputs import PACK, Endless, endless_frames, pack_files, require_frames, spread
from sspcab_bench.machine import SYS
from sspcab_bench.phases import engine_alone, latency, one_frame, stream
from sspcab_bench.sensors import Sensors, Watch, summarise_samples
from sspcab_bench.summary import Histogram, Statistics
from sspcab_bench.timing import WarmUp, warm_up
from sspcab_edge.bundle import Bundle
from sspcab_edge.front_end_spec import ENTRY_A_FRAME
from sspcab_edge.manifest import Artifact
from sspcab_runtime.detector import Detector
from sspcab_runtime.engines import load_engine
from sspcab_runtime.engines.base import GraphEngine
from sspcab_runtime.frontends import open_front_end
from sspcab_runtime.machine import PROC
from sspcab_runtime.pipeline import Result
from sspcab_runtime.setting import Setting
from sspcab_runtime.sources.pictures import Pictures

__all__ = ["Job", "Measured", "measure_artifact"]


@dataclass(frozen=True, slots=True)
class Job:
    """What to measure.

    Attributes:
        bundle: Its folder.
        artifact: Name of one of its artifacts.
        backend: What runs it.
        threads: Of one inference; None leaves it to the backend, as the runtime does.
        seconds: At least so long for each of latency, stream and engine alone; at most for each half of
            warming up.
        source: URI of frames to measure on; None is the bundle's parity pack.
        streams: Engines that a stream uses at the same time.
        batch: Frames of one engine call.
    """

    bundle: str
    artifact: str
    backend: str
    threads: int | None
    seconds: float
    source: str | None
    streams: int = 1
    batch: int = 1


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured.

    Attributes:
        target: Of the artifact.
        precision: Of the artifact.
        backend: What ran it.
        version: Of the backend's library.
        threads: Of one inference; None was left to the backend.
        load_s: From a process that knows nothing of the backend to a loaded artifact; the files were in the
            page cache.
        first_infer_ms: The first inference, on zeros: it allocates memory and picks kernels.
        warm_up: How warming up went.
        latency: From the beginning of decoding to the verdict, one frame at a time; of a batch, from its
            first frame's decoding to its last verdict.
        histogram: The same durations, to look at.
        stages: The same frames, by stage of the runtime's pipeline, in its order.
        fps: Frames a second through the runtime's pipeline, with its stages overlapped.
        engine_fps: Frames a second of the engines alone, one call after the other.
        peak_rss_mb: Most memory that the process held at once, in MiB; None where the kernel does not say.
        inputs: Inputs of the parity pack.
        checked: Those of them whose verdicts, while they were measured, were compared with the source's.
        max_abs_score_diff: The farthest of those scores from the source's.
        streams: Engines at the same time. Also ``batch``: frames of one call.
        energy_per_frame_mj: Of the whole module while it streamed, idle power included; None where its
            power is not told.
        objects: How many frames had so many objects, where the bundle looks for any.
    """

    target: str
    precision: str
    backend: str
    version: str
    threads: int | None
    load_s: float
    first_infer_ms: float
    warm_up: WarmUp
    latency: Statistics
    histogram: Histogram
    stages: dict[str, Statistics]
    fps: float
    engine_fps: float
    peak_rss_mb: float | None
    inputs: int
    checked: int
    max_abs_score_diff: float
    streams: int = 1
    batch: int = 1
    energy_per_frame_mj: float | None = None
    objects: dict[int, int] | None = None

    @property
    def artifact(self) -> str:
        """Name of the artifact, as in ``onnx-fp32``."""
        return f"{self.target}-{self.precision}"


def measure_artifact(job: Job, *, proc: Path = PROC, sys: Path = SYS) -> Measured:
    """Load, warm up, and measure: one frame at a time, then as a stream, then the engine alone.

    Every verdict on an input of the parity pack is compared with the source's. Where frames come from
    elsewhere, the pack is replayed first, as much of it as fits into warming up.

    Raises:
        BundleError: No bundle, or one that was changed.
        MissingPackageError: The backend is not installed.
        EngineError: The backend refuses the artifact.
        SourceError: The source cannot be opened, or gives no frames.
        PictureError: A picture of the source cannot be decoded.
        GateError: The artifact does not give the source's verdicts.
    """
    bundle = Bundle.open(job.bundle)
    artifact = next(a for a in bundle.manifest.artifacts if a.name == job.artifact)
    threshold = bundle.manifest.decision.threshold
    front_end = open_front_end(bundle.manifest, artifact, threshold, bundle.path)
    require_frames(bundle, job.source)
    check = PackCheck(bundle, artifact)
    order = spread(check.inputs)
    engine, load_s, first_infer_ms = _load(bundle, artifact, job)
    others = [_load(bundle, artifact, job)[0] for _ in range(job.streams - 1)]
    with (
        Detector(bundle, artifact, engine, front_end, threshold, others) as detector,
        closing(_frames(bundle, job.source, order)) as source,
    ):
        objects: Counter[int] = Counter()

        def see(result: Result) -> None:
            if result.verdict.objects is not None:
                objects[len(result.verdict.objects)] += 1
            if job.source is None and result.verdict.score is not None:
                check.see(order[result.frame.index], result.verdict, with_map=False)

        on = f"{engine.backend} {engine.version}"
        warmth = _warm_up(detector, source, check, order, job)
        check.require(on)
        if job.batch > 1:
            detector.front_end = Batched(front_end, job.batch)
        whole, drawn, stages = latency(detector, source, see, job.seconds, job.batch)
        with Watch(Sensors(sys)) as watch:
            fps = stream(detector, source, see, job.seconds, job.batch)
        power_mw = summarise_samples(watch.samples).mean_power_mw
        engine_fps = engine_alone(detector, source, job.seconds, job.batch)
        parity = check.require(on)
    return Measured(
        target=artifact.target,
        precision=artifact.precision,
        backend=engine.backend,
        version=engine.version,
        threads=job.threads,
        load_s=load_s,
        first_infer_ms=first_infer_ms,
        warm_up=warmth,
        latency=whole,
        histogram=drawn,
        stages=stages,
        fps=fps,
        engine_fps=engine_fps,
        peak_rss_mb=_peak_rss_mb(proc),
        inputs=check.inputs,
        checked=check.checked,
        max_abs_score_diff=parity.max_abs_score_diff,
        streams=job.streams,
        batch=job.batch,
        energy_per_frame_mj=None if power_mw is None else power_mw / fps,
        objects=dict(sorted(objects.items())) if objects else None,
    )


def _load(bundle: Bundle, artifact: Artifact, job: Job) -> tuple[GraphEngine, float, float]:
    """The artifact on its backend, seconds of loading it, milliseconds of the first inference.

    Making an engine ends with one inference on zeros, which the engine's clocks tell.
    """
    manifest = bundle.manifest
    start = time.perf_counter()
    engine = load_engine(
        job.backend,
        bundle.file(artifact.files[0]),
        manifest.inputs,
        manifest.outputs,
        precision=artifact.precision,
        threads=Setting(artifact, job.backend, None, job.threads, job.streams).threads_each,
        single=job.batch == 1 and manifest.front_end.kind in ENTRY_A_FRAME,
    )
    elapsed_s = time.perf_counter() - start
    first_infer_ms = sum(engine.stages_ms.values())
    return engine, elapsed_s - first_infer_ms / 1e3, first_infer_ms


def _frames(bundle: Bundle, source: str | None, order: list[int]) -> Endless:
    if source is not None:
        return endless_frames(bundle, source)
    files = pack_files(bundle)
    ordered = [files[number] for number in order]
    return Endless(lambda: Pictures(PACK, ordered))


def _warm_up(detector: Detector, source: Endless, check: PackCheck, order: list[int], job: Job) -> WarmUp:
    """Replay the pack, or as much of it as fits; then run the source until its speed settles."""
    check.replay(detector.engine, order, job.seconds)
    detector.front_end.reset()
    return warm_up(lambda: one_frame(detector, source).latency_ms, cap_s=job.seconds)


def _peak_rss_mb(proc: Path) -> float | None:
    """The kernel's high-water mark of this program; ``ru_maxrss`` is its parent's where that is higher."""
    for line in read_text(proc / "self" / "status").splitlines():
        name, _, rest = line.partition(":")
        if name == "VmHWM" and rest.split()[:1] and rest.split()[0].isdigit():
            return int(rest.split()[0]) / 1024
    return None
