"""Recognising SSMCTB's attention, which scales channels by what attention between their means gives."""

from __future__ import annotations

import onnx_ir as ir

__all__ = ["channel_transformer_after"]

_FURTHEST = 80
"""Nodes that are looked at: the attention has some thirty."""

_MEANS = ("GlobalAveragePool", "ReduceMean")


def channel_transformer_after(value: ir.Value | None) -> bool:
    """Whether ``value`` is multiplied by the sigmoid of an attention on its own means."""
    if value is None:
        return False
    for use in value.uses():
        if use.node.op_type != "Mul" or use.node.domain != "":
            continue
        others = [given for given in use.node.inputs if given is not None and given is not value]
        if others and {"Sigmoid", "Softmax", "MatMul"} <= _operators_between(others[0], value):
            return True
    return False


def _operators_between(last: ir.Value, first: ir.Value) -> set[str]:
    """Operators that ``last`` is computed by, if all that is not constant comes from means of ``first``."""
    found: set[str] = set()
    waiting, seen = [last], {id(last)}
    while waiting:
        node = waiting.pop().producer()
        if node is None or len(seen) > _FURTHEST:
            continue
        found.add(node.op_type)
        if node.op_type in _MEANS and node.inputs[0] is first:
            continue
        for given in node.inputs:
            if given is first and node.op_type not in ("Shape",):
                return set()
            if given is not None and given is not first and id(given) not in seen:
                seen.add(id(given))
                waiting.append(given)
    return found
