"""Hosts: the detectors around the block, each recognised by its keys. One file and one line here per host."""

from __future__ import annotations

import importlib
from types import ModuleType

from sspcab_edge.errors import HostError
from sspcab_export.checkpoints import Checkpoint
from sspcab_export.hosts.base import HostOptions, LoadedHost, refuse_unused

__all__ = ["HOSTS", "HostOptions", "LoadedHost", "load_host"]

HOSTS: dict[str, str] = {
    "anomalib-draem": "sspcab_export.hosts.anomalib_draem",
    "draem": "sspcab_export.hosts.draem",
    "hf2-vad": "sspcab_export.hosts.hf2vad",
    "background-agnostic": "sspcab_export.hosts.background_agnostic",
    "cutpaste": "sspcab_export.hosts.cutpaste",
}
"""Name in manifests -> module with ``recognise(checkpoint) -> bool``, ``load(checkpoint, options)`` and
``OPTIONS``, the names of those in :class:`HostOptions` that it looks at.

Asked in this order: a special layout stands before the general one that it resembles.
"""


def load_host(checkpoint: Checkpoint, options: HostOptions) -> LoadedHost:
    """The host that recognises the checkpoint, built and loaded.

    Raises:
        HostError: No host recognises it, it contradicts itself, or it holds no block.
        OptionError: An option cannot be met.
    """
    for name, module in HOSTS.items():
        host: ModuleType = importlib.import_module(module)
        if host.recognise(checkpoint):
            refuse_unused(options, host.OPTIONS, f"the host {name}")
            loaded: LoadedHost = host.load(checkpoint, options)
            return loaded
    keys = list(checkpoint.tensors)
    shown = ", ".join(keys[:3])
    raise HostError(
        f"{checkpoint.parts[0].path} is of no known host ({', '.join(HOSTS)}): "
        f"its {len(keys)} weights are named {shown}, ...; give the code of its network with --factory "
        "package.module:function, or the network as ONNX"
    )
