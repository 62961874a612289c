"""The names of TensorRT that this package uses, all in one place.

They are checked against the real Python bindings of 10.3, 10.13, 10.16 and 11.4, without a GPU: a name that
one of them lacks would show on a device only, and there at the first frame. Variables in this package that
hold TensorRT objects have the names of :data:`OBJECTS`, so that a test can tell whether this is complete.
"""

from __future__ import annotations

__all__ = ["API", "OBJECTS", "OPTIONAL_NAMES"]

API: dict[str, tuple[str, ...]] = {
    "Builder": (
        "build_serialized_network",
        "create_builder_config",
        "create_network",
        "create_optimization_profile",
    ),
    "BuilderFlag": ("TF32",),
    "IBuilderConfig": (
        "add_optimization_profile",
        "builder_optimization_level",
        "clear_flag",
        "create_timing_cache",
        "get_timing_cache",
        "progress_monitor",
        "set_memory_pool_limit",
        "set_timing_cache",
    ),
    "ICudaEngine": (
        "create_execution_context",
        "get_tensor_dtype",
        "get_tensor_mode",
        "get_tensor_name",
        "get_tensor_profile_shape",
        "get_tensor_shape",
        "num_io_tensors",
    ),
    "IExecutionContext": (
        "execute_async_v3",
        "get_tensor_shape",
        "infer_shapes",
        "set_input_shape",
        "set_tensor_address",
    ),
    "ILogger": (),
    "INetworkDefinition": ("get_input", "get_output", "num_inputs", "num_outputs"),
    "IOptimizationProfile": ("get_shape", "set_shape"),
    "IProgressMonitor": (),
    "ITensor": ("dtype", "name", "shape"),
    "ITimingCache": ("serialize",),
    "MemoryPoolType": ("WORKSPACE",),
    "NetworkDefinitionCreationFlag": ("STRONGLY_TYPED",),
    "OnnxParser": ("get_error", "num_errors", "parse"),
    "ParserError": ("code", "desc", "node_name", "node_operator"),
    "Runtime": ("deserialize_cuda_engine",),
}
"""Class or enum -> members."""

OBJECTS: dict[str, str] = {
    "builder": "Builder",
    "config": "IBuilderConfig",
    "context": "IExecutionContext",
    "cuda_engine": "ICudaEngine",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "parser_error": "ParserError",
    "profile": "IOptimizationProfile",
    "runtime": "Runtime",
    "tensor": "ITensor",
    "tactics": "ITimingCache",
}
"""Variable -> the class of what it holds."""

OPTIONAL_NAMES: dict[str, str] = {
    "IProgressMonitor": "a build then takes its minutes silently",
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED": "11 knows no other networks, and may drop the flag",
}
"""Names looked up with getattr, with what their absence means; everything else has to exist."""
