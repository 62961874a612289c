"""The rewrites that a graph goes through, in order: one file each, and one line each in ``PASSES``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Final

import onnx_ir as ir

from sspcab_edge.block import BlockSpec
from sspcab_edge.errors import GraphError, OptionError
from sspcab_export.passes._report import Report
from sspcab_export.passes.cast_inputs_first import cast_inputs_first
from sspcab_export.passes.fold_batch_norm import fold_batch_norm
from sspcab_export.passes.fold_constants import fold_constants
from sspcab_export.passes.fold_sspcab import fold_sspcab
from sspcab_export.passes.inline_functions import inline_functions
from sspcab_export.passes.remove_unused import remove_unused
from sspcab_export.passes.share_weights import share_weights
from sspcab_export.passes.split_mean_filter import split_mean_filter
from sspcab_export.passes.squeeze_excitation import squeeze_excitation

__all__ = ["PASSES", "Report", "optimise"]

_log = logging.getLogger(__name__)

PASSES: Final[dict[str, Callable[[ir.Model], Report]]] = {
    "inline_functions": inline_functions,
    "cast_inputs_first": cast_inputs_first,
    "fold_constants": fold_constants,
    "squeeze_excitation": squeeze_excitation,
    "fold_sspcab": fold_sspcab,
    "fold_batch_norm": fold_batch_norm,
    "split_mean_filter": split_mean_filter,
    "remove_unused": remove_unused,
    "share_weights": share_weights,
}


def optimise(model: ir.Model, *, skip: Collection[str] = ()) -> tuple[ir.Model, tuple[BlockSpec, ...]]:
    """Rewrite a graph into the equal one that engines run fastest.

    Args:
        model: Any inference graph, opset 11 to 20. It is not changed; its weights are shared with the result.
        skip: Names in :data:`PASSES` to leave out, as a benchmark of the reference form does.

    Returns:
        The new graph, and the blocks that were recognised in it, each with the form it now has.

    Raises:
        GraphError: The graph is not valid, or not an inference graph.
        OptionError: ``skip`` names a pass that does not exist.
    """
    if unknown := sorted(set(skip) - set(PASSES)):
        raise OptionError(f"unknown pass {unknown[0]!r}: expected one of {', '.join(PASSES)}")
    model = model.clone()
    blocks: tuple[BlockSpec, ...] = ()
    for name, run in PASSES.items():
        if name in skip:
            continue
        try:
            report = run(model)
        except ir.passes.PassError as error:
            reason = str(error.__cause__ or error).strip().partition("\n")[0]
            raise GraphError(f"pass {name} failed on this graph: {reason}") from error
        _log.debug("pass %s: %d changes, %d blocks", name, report.changes, len(report.blocks))
        blocks += report.blocks
    return model, blocks
