"""Dense optical flow between the frames of one camera."""

from sspcab_runtime.frontends.optical_flow.fields import FlowField, Flows
from sspcab_runtime.frontends.optical_flow.table import open_flows

__all__ = ["FlowField", "Flows", "open_flows"]
