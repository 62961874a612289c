"""TensorRT 10.3 to 11 on Jetson and GPU boxes: plans built from typed ONNX on the device, cached and run."""

from sspcab_runtime.engines.tensorrt.bundles import PreparedArtifact, prepare_bundle
from sspcab_runtime.engines.tensorrt.engine import TensorRtEngine
from sspcab_runtime.engines.tensorrt.importing import can_build, import_checker
from sspcab_runtime.engines.tensorrt.obtain import Prepared, prepare
from sspcab_runtime.engines.tensorrt.options import PlanOptions
from sspcab_runtime.engines.tensorrt.plan import BuiltPlan, build_plan, check_with

__all__ = [
    "BuiltPlan",
    "PlanOptions",
    "Prepared",
    "PreparedArtifact",
    "TensorRtEngine",
    "build_plan",
    "can_build",
    "check_with",
    "import_checker",
    "prepare",
    "prepare_bundle",
]
