"""Densities against scikit-learn and their definitions, in NumPy and in the graph; hostile files."""

from __future__ import annotations

import functools
import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import LedoitWolf
from torch.nn import functional

from definitions.cutpaste_plain import kernel_score, mahalanobis
from definitions.graph_text import serialised
from definitions.running import RunGraph
from sspcab_edge.errors import CheckpointError, HostError, OptionError
from sspcab_export.density import fit_gaussian, fit_kernels, inverse, ledoit_wolf, unit_length
from sspcab_export.density_arrays import MAX_BYTES, read_density_arrays
from sspcab_export.graph import graph_from_torch
from sspcab_export.hosts.score_head import ScoreHead
from sspcab_export.passes import optimise

Floats = npt.NDArray[np.float64]


def embeddings(count: int, dimensions: int, seed: int = 0) -> Floats:
    """Unit vectors without negative numbers and with a few strong directions, as networks give them."""
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(6, dimensions))
    x = rng.normal(size=(count, 6)) @ directions + 0.3 * rng.normal(size=(count, dimensions)) + 2
    return unit_length(np.maximum(x, 0))


@pytest.mark.parametrize(("count", "dimensions"), [(3, 40), (60, 512), (400, 128), (900, 64), (50, 1)])
def test_ledoit_wolf_is_scikit_learns(count: int, dimensions: int) -> None:
    x = embeddings(count, dimensions) if dimensions > 1 else np.random.default_rng(0).normal(size=(count, 1))
    wanted = LedoitWolf().fit(x)
    covariance, shrinkage = ledoit_wolf(x)
    assert shrinkage == pytest.approx(wanted.shrinkage_, rel=1e-9, abs=1e-12)
    np.testing.assert_allclose(covariance, wanted.covariance_, rtol=1e-9, atol=1e-12 * covariance.max())
    fitted = fit_gaussian(x)
    precision = fitted.factor @ fitted.factor.T
    np.testing.assert_allclose(precision, wanted.precision_, rtol=0, atol=1e-8 * np.abs(precision).max())
    np.testing.assert_allclose(fitted.mean, wanted.location_, rtol=1e-12)
    assert fitted.shrinkage == shrinkage


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 12), st.integers(1, 9), st.integers(0, 10**6), st.floats(1e-3, 1e3))
def test_ledoit_wolf_is_its_definition(count: int, dimensions: int, seed: int, scale: float) -> None:
    """Section 3 of the paper, a loop over the observations."""
    x = scale * np.random.default_rng(seed).normal(size=(count, dimensions))
    centred = x - x.mean(axis=0)
    sample = sum(np.outer(k, k) for k in centred) / count
    target = np.trace(sample) / dimensions * np.eye(dimensions)
    distance = np.sum((sample - target) ** 2) / dimensions
    error = sum(np.sum((np.outer(k, k) - sample) ** 2) for k in centred) / dimensions / count**2
    covariance, shrinkage = ledoit_wolf(x)
    assert 0 <= shrinkage <= 1
    if dimensions > 1:
        assert shrinkage == pytest.approx(min(error, distance) / distance, rel=1e-6, abs=1e-9)
    wanted = (1 - shrinkage) * sample + shrinkage * target
    np.testing.assert_allclose(covariance, wanted, atol=1e-9 * np.trace(sample))


def test_the_inverse_of_what_is_not_positive_definite_is_none() -> None:
    matrix = np.cov(np.random.default_rng(0).normal(size=(5, 300)))
    inverted = inverse(matrix)
    assert inverted is not None
    np.testing.assert_allclose(inverted @ matrix, np.eye(5), atol=1e-10)
    assert inverse(np.ones((3, 3))) is None
    assert inverse(np.diag([1.0, -1.0])) is None
    assert inverse(np.zeros((2, 2))) is None


def test_vectors_of_unit_length_are_torchs() -> None:
    x = np.random.default_rng(0).normal(size=(5, 7)) * np.array([[1], [1e-3], [1e5], [0], [1e-14]])
    wanted = functional.normalize(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(unit_length(x), wanted, rtol=1e-12)


@functools.cache
def graph_of(kind: str, count: int) -> bytes:
    """The graph of a head for 512 dimensions; ``kind`` is ``mahalanobis``, with a map, or a bandwidth."""
    normal = embeddings(count, 512)
    if kind == "mahalanobis":
        head = ScoreHead(fit_gaussian(normal), fit_gaussian(embeddings(700, 512, seed=3)))
    else:
        head = ScoreHead(fit_kernels(normal, float(kind)), None)
    outputs = ("score", "map") if kind == "mahalanobis" else ("score",)
    model, _ = optimise(graph_from_torch(head, {"features": torch.zeros(1, 512, 3, 2)}, outputs))
    constants = [name for name, value in model.graph.initializers.items() if value.dtype == ir.DataType.FLOAT]
    assert {name.split(".")[0] for name in constants} <= {"density", "patches", "epsilon"}
    return serialised(model)


def features(count: int, dimensions: int) -> npt.NDArray[np.float32]:
    """(count, dimensions, 3, 2): like the normal embeddings, unlike them, and nothing at all."""
    maps = embeddings(count * 6, dimensions, seed=1).reshape(count, 3, 2, dimensions).transpose(0, 3, 1, 2)
    maps = maps * np.random.default_rng(2).uniform(0.1, 9, size=(count, 1, 1, 1))
    maps[-2] = np.roll(maps[-2], 7, axis=0)
    maps[-1] = 0
    return np.ascontiguousarray(maps, dtype=np.float32)


def pooled(maps: npt.NDArray[np.float32]) -> Floats:
    means = torch.from_numpy(maps).double().mean((2, 3))
    return functional.normalize(means, dim=1).numpy()


@pytest.mark.parametrize("count", [60, 400])
def test_mahalanobis_in_the_graph_is_scikit_learns(count: int, run_graph: RunGraph) -> None:
    maps = features(9, 512)
    score, anomaly = run_graph(graph_of("mahalanobis", count), {"features": maps})
    wanted = mahalanobis(embeddings(count, 512), pooled(maps))
    np.testing.assert_allclose(score, wanted, rtol=1e-4)
    assert wanted.max() > 1.2 * wanted.min()
    positions = functional.normalize(torch.from_numpy(maps).double(), dim=1).permute(0, 2, 3, 1)
    flat = mahalanobis(embeddings(700, 512, seed=3), positions.reshape(-1, 512).numpy())
    np.testing.assert_allclose(anomaly, flat.reshape(9, 3, 2), rtol=1e-4)


@pytest.mark.parametrize(("count", "bandwidth"), [(60, 1.0), (400, 1.0), (400, 0.05)])
def test_the_kernel_density_in_the_graph_is_scikit_learns(
    count: int, bandwidth: float, run_graph: RunGraph
) -> None:
    """To a relative 1e-4 and, what says more, to 1e-4 of what differs between pictures."""
    maps = features(9, 512)
    (score,) = run_graph(graph_of(str(bandwidth), count), {"features": maps})
    wanted = kernel_score(embeddings(count, 512), pooled(maps), bandwidth)
    np.testing.assert_allclose(score, wanted, rtol=1e-4)
    np.testing.assert_allclose(score, wanted, rtol=0, atol=1e-4 * (wanted.max() - wanted.min()))


def test_a_score_of_the_mean_itself_is_zero_and_no_nan() -> None:
    normal = embeddings(30, 16)
    head = ScoreHead(fit_gaussian(normal), None).eval()
    gaussian = head.density
    with torch.no_grad():
        assert float(gaussian(gaussian.get_buffer("mean"))) == 0.0
        assert bool(torch.isfinite(head(torch.zeros(2, 16, 3, 3))).all())


def test_far_from_every_centre_the_kernel_density_stays_finite() -> None:
    normal = embeddings(30, 16)
    head = ScoreHead(fit_kernels(normal, 1e-3), None).eval()
    far = torch.zeros(1, 16, 1, 1)
    far[0, 3] = 1
    wanted = kernel_score(normal, pooled(far.numpy()), 1e-3)
    with torch.no_grad():
        assert float(head(far)) == pytest.approx(float(wanted[0]), rel=1e-5)


def collapsed(count: int) -> Floats:
    one = embeddings(1, 8)
    return np.asarray(np.repeat(one, count, axis=0) * (1 + 1e-8 * np.arange(count)[:, None]))


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        (embeddings(1, 8), OptionError, "1 normal pictures given, expected 2 or more"),
        (embeddings(2, 8), OptionError, "2 normal pictures leave the covariance of 8 dimensions without"),
        (collapsed(7), HostError, "all 7 embeddings are equal: the network collapsed"),
        (np.zeros((4, 8)), HostError, "all 4 embeddings are equal"),
        (np.full((4, 8), np.nan), HostError, "no finite numbers"),
    ],
)
def test_what_no_density_can_be_fitted_to_is_refused(
    given: Floats, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        fit_gaussian(given)


@pytest.mark.parametrize("bandwidth", [0.0, -1.0, float("nan"), float("inf"), 1e-9])
def test_impossible_bandwidths_are_refused(bandwidth: float) -> None:
    with pytest.raises(OptionError, match="bandwidth"):
        fit_kernels(embeddings(5, 8), bandwidth)
    with pytest.raises(HostError, match="all 5 embeddings are equal"):
        fit_kernels(collapsed(5), 1.0)


# --- files of arrays ---------------------------------------------------------------------------------------


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_a_gaussian_is_read_from_precision_or_covariance(tmp_path: Path) -> None:
    fitted = fit_gaussian(embeddings(40, 12))
    precision = fitted.factor @ fitted.factor.T
    given = {
        "mean": fitted.mean,
        "precision": precision,
        "patch_mean": fitted.mean,
        "patch_precision": precision,
    }
    arrays = read_density_arrays(save(tmp_path / "a.npz", **given))
    for read in (arrays.gaussian, arrays.patches):
        assert read is not None
        np.testing.assert_allclose(read.factor, fitted.factor, rtol=1e-9)
        np.testing.assert_array_equal(read.mean, fitted.mean)
        assert read.shrinkage is None
    covariance = np.linalg.inv(precision).astype(np.float32)
    arrays = read_density_arrays(save(tmp_path / "b.npz", mean=fitted.mean, covariance=covariance))
    assert arrays.gaussian is not None
    np.testing.assert_allclose(arrays.gaussian.factor, fitted.factor, atol=1e-3 * fitted.factor.max())
    assert arrays.embeddings is None
    assert arrays.patches is None


def test_embeddings_are_read_with_their_bandwidth(tmp_path: Path) -> None:
    x = embeddings(5, 8).astype(np.float32)
    np.savez_compressed(tmp_path / "a.npz", embeddings=x, bandwidth=np.float32(0.5))
    arrays = read_density_arrays(tmp_path / "a.npz")
    assert arrays.bandwidth == 0.5
    assert arrays.embeddings is not None
    assert arrays.embeddings.dtype == np.float64
    np.testing.assert_array_equal(arrays.embeddings, x)
    assert read_density_arrays(save(tmp_path / "b.npz", embeddings=x)).bandwidth is None


EYE = np.eye(3)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({}, "holds nothing, expected"),
        ({"mean": np.zeros(3)}, "holds mean, expected mean and precision or covariance"),
        ({"precision": EYE}, "holds precision, expected embeddings or mean and"),
        ({"mean": np.zeros(3), "precision": EYE, "covariance": EYE}, "holds covariance, mean, precision"),
        ({"mean": np.zeros(3), "precision": EYE, "embeddings": EYE}, "expected embeddings or mean"),
        ({"mean": np.zeros(3), "precision": np.eye(4)}, r"precision has shape \(4, 4\), expected \(3, 3\)"),
        ({"mean": np.zeros((1, 3)), "precision": EYE}, r"mean has shape \(1, 3\), expected \(D,\)"),
        ({"mean": np.zeros(3), "precision": EYE + np.eye(3, k=1)}, r"precision of shape \(3, 3\) is not sym"),
        (
            {"mean": np.zeros(3), "precision": EYE - np.ones((3, 3))},
            r"shape \(3, 3\) is not positive definite",
        ),
        ({"mean": np.zeros(3), "covariance": np.ones((3, 3))}, r"covariance .*not positive definite"),
        ({"mean": np.zeros(3), "precision": EYE * np.nan}, r"precision of shape \(3, 3\) .*no finite"),
        ({"mean": np.full(3, 1e200), "precision": EYE}, r"mean of shape \(3,\) .*no finite float32"),
        ({"mean": np.zeros(3, complex), "precision": EYE}, "mean is complex128, expected numbers"),
        ({"mean": np.array(["a", "b", "c"]), "precision": EYE}, "mean is <U1, expected numbers"),
        ({"embeddings": np.zeros(3)}, r"embeddings has shape \(3,\), expected \(N, D\)"),
        ({"embeddings": np.ones((1, 3))}, r"embeddings has shape \(1, 3\)"),
        ({"embeddings": EYE, "bandwidth": -1.0}, "bandwidth is -1"),
        ({"embeddings": EYE, "bandwidth": np.ones(2)}, r"bandwidth has shape \(2,\), expected one"),
        ({"embeddings": EYE, "patch_mean": np.zeros(3)}, "expected patch_mean and patch_precision"),
        ({"embeddings": EYE, "threshold": 1.0}, "holds 'threshold', expected only bandwidth, covariance"),
    ],
)
def test_arrays_that_are_no_density_are_one_clear_line(
    tmp_path: Path, arrays: dict[str, Any], said: str
) -> None:
    with pytest.raises(CheckpointError, match=said) as caught:
        read_density_arrays(save(tmp_path / "arrays.npz", **arrays))
    assert "\n" not in str(caught.value)


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.marker),)


def test_pickled_objects_are_refused_and_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "it-ran"
    array = np.empty(1, dtype=object)
    array[0] = Evil(marker)
    np.savez(tmp_path / "evil.npz", embeddings=array)
    with pytest.raises(CheckpointError, match=r"no \.npz file of plain arrays"):
        read_density_arrays(tmp_path / "evil.npz")
    assert not marker.exists()


def npz(header: bytes, data: bytes, version: bytes = b"\x01\x00") -> bytes:
    """A .npz file with one array ``embeddings`` of any header."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        length = struct.pack("<H" if version[0] == 1 else "<I", len(header))
        archive.writestr("embeddings.npy", b"\x93NUMPY" + version + length + header + data)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04nonsense",
        b"\x93NUMPY\x01\x00",
        npz(b"{'descr': '<f8', 'fortran_order': False, 'shape': (100000000, 100000000), }\n", b"12345678"),
        npz(b"{'descr': '<f8', 'fortran_order': False, 'shape': (90000, 3), }\n", b"12345678"),
        npz(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n", b"\x80\x04N."),
        npz(b"__import__('os').getcwd()\n", b""),
        npz(b"", b""),
    ],
)
def test_damaged_and_lying_files_are_one_clear_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "bad.npz").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"bad\.npz") as caught:
        read_density_arrays(tmp_path / "bad.npz")
    assert "\n" not in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=80), st.sampled_from([b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"]))
def test_any_header_is_refused_cleanly(
    tmp_path_factory: pytest.TempPathFactory, header: bytes, version: bytes
) -> None:
    path = tmp_path_factory.mktemp("headers") / "bad.npz"
    path.write_bytes(npz(header, b"", version))
    with pytest.raises(CheckpointError):
        read_density_arrays(path)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.npz", tmp_path):
        with pytest.raises(CheckpointError, match="cannot read"):
            read_density_arrays(path)


def test_files_that_unpack_to_too_much_are_refused_before_they_do(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    piece = bytes(1024**2)
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("embeddings.npy", "w") as file,
    ):
        for _ in range(MAX_BYTES // len(piece) + 1):
            file.write(piece)
    assert path.stat().st_size < MAX_BYTES / 50
    with pytest.raises(CheckpointError, match="unpacks to"):
        read_density_arrays(path)
