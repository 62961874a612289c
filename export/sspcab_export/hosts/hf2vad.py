"""HF2-VAD (Liu et al., ICCV 2021): objects whose motion is not remembered, or whose next look surprises."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from sspcab_edge.errors import HostError, OptionError
from sspcab_edge.front_end_spec import Preprocess
from sspcab_edge.ports import Array, Entry, object_ports
from sspcab_export.block import check_map_size
from sspcab_export.checkpoints import Checkpoint
from sspcab_export.hosts.base import HostOptions, LoadedHost, VideoInputs
from sspcab_export.hosts.draem_loading import DEFAULT_DILATION, find_prefix, find_prefixes
from sspcab_export.hosts.hf2vad_network import HfVad, HfVadBuilder
from sspcab_export.hosts.torch_source import DetectorSource

__all__ = ["OPTIONS", "load", "networks", "recognise"]

OPTIONS = frozenset({"allow_no_block", "dialect", "dilation", "statistics", "weights"})
"""What HF2-VAD looks at."""

DEFAULT_WEIGHTS = (1.0, 0.1)
"""Of flow and frame errors, as in the only public configuration (ped2)."""

WINDOW = (-4, -3, -2, -1, 0)
PAIRS = ((-4, -3), (-3, -2), (-2, -1), (-1, 0))

_ANCHOR = "memAE.in_conv.conv.conv.0.weight"
_BLOCK = "vunet.decoder.sspcab"
_BATCH = 32
_LEAST_SPREAD = 1e-6
_ONLY_TRAINING = ("bottleneck.auto_blocks.", "bottleneck.param_converter.")

Statistics = tuple[float, float, float, float]


def recognise(checkpoint: Checkpoint) -> bool:
    """Whether the memory auto-encoder of flow is in the checkpoint."""
    return any(key == _ANCHOR or key.endswith("." + _ANCHOR) for key in checkpoint.tensors)


def networks(keys: Iterable[str]) -> tuple[list[str]]:
    """The prefixes of the host's weights."""
    return (find_prefixes(keys, _ANCHOR),)


def load(checkpoint: Checkpoint, options: HostOptions) -> LoadedHost:
    """Build both networks from keys and shapes. The host is ready where its statistics are given.

    The block may stand in the place of any convolution that keeps its channels, or before the last one, at
    ``vunet.decoder.sspcab``: the paper says "penultimate", and that of the public code does not keep them.

    Raises:
        HostError: The networks contradict themselves, or hold no block.
        OptionError: An option cannot be met.
    """
    tensors = checkpoint.tensors
    prefix = find_prefix(tensors, _ANCHOR) or ""
    dilation = DEFAULT_DILATION if options.dilation is None else options.dilation
    builder = HfVadBuilder(tensors, options.dialect, dilation)
    memory = builder.memory_auto_encoder(f"{prefix}memAE.")
    predictor = builder.predictor(f"{prefix}vunet.", f"{prefix}{_BLOCK}")
    where = checkpoint.parts[0].path
    if left := sorted(set(builder.blocks_found) - {spec.path for spec in builder.specs}):
        raise HostError(
            f"{where} has a block at {left[0]}, where HF2-VAD has no convolution: expected it in the place "
            f"of one, or at {prefix}{_BLOCK}"
        )
    unknown = [
        key for key in tensors if key not in builder.used and not any(part in key for part in _ONLY_TRAINING)
    ]
    if unknown:
        raise HostError(f"{where} holds {len(unknown)} weights that HF2-VAD has not, such as {unknown[0]}")
    if not builder.specs and not options.allow_no_block:
        raise HostError(
            f"{where} is an HF2-VAD without the SSPCAB block: export it all the same with --allow-no-block"
        )
    if not builder.size:
        raise HostError(f"{where} holds no memory: nothing tells how large its objects are")
    for spec in builder.specs:
        check_map_size(spec, *_map_size(spec.path, builder.size))
    weights = _weights(options)
    assumptions = [f"a memory address counts above 1 / {builder.slots}, as in the public configuration"]
    if not options.weights:
        assumptions.append(
            f"flow errors weigh {weights[0]:g} and frame errors {weights[1]:g}: --weights tells others"
        )
    if builder.specs and options.dilation is None:
        assumptions.append(f"dilation {DEFAULT_DILATION}, the paper's: no checkpoint stores it")
    inputs, _ = object_ports(builder.size, builder.size, WINDOW, PAIRS)
    network = HfVad(memory, predictor, weights=weights).eval()
    unfitted = LoadedHost(
        name="hf2-vad",
        source=DetectorSource(network, inputs, has_map=False, batch=_BATCH),
        blocks=tuple(builder.specs),
        preprocess=Preprocess(width=builder.size, height=builder.size, resize="opencv-linear"),
        map_size=None,
        threshold=None,
        overrides=_overrides(options),
        assumptions=tuple(assumptions),
        video=VideoInputs(inputs, 0.0),
    )
    if options.statistics:
        flow_mean, flow_std, frame_mean, frame_std = options.statistics
        return _ready(unfitted, network, (flow_mean, flow_std, frame_mean, frame_std), ())
    return replace(unfitted, fit=partial(_fit, unfitted, network))


def _fit(
    host: LoadedHost, network: HfVad, entries: Sequence[Entry], progress: Callable[[int], None]
) -> LoadedHost:
    """The host with the statistics of its errors on normal objects."""
    errors = []
    with torch.inference_mode():
        for start in range(0, len(entries), _BATCH):
            batch = entries[start : start + _BATCH]
            arrays: list[Array] = [
                np.stack([entry[name] for entry in batch]) for name in ("appearance", "flow")
            ]
            errors.append(torch.stack(network.errors(*map(torch.from_numpy, arrays))).double().numpy())
            progress(min(start + _BATCH, len(entries)))
    flow, frame = np.concatenate(errors, axis=1)
    statistics = (float(flow.mean()), float(flow.std()), float(frame.mean()), float(frame.std()))
    said = (
        f"statistics of {len(entries)} normal objects: flow errors {statistics[0]:.6g} +- "
        f"{statistics[1]:.6g}, frame errors {statistics[2]:.6g} +- {statistics[3]:.6g}"
    )
    return _ready(host, network, statistics, (said,))


def _ready(host: LoadedHost, network: HfVad, statistics: Statistics, said: tuple[str, ...]) -> LoadedHost:
    means, spreads = statistics[::2], statistics[1::2]
    if not np.isfinite(statistics).all():
        raise HostError(f"the errors on normal objects are {means} +- {spreads}: the training went wrong")
    for name, mean, spread in zip(("flow", "frame"), means, spreads, strict=True):
        if spread <= _LEAST_SPREAD * max(1.0, abs(mean)):
            raise HostError(
                f"the {name} errors of normal objects have the standard deviation {spread:g}: nothing tells "
                "how unusual an error is; give more objects that differ, or --statistics"
            )
    fitted = HfVad(network.memory, network.predictor, statistics, network.weights).eval()
    assert host.video is not None
    empty = -sum(
        weight * mean / spread for weight, mean, spread in zip(network.weights, means, spreads, strict=True)
    )
    return replace(
        host,
        source=DetectorSource(fitted, host.video.inputs, has_map=False, batch=_BATCH),
        assumptions=(*host.assumptions, *said),
        video=replace(host.video, empty_score=empty),
        fit=None,
    )


def _weights(options: HostOptions) -> tuple[float, float]:
    if not options.weights:
        return DEFAULT_WEIGHTS
    flow, frame = options.weights
    if not np.isfinite([flow, frame]).all() or min(flow, frame) < 0 or flow + frame == 0:
        raise OptionError(f"--weights is {flow:g},{frame:g}, expected two numbers from 0, one of them above")
    return flow, frame


def _map_size(path: str, size: int) -> tuple[int, int]:
    """Of the map that a block sees: by level of the memory auto-encoder, by stage of the other network."""
    parts = path.split(".")
    for part in parts:
        for head, first in (("down_", 0), ("up_", 1)):
            if part.startswith(head) and part[len(head) :].isdigit():
                side = size >> (int(part[len(head) :]) - first)
                return side, side
        stage = part.split("_")[0]
        if stage.startswith("s") and stage[1:].isdigit():
            side = size >> (int(stage[1:]) - 1)
            return side, side
    return (size, size) if "decoder" in parts or "in_conv" in parts else (size // 8, size // 8)


def _overrides(options: HostOptions) -> dict[str, str]:
    given = {
        "dialect": options.dialect,
        "dilation": None if options.dilation is None else str(options.dilation),
        "statistics": ",".join(f"{value:g}" for value in options.statistics) or None,
        "weights": ",".join(f"{value:g}" for value in options.weights) or None,
    }
    return {name: value for name, value in given.items() if value is not None}
