"""What normal embeddings are like, fitted to some of them: a Gaussian or a kernel density. NumPy only.

The Gaussian gives the Mahalanobis distance of an embedding x, sqrt((x - m)^T P (x - m)) with mean m and
precision P (Rippel, Mertens, Merhof, ICPR 2020, arXiv 2005.14140). P is kept as its Cholesky factor W,
P = W W^T: the distance is then the norm of (x - m) W, which cannot be negative and loses no digits to a
difference of large numbers. There are often fewer pictures than dimensions, so the covariance is shrunk
towards a multiple of the identity (Ledoit and Wolf, Journal of Multivariate Analysis 88, 2004).

The kernel density is a mean of isotropic Gaussians of one width around the embeddings themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sspcab_edge.errors import HostError, OptionError

__all__ = [
    "BANDWIDTHS",
    "Gaussian",
    "Kernels",
    "check_bandwidth",
    "fit_gaussian",
    "fit_kernels",
    "gaussian_from",
    "inverse",
    "ledoit_wolf",
    "unit_length",
]

Array = npt.NDArray[np.float64]

BANDWIDTHS: Final = (1e-6, 1e6)
"""Least and largest bandwidth of a kernel density, in units of embeddings, whose length is 1."""

_EPSILON: Final = 1e-12
"""Least length divided by, as in ``torch.nn.functional.normalize``."""

_EQUAL: Final = 1e-6
"""Embeddings that differ by less, relative to the largest value, differ by float32 rounding only."""


@dataclass(frozen=True, slots=True, eq=False)
class Gaussian:
    """A multivariate normal distribution, ready for Mahalanobis distances.

    Attributes:
        mean: m, (D,) float64.
        factor: W, (D, D) float64 lower triangular; the precision is W W^T.
        shrinkage: The weight of the identity that Ledoit and Wolf's formula gave, in [0, 1]; None where the
            precision was given and not fitted.
    """

    mean: Array
    factor: Array
    shrinkage: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Kernels:
    """A Gaussian kernel density.

    Attributes:
        embeddings: Centres of the kernels, (N, D) float64.
        bandwidth: Standard deviation of each along every axis, in units of embeddings.
    """

    embeddings: Array
    bandwidth: float


def unit_length(embeddings: Array) -> Array:
    """(N, D) -> (N, D) float64, every row divided by its Euclidean length; rows of zeros stay zero."""
    lengths = np.sqrt((embeddings * embeddings).sum(axis=1, keepdims=True))
    return np.asarray(embeddings / np.maximum(lengths, _EPSILON), dtype=np.float64)


def ledoit_wolf(embeddings: Array) -> tuple[Array, float]:
    """The shrunk covariance (1 - s) S + s t I of Ledoit and Wolf 2004, section 3.

    S is the sample covariance (divided by N) of centred x_k and t the mean of its diagonal. In the paper's
    norm, |A|^2 = tr(A A^T) / D, the dispersion is d = |S - t I|^2, the error of S is
    b = sum over k of |x_k x_k^T - S|^2 / N^2, and s = min(b, d) / d.

    Args:
        embeddings: (N, D) float64.

    Returns:
        The covariance, (D, D) float64, and s in [0, 1].
    """
    count, dimensions = embeddings.shape
    centred = embeddings - embeddings.mean(axis=0)
    covariance = centred.T @ centred / count
    scale = float(np.trace(covariance)) / dimensions
    target = scale * np.eye(dimensions)
    dispersion = float(((covariance - target) ** 2).sum()) / dimensions
    fourth = float(((centred * centred).sum(axis=1) ** 2).sum())
    error = max(0.0, fourth / count - float((covariance * covariance).sum())) / (count * dimensions)
    shrinkage = min(error, dispersion) / dispersion if dispersion > 0 else 0.0
    return (1 - shrinkage) * covariance + shrinkage * target, shrinkage


def fit_gaussian(embeddings: Array) -> Gaussian:
    """The Gaussian with the embeddings' mean and their covariance as Ledoit and Wolf shrink it.

    Args:
        embeddings: (N, D) float64, N may be smaller than D.

    Raises:
        OptionError: Fewer than two embeddings, or too few to leave an inverse.
        HostError: Values are not finite, or all embeddings are equal.
    """
    _check(embeddings)
    covariance, shrinkage = ledoit_wolf(embeddings)
    precision = inverse(covariance)
    if precision is None:
        raise OptionError(
            f"{len(embeddings)} normal pictures leave the covariance of {embeddings.shape[1]} dimensions "
            "without an inverse: give more of them, and no copies"
        )
    return Gaussian(embeddings.mean(axis=0), _factor(precision), shrinkage)


def fit_kernels(embeddings: Array, bandwidth: float) -> Kernels:
    """A kernel density around the embeddings.

    Args:
        embeddings: (N, D) float64.
        bandwidth: In units of embeddings.

    Raises:
        OptionError: Fewer than two embeddings, or a bandwidth out of bounds.
        HostError: Values are not finite, or all embeddings are equal.
    """
    check_bandwidth(bandwidth)
    _check(embeddings)
    return Kernels(embeddings, float(bandwidth))


def check_bandwidth(bandwidth: float) -> None:
    """Refuse a bandwidth with which float32 cannot compute.

    Raises:
        OptionError: It is not within 1e-6 to 1e6.
    """
    least, most = BANDWIDTHS
    if not least <= bandwidth <= most:
        raise OptionError(f"the bandwidth is {bandwidth:g}, expected {least:g} to {most:g}")


def gaussian_from(mean: Array, precision: Array) -> Gaussian | None:
    """The Gaussian of a mean (D,) and a symmetric precision (D, D); None where that is not positive."""
    if not _is_positive(np.linalg.eigvalsh(precision)):
        return None
    return Gaussian(mean, _factor(precision))


def inverse(covariance: Array) -> Array | None:
    """The inverse (D, D) of a symmetric matrix (D, D); None where that is not positive definite."""
    values, vectors = np.linalg.eigh(covariance)
    if not _is_positive(values):
        return None
    precision = (vectors / values) @ vectors.T
    return np.asarray((precision + precision.T) / 2, dtype=np.float64)


def _factor(precision: Array) -> Array:
    return np.asarray(np.linalg.cholesky(precision), dtype=np.float64)


def _is_positive(values: npt.NDArray[np.floating]) -> bool:
    """Whether eigenvalues in rising order are positive, and not by rounding alone."""
    return bool(values[0] > values[-1] * len(values) * np.finfo(np.float64).eps)


def _check(embeddings: Array) -> None:
    count = len(embeddings)
    if count < 2:
        raise OptionError(f"{count} normal pictures given, expected 2 or more to fit a density to")
    if not np.isfinite(embeddings).all():
        raise HostError("the network gives embeddings that are no finite numbers: the training went wrong")
    if np.ptp(embeddings, axis=0).max() <= _EQUAL * np.abs(embeddings).max():
        raise HostError(
            f"all {count} embeddings are equal: the network collapsed in training and sees no difference"
        )
