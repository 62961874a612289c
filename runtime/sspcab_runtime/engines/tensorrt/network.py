"""From typed ONNX to a strongly typed network whose inputs and outputs are the ports asked for.

Precision is in the graph, as casts and Q/DQ, and never in a builder flag: TensorRT 10 and 11 then build the
same thing, and 11 builds nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sspcab_edge.errors import EngineError
from sspcab_edge.ports import Port
from sspcab_runtime.engines.tensorrt.messages import Messages, map_errors

__all__ = ["DTYPES", "dtype_name", "make_network"]

DTYPES = {
    "BOOL": "bool",
    "FLOAT": "float32",
    "HALF": "float16",
    "INT32": "int32",
    "INT64": "int64",
    "INT8": "int8",
    "UINT8": "uint8",
}
"""TensorRT's name of a type -> NumPy's."""

_UNSUPPORTED = ("UNSUPPORTED_NODE", "UNSUPPORTED_NODE_ATTR", "UNSUPPORTED_NODE_INPUT")


def make_network(
    trt: Any,
    builder: Any,
    logger: Any,
    record: Messages,
    onnx: bytes,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    what: str,
) -> tuple[Any, Any]:
    """Parse ``onnx`` and check its ports; ``what`` begins every error text, as in ``cannot load FILE``.

    Gives the network and its parser, which has to live as long: the network's weights are the parser's.

    Raises:
        EngineError: It is no ONNX, TensorRT lacks an operator, or the ports are others.
    """
    with map_errors(what):
        network = builder.create_network(_strongly_typed(trt))
        parser = trt.OnnxParser(network, logger)
        if not parser.parse(onnx):
            reasons = [_reason(parser.get_error(index)) for index in range(parser.num_errors)]
            raise EngineError(f"tensorrt {what}: {'; '.join(reasons) or record.last_errors()}")
        have = [network.get_input(index) for index in range(network.num_inputs)]
        give = [network.get_output(index) for index in range(network.num_outputs)]
        _check("input", inputs, have, what)
        _check("output", outputs or [_as_port(tensor) for tensor in give], give, what)
    return network, parser


def _strongly_typed(trt: Any) -> int:
    """The creation flags. The enum was renumbered in 11, so it is asked by name."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _reason(parser_error: Any) -> str:
    """One of the parser's errors: node, operator, reason."""
    node, operator = parser_error.node_name(), parser_error.node_operator()
    code = parser_error.code().name
    reason = " ".join(parser_error.desc().split())
    if code in _UNSUPPORTED:
        reason = "TensorRT has no such operator" if reason in ("", "false") else f"not supported: {reason}"
    if not operator:
        return f"{reason} ({code})"
    return f"node {node!r} ({operator}): {reason}"


def _check(kind: str, ports: Sequence[Port], tensors: Sequence[Any], what: str) -> None:
    """Raise EngineError unless a network's ends are ``ports``, in any order."""
    by_name = {tensor.name: tensor for tensor in tensors}
    wanted = [port.name for port in ports]
    if sorted(by_name) != sorted(wanted):
        raise EngineError(f"tensorrt {what}: it has {kind}s {sorted(by_name)}, expected {wanted}")
    for port in ports:
        tensor = by_name[port.name]
        dtype = dtype_name(tensor.dtype)
        if dtype != port.dtype:
            raise EngineError(f"tensorrt {what}: {kind} {port.name} is {dtype}, expected {port.dtype}")
        shape = tuple(tensor.shape)
        if len(shape) != len(port.shape) or any(
            got not in (-1, want) for want, got in zip(port.shape, shape, strict=True)
        ):
            raise EngineError(f"tensorrt {what}: {kind} {port.name} has shape {shape}, expected {port.shape}")


def _as_port(tensor: Any) -> Port:
    shape = tuple("N" if size < 0 else int(size) for size in tensor.shape)
    return Port(name=tensor.name, dtype=dtype_name(tensor.dtype), shape=shape, layout="")


def dtype_name(dtype: Any) -> str:
    """NumPy's name of a TensorRT type, or TensorRT's own in lower case where NumPy has none."""
    return DTYPES.get(dtype.name, str(dtype.name).lower())
