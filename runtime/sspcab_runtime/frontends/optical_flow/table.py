"""The table of ways to compute flow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sspcab_edge.front_end_spec import FlowSpec
from sspcab_runtime.frontends.optical_flow.dis import InverseSearch
from sspcab_runtime.frontends.optical_flow.fields import FlowMethod, Flows
from sspcab_runtime.frontends.optical_flow.network import FlowEngine

__all__ = ["FLOW_METHODS", "open_flows"]

FLOW_METHODS: dict[str, Callable[[FlowSpec, Path | None], FlowMethod]] = {
    "dis": InverseSearch,
    "network": FlowEngine,
}


def open_flows(spec: FlowSpec, folder: Path | None) -> Flows:
    """What a manifest asks for; ``folder`` is the bundle's, where a network lies.

    Raises:
        BundleError: There is a network, and no folder.
        MissingPackageError: No engine that could run it is installed.
        EngineError: Its file is refused.
    """
    kind = "dis" if spec.network is None else "network"
    return Flows(FLOW_METHODS[kind](spec, folder), (spec.width, spec.height))
