"""The block straight from its definition, in NumPy float64, one tap of one corner at a time.

Shares nothing with the product: no padding, no slices, no convolution. Output pixel (y, x) of corner
(up, left) adds, for every tap (i, j) of its ``k x k`` sub-kernel, the weight times the input pixel that lies
there; around the unseen centre the corners begin ``d + 1`` pixels away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

# (above?, left of?) the centre, for convolution 1, 2, 3, 4 of each dialect
CORNERS = {
    "official": ((True, True), (False, True), (True, False), (False, False)),
    "anomalib": ((True, True), (True, False), (False, True), (False, False)),
    "tensorflow": ((True, True), (False, True), (True, False), (False, False)),
    "ssmctb": ((True, True), (False, True), (True, False), (False, False)),
}


def sspcab(
    x: npt.NDArray[np.floating],
    weights: Sequence[npt.NDArray[np.floating]],
    biases: Sequence[npt.NDArray[np.floating]],
    gate: Sequence[npt.NDArray[np.floating]] | Mapping[str, npt.NDArray[np.floating]],
    *,
    dialect: str,
    dilation: int,
) -> Array:
    """(N, C, H, W) -> (N, C, H, W) float64.

    ``weights`` are four (C, C, k, k), ``biases`` four (C,), ``gate`` is fc1 weight (C // r, C) and bias, fc2
    weight (C, C // r) and bias; for ``ssmctb`` it is the attention's arrays by their published names.
    """
    data = np.asarray(x, dtype=np.float64)
    kernel = weights[0].shape[2]
    total = np.zeros_like(data)
    for (above, left), weight, bias in zip(CORNERS[dialect], weights, biases, strict=True):
        branch = np.zeros_like(data)
        for i in range(kernel):
            for j in range(kernel):
                dy = i - kernel - dilation if above else dilation + 1 + i
                dx = j - kernel - dilation if left else dilation + 1 + j
                seen = look(data, dy, dx, reflect=dialect == "tensorflow")
                branch += np.einsum("oc,nchw->nohw", np.asarray(weight[:, :, i, j], np.float64), seen)
        branch += np.asarray(bias, np.float64)[:, None, None]
        total += np.maximum(branch, 0) if dialect == "tensorflow" else branch
    if dialect in ("official", "ssmctb"):
        total = np.maximum(total, 0)
    if isinstance(gate, Mapping):
        own = {name: np.asarray(array, np.float64) for name, array in gate.items()}
        gates = np.stack([channel_gate(own, means) for means in total.mean(axis=(2, 3))])
        return np.asarray(total * gates[:, :, None, None])
    w1, b1, w2, b2 = (np.asarray(array, np.float64) for array in gate)
    hidden = np.maximum(total.mean(axis=(2, 3)) @ w1.T + b1, 0)
    scale = 1 / (1 + np.exp(-(hidden @ w2.T + b2)))
    return np.asarray(total * scale[:, :, None, None])


def look(data: Array, dy: int, dx: int, *, reflect: bool) -> Array:
    """For every pixel the one (dy, dx) away; outside the map zero, or mirrored at the edge pixel."""
    rows, columns = np.arange(data.shape[2]) + dy, np.arange(data.shape[3]) + dx
    if reflect:
        rows, columns = mirror(rows, data.shape[2]), mirror(columns, data.shape[3])
    inside = np.outer((rows >= 0) & (rows < data.shape[2]), (columns >= 0) & (columns < data.shape[3]))
    rows, columns = rows.clip(0, data.shape[2] - 1), columns.clip(0, data.shape[3] - 1)
    return np.asarray(data[:, :, rows][:, :, :, columns] * inside)


def mirror(index: npt.NDArray[np.int_], size: int) -> npt.NDArray[np.int_]:
    """Indices of a mirrored axis: ... 2 1 | 0 1 2 ... size-1 | size-2 ..."""
    index = np.abs(index)
    return np.where(index >= size, 2 * (size - 1) - index, index)


def channel_gate(weights: Mapping[str, Array], means: Array) -> Array:
    """SSMCTB's gate from the channels' means (C,): one attention of five heads between channels, in NumPy."""
    tokens = means[:, None] @ weights["transformer.projection.weight"].T
    tokens = tokens + weights["transformer.projection.bias"] + weights["transformer.pos_embedding"][0]
    queries, keys, values = np.split(tokens @ weights["transformer.mha.to_qkv.weight"].T, 3, axis=1)
    heads = []
    for head in range(5):
        columns = slice(64 * head, 64 * (head + 1))
        scores = queries[:, columns] @ keys[:, columns].T / 8
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        heads.append(scores / scores.sum(axis=1, keepdims=True) @ values[:, columns])
    mixed = np.concatenate(heads, axis=1) @ weights["transformer.mha.to_out.0.weight"].T
    mixed = mixed + weights["transformer.mha.to_out.0.bias"]
    return np.asarray(1 / (1 + np.exp(-mixed.mean(axis=1))))
