"""Hosts: the detectors around the block, each recognised by its keys. One file and one line here per host."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType

from sspcab_edge.errors import OptionError
from sspcab_export.checkpoints import Checkpoint, Part
from sspcab_export.checkpoints.match import choose, lies, places, shown
from sspcab_export.hosts.base import HostOptions, LoadedHost, refuse_unused
from sspcab_export.needs import MissingOptions, code_needs

__all__ = ["HOSTS", "HostOptions", "LoadedHost", "load_host"]

HOSTS: dict[str, str] = {
    "anomalib-draem": "sspcab_export.hosts.anomalib_draem",
    "draem": "sspcab_export.hosts.draem",
    "hf2-vad": "sspcab_export.hosts.hf2vad",
    "background-agnostic": "sspcab_export.hosts.background_agnostic",
    "cutpaste": "sspcab_export.hosts.cutpaste",
}
"""Name in manifests -> module with ``recognise(checkpoint) -> bool``, ``networks(tensors)``, the prefixes
under which each of its networks lies, ``load(checkpoint, options)``, and ``OPTIONS``, the names of those in
:class:`HostOptions` that it looks at.

Asked in this order: a special layout stands before the general one that it resembles.
"""


def load_host(checkpoint: Checkpoint, options: HostOptions) -> LoadedHost:
    """The host that recognises the checkpoint, built and loaded.

    Raises:
        HostError: It contradicts itself, or holds no block.
        MissingOptions: No host recognises it: its code is needed.
        OptionError: An option cannot be met.
    """
    for name, module in HOSTS.items():
        host: ModuleType = importlib.import_module(module)
        if host.recognise(checkpoint):
            refuse_unused(options, host.OPTIONS | {"weights_key"}, f"the host {name}")
            chosen, notes = _choose(checkpoint, host, options.weights_key)
            loaded: LoadedHost = host.load(chosen, options)
            told = {"weights-key": ", ".join(options.weights_key)} if options.weights_key else {}
            return replace(
                loaded, assumptions=(*notes, *loaded.assumptions), overrides={**loaded.overrides, **told}
            )
    raise MissingOptions(_unknown(checkpoint), code_needs(options))


def _unknown(checkpoint: Checkpoint) -> str:
    """What a checkpoint of no known host is, and what else could be done."""
    path, keys = checkpoint.parts[0].path, list(checkpoint.tensors)
    hosts = f"of no known host ({', '.join(HOSTS)})"
    modules = [of for part in checkpoint.parts for of in part.modules.values()]
    if not modules:
        return (
            f"{path} is {hosts}: its {len(keys)} weights are named {', '.join(keys[:3])}, ..., and weights "
            "hold no code. Give the network as ONNX, or its code"
        )
    said = (
        f"{path} holds a whole pickled module, {shown(modules)}, of {len(keys)} weights, and is {hosts}: its "
        "weights are read, its code is not run"
    )
    if len(checkpoint.parts) > 1 or modules[0].startswith("__main__."):
        return f"{said}. Give the network as ONNX, or its code"
    return (
        f"{said}. If you know where the file comes from and {modules[0].rpartition('.')[0]} can be imported "
        f"here, vouch for it, --trust sha256:{checkpoint.source[0].sha256}, or give the code"
    )


def _choose(
    checkpoint: Checkpoint, host: ModuleType, asked: Sequence[str]
) -> tuple[Checkpoint, tuple[str, ...]]:
    """The checkpoint with one copy of each network of a host, and what was left out, in words."""
    networks = [host.networks(part.tensors) for part in checkpoint.parts]
    there = [
        place
        for part, found in zip(checkpoint.parts, networks, strict=True)
        for place in places(part.names, found, part.tensors)
    ]
    if wrong := [key for key in asked if not any(lies(place, [key]) for place in there)]:
        raise OptionError(
            f"--weights-key is {wrong[0]}, but the weights in {checkpoint.parts[0].path} lie at "
            f"{', '.join(dict.fromkeys(there))}"
        )
    parts: list[Part] = []
    notes: list[str] = []
    for part, found in zip(checkpoint.parts, networks, strict=True):
        tensors, said = choose(part.tensors, part.names, found, asked, str(part.path))
        parts.append(replace(part, tensors=tensors))
        notes += said
        if part.set_aside:
            notes.append(f"no output depends on {shown(part.set_aside)}: left out")
    return replace(checkpoint, parts=tuple(parts)), tuple(notes)
