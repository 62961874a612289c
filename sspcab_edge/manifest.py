"""The manifest of a bundle: typed, closed, and one canonical byte form.

The JSON of a manifest is what a device trusts, so its bytes are canonical: keys sorted, two spaces of
indent, UTF-8, one newline at the end. Unknown keys are refused, because a device that ignores a key would
run something else than what was verified.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from sspcab_edge.block import BlockSpec
from sspcab_edge.errors import BundleError
from sspcab_edge.front_end_spec import FrontEndSpec, Preprocess, check_front_end, front_end_files
from sspcab_edge.ports import CONTRACT_VERSION, Port
from sspcab_edge.record import MANIFEST_NAME, Record
from sspcab_edge.score_map import ScoreMap, check_rising

__all__ = [
    "MANIFEST_NAME",
    "SCHEMA",
    "Artifact",
    "Calibration",
    "Decision",
    "FileEntry",
    "Gate",
    "Manifest",
    "Model",
    "OtherRounding",
    "Parity",
    "ParityPack",
    "Precision",
    "Quantiles",
    "Rounding",
    "Target",
    "decode_manifest",
    "encode_manifest",
]

SCHEMA = 1

Target = Literal["onnx", "openvino", "tensorrt"]
Precision = Literal["fp32", "fp16", "int8"]
OtherRounding = Literal["float64", "other-order"]
"""How a model is run with other rounding: in float64, or in float32 in another order of summation."""

Policy = Literal["false-alarm-rate", "quantile", "best-f1", "checkpoint", "given", "none"]


class FileEntry(Record, frozen=True, kw_only=True):
    """One file of the bundle: path relative to it (``/`` between parts), size in bytes, SHA-256."""

    path: str
    size: int
    sha256: str


class Model(Record, frozen=True, kw_only=True):
    """Which model this is: where it came from and what was told or assumed about it.

    ``source`` lists the checkpoint's files; ``digest`` is one SHA-256 over them. ``overrides`` are options
    that won over recognition, ``assumptions`` what nothing told and a default decided.
    """

    name: str
    source: tuple[FileEntry, ...]
    digest: str
    overrides: dict[str, str] = msgspec.field(default_factory=dict)
    assumptions: tuple[str, ...] = ()


class Quantiles(Record, frozen=True, kw_only=True):
    """Five numbers of a score distribution, on the source's scale."""

    minimum: float
    q25: float
    median: float
    q75: float
    maximum: float

    @property
    def iqr(self) -> float:
        """Interquartile range."""
        return self.q75 - self.q25


class Decision(Record, frozen=True, kw_only=True):
    """The threshold and where it came from. A frame is anomalous when ``score > threshold``.

    ``threshold`` is None when nothing could tell it: scores then come without labels. ``parameter`` is the
    rate or quantile of the policy; ``fitted_on`` counts the pictures it was fitted to; ``normal`` describes
    the scores of those that are normal.
    """

    threshold: float | None
    policy: Policy
    parameter: float | None = None
    fitted_on: int = 0
    normal: Quantiles | None = None
    note: str | None = None


class Rounding(Record, frozen=True, kw_only=True):
    """How far rounding alone moves the answers of the reference model: its own noise, on judged inputs.

    ``method`` tells what its float32 answers were compared with. ``score`` and ``map`` are the largest
    differences over ``inputs`` inputs, ``map_mean`` the largest mean difference of a map; both are None where
    there is no map. ``map_range`` is the largest value of those maps less the smallest. ``trusted`` is False
    where a gate would have to allow so much for rounding that verdicts could not be told apart: it allows
    less then.
    """

    method: OtherRounding
    inputs: int
    score: float
    map: float | None
    map_range: float | None
    trusted: bool
    map_mean: float | None = None


class Gate(Record, frozen=True, kw_only=True):
    """What an artifact has to reach; a limit that is None is not asked for.

    ``max_flips`` counts all that is compared, blends included. ``max_flips_upper95`` limits the 95 % upper
    bound of the flip rate on pictures (blends are chosen to lie near the threshold: their flips say nothing
    of a rate). ``max_auroc_drop`` applies where labels exist. ``score_tolerance`` and
    ``mean_score_tolerance`` limit the largest and the mean difference of scores; they are absolute, already
    multiplied by ``max(1, IQR of normal scores)``. ``score_relative`` is the share of a score by which it may
    differ besides: distances of anomalies can be a hundred times those of normal pictures, and rounding grows
    with them. ``map_tolerance`` limits the largest difference of a map's values, ``mean_map_tolerance`` the
    largest mean difference of a map: a weight that is wrong by little moves many values, rounding a few far.
    Where the reference model's own :class:`Rounding` is large, tolerances are a multiple of it: no artifact
    can be nearer to the model than it is to itself.
    """

    max_flips: int | None = None
    max_flips_upper95: float | None = None
    max_auroc_drop: float | None = None
    score_tolerance: float | None = None
    score_relative: float = 0.0
    mean_score_tolerance: float | None = None
    map_tolerance: float | None = None
    mean_map_tolerance: float | None = None


class Parity(Record, frozen=True, kw_only=True):
    """Source against artifact on the judge pictures, from file to verdict.

    ``pictures`` counts all that were compared, ``blends`` those of them that were mixed to lie near the
    threshold. ``engine`` names what computed the artifact's side. ``score_excess`` is the largest
    difference of scores without the share of the score that the gate allows for rounding. ``margin`` is the
    smallest distance of a source score to the threshold. ``flips`` counts all labels that changed,
    ``blend_flips`` those of blends; ``flips_upper95`` is the exact 95 % upper bound of the flip rate on
    pictures that are no blends (None without a threshold). ``scene`` is ``built-in`` when no pictures of the
    user's scene were given. ``mean_abs_map_diff``
    is the largest mean difference of a map.
    """

    pictures: int
    labelled: int
    blends: int
    scene: Literal["given", "built-in"]
    engine: str
    max_abs_score_diff: float
    score_excess: float
    mean_abs_score_diff: float
    max_abs_map_diff: float | None
    margin: float | None
    flips: int | None
    blend_flips: int | None
    flips_upper95: float | None
    auroc_source: float | None
    auroc_artifact: float | None
    gate: Gate
    passed: bool
    mean_abs_map_diff: float | None = None


class Artifact(Record, frozen=True, kw_only=True):
    """One file set for one target at one precision. The first of ``files`` is the one to load.

    ``parity`` is what the export showed; ``replay`` is what the parity pack has to show on a device.
    ``flavour`` tells graphs of one precision apart: ``unsigned`` or ``signed`` activations of int8.
    ``float_layers`` names the layers that were kept in float at a lower precision.
    """

    target: Target
    precision: Precision
    files: tuple[str, ...]
    size_bytes: int
    opset: int
    parity: Parity
    replay: Gate
    flavour: Literal["unsigned", "signed"] | None = None
    float_layers: tuple[str, ...] = ()
    score_map: ScoreMap = ScoreMap()

    @property
    def name(self) -> str:
        """The artifact in one word, as in ``onnx-fp32``."""
        return f"{self.target}-{self.precision}"


class Calibration(Record, frozen=True, kw_only=True):
    """The pictures that ranges were measured and thresholds fitted on.

    ``fingerprint`` is one SHA-256 over the sorted hashes of all pictures that were used; ``ranges``, ``fit``,
    ``judge`` and ``training`` (what the host's density was fitted to) count them by use. ``excluded`` counts
    those left out, by reason. ``correlation`` tells how independent the judged pictures are where both sides
    show one scene: the largest correlation of a picture's details (noise, mostly) with any that something was
    fitted to, as the median over them. Separate exposures have less than 0.3, copies up to 1; None: no scene
    of 8 pictures or more is on both sides. ``cut`` counts near-duplicates in groups that were split because
    they were too large for one side.
    """

    fingerprint: str
    ranges: int
    fit: int
    judge: int
    training: int = 0
    excluded: dict[str, int] = msgspec.field(default_factory=dict)
    correlation: float | None = None
    cut: int = 0


class ParityPack(Record, frozen=True, kw_only=True):
    """Where the parity pack lies: an index file, with inputs and expected verdicts beside it."""

    index: str
    inputs: int


class Manifest(Record, frozen=True, kw_only=True):
    """Everything a device needs to know about a bundle."""

    schema: int
    contract: int
    release: int
    created: str
    tools: dict[str, str]
    model: Model
    host: str
    blocks: tuple[BlockSpec, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    preprocess: Preprocess
    front_end: FrontEndSpec
    decision: Decision
    artifacts: tuple[Artifact, ...]
    parity_pack: ParityPack
    files: tuple[FileEntry, ...]
    calibration: Calibration | None = None
    rounding: Rounding | None = None
    score: str | None = None
    """How the score follows from the map: ``map-max``, ``map-mean``, ``map-mean-filter:K`` (the largest mean
    over K x K pixels, zeros around the map); None where it does not, or is not known."""


_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_SCORE = re.compile(r"map-max\Z|map-mean\Z|map-mean-filter:[1-9][0-9]{0,3}\Z")


def encode_manifest(manifest: Manifest) -> bytes:
    """The canonical bytes of a manifest."""
    plain = msgspec.json.encode(manifest, order="sorted")
    return msgspec.json.format(plain, indent=2) + b"\n"


def decode_manifest(data: bytes) -> Manifest:
    """Read a manifest and check what types alone cannot.

    Raises:
        BundleError: Not JSON, another schema, unknown keys, unsafe paths, or references to unlisted files.
    """
    try:
        header = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{MANIFEST_NAME} is not JSON: {error}") from error
    schema = header.get("schema") if isinstance(header, dict) else None
    if schema != SCHEMA:
        raise BundleError(
            f"{MANIFEST_NAME} has schema {schema!r}, expected {SCHEMA}: "
            "the bundle was made for another version of sspcab-edge"
        )
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except msgspec.ValidationError as error:
        raise BundleError(f"{MANIFEST_NAME} is not a valid manifest: {error}") from error
    _check(manifest)
    return manifest


def _check(manifest: Manifest) -> None:
    """Raise BundleError where a manifest contradicts itself."""
    if manifest.contract != CONTRACT_VERSION:
        raise BundleError(
            f"{MANIFEST_NAME} has graph contract {manifest.contract}, expected {CONTRACT_VERSION}: "
            "the bundle was made for another version of sspcab-edge"
        )
    listed = [entry.path for entry in manifest.files]
    if len(set(listed)) != len(listed):
        raise BundleError(f"{MANIFEST_NAME} lists a file twice")
    for entry in manifest.files:
        parts = entry.path.split("/")
        if not all(parts) or any(part in (".", "..") for part in parts) or "\\" in entry.path:
            raise BundleError(f"{MANIFEST_NAME} lists the unsafe path {entry.path!r}")
        if entry.path == MANIFEST_NAME or "\0" in entry.path:
            raise BundleError(f"{MANIFEST_NAME} lists the unsafe path {entry.path!r}")
        if entry.size < 0 or not _SHA256.match(entry.sha256):
            raise BundleError(f"{MANIFEST_NAME} has no usable size and SHA-256 for {entry.path!r}")
    wanted = [manifest.parity_pack.index, *(file for a in manifest.artifacts for file in a.files)]
    wanted += front_end_files(manifest.front_end)
    for file in wanted:
        if file not in listed:
            raise BundleError(f"{MANIFEST_NAME} refers to {file!r}, which it does not list")
    names = [artifact.name for artifact in manifest.artifacts]
    if not names or len(set(names)) != len(names):
        raise BundleError(f"{MANIFEST_NAME} has artifacts {names}, expected one or more, each once")
    for artifact in manifest.artifacts:
        if not artifact.files:
            raise BundleError(f"{MANIFEST_NAME} has no files for artifact {artifact.name}")
        check_rising(artifact.score_map, f"the score map of {artifact.name}")
    _check_ports(manifest)
    size = manifest.preprocess
    if not (0 < size.width <= 8192 and 0 < size.height <= 8192):
        raise BundleError(f"{MANIFEST_NAME} asks for frames of {size.width}x{size.height} pixels")
    if manifest.score is not None and not _SCORE.match(manifest.score):
        raise BundleError(
            f"{MANIFEST_NAME} has the score {manifest.score!r}, expected map-max, map-mean or "
            "map-mean-filter:K"
        )
    check_front_end(manifest.front_end, size)


def _check_ports(manifest: Manifest) -> None:
    """Refuse a graph behind a front-end that does not make its inputs."""
    kind = manifest.front_end.kind
    names = {port.name for port in manifest.inputs}
    ranks = {len(port.shape) for port in manifest.inputs if port.name == "frames"}
    wanted = {"objects": "appearance"}.get(kind, "frames")
    if wanted not in names or (wanted == "frames" and ranks != {5 if kind == "clip" else 4}):
        raise BundleError(
            f"{MANIFEST_NAME} has a front-end of kind {kind} for a graph that takes "
            f"{', '.join(sorted(f'{port.name} {port.layout}' for port in manifest.inputs))}: they do not fit"
        )
