"""Pickles of densities as public CutPaste code writes them, read as data; hostile files."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import KernelDensity

from sspcab_edge.errors import CheckpointError
from sspcab_export.density_arrays import MAX_BYTES, read_density_arrays

EMBEDDINGS = np.abs(np.random.default_rng(0).normal(size=(30, 8))).astype(np.float32)


def dump(path: Path, value: object, protocol: int = 3) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_embeddings_and_threshold_are_read_at_every_protocol(tmp_path: Path, protocol: int) -> None:
    held = {"train_embed": EMBEDDINGS, "threshold": np.float32(55.25)}
    arrays = read_density_arrays(dump(tmp_path / "dict_train_embed.pkl", held, protocol))
    assert arrays.embeddings is not None
    np.testing.assert_array_equal(arrays.embeddings, EMBEDDINGS)
    assert (arrays.threshold, arrays.gaussian, arrays.bandwidth) == (55.25, None, None)


def test_a_mean_and_an_inverse_covariance_are_a_gaussian(tmp_path: Path) -> None:
    fitted = LedoitWolf().fit(EMBEDDINGS)
    held = {name: value.astype(np.float32) for name, value in (
        ("mean", fitted.location_), ("inv_cov", fitted.precision_))}  # fmt: skip
    arrays = read_density_arrays(dump(tmp_path / "params.crf", held, 4))
    assert arrays.gaussian is not None
    factor = arrays.gaussian.factor
    np.testing.assert_allclose(
        factor @ factor.T, fitted.precision_, rtol=0, atol=1e-5 * held["inv_cov"].max()
    )
    np.testing.assert_array_equal(arrays.gaussian.mean, held["mean"])
    assert arrays.threshold is None


def test_a_kernel_density_of_scikit_learns_is_named_with_what_makes_it_readable(tmp_path: Path) -> None:
    kde = KernelDensity(kernel="gaussian", bandwidth=1).fit(EMBEDDINGS)
    with pytest.raises(CheckpointError, match=r"pickled sklearn.*KernelDensity.*numpy\.savez.*--density kde"):
        read_density_arrays(dump(tmp_path / "kde.crf", kde))
    np.savez(tmp_path / "density.npz", embeddings=kde.tree_.data, bandwidth=kde.bandwidth)  # as it says
    arrays = read_density_arrays(tmp_path / "density.npz")
    assert (arrays.embeddings is not None, arrays.bandwidth) == (True, 1.0)
    np.testing.assert_array_equal(np.float32(arrays.embeddings), EMBEDDINGS)


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("inside", [False, True])
def test_a_pickle_that_asks_to_run_something_is_refused_and_does_not(tmp_path: Path, inside: bool) -> None:
    evil = Evil(tmp_path / "it-ran")
    path = dump(tmp_path / "params.crf", {"mean": evil} if inside else evil)
    with pytest.raises(CheckpointError, match=r"asks to run \w+\.mkdir: refused") as caught:
        read_density_arrays(path)
    assert not evil.marker.exists()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (LedoitWolf(), r"pickled sklearn\.covariance.*LedoitWolf, which is not read"),
        (EMBEDDINGS, "is a pickled Array, expected a dict with embeddings"),
        ([EMBEDDINGS], "is a pickled list, expected a dict with embeddings"),
        ({}, "holds nothing, expected embeddings or mean and precision"),
        ({"threshold": 3.0}, "holds nothing, expected embeddings or mean and precision"),
        ({"train_embed": EMBEDDINGS, "labels": EMBEDDINGS}, "holds 'labels', expected only"),
        ({"embeddings": EMBEDDINGS, "train_embed": EMBEDDINGS}, "embeddings twice, also as 'train_embed'"),
        ({"train_embed": EMBEDDINGS, "threshold": "high"}, "threshold is a str, expected numbers"),
        ({"train_embed": EMBEDDINGS, "threshold": np.ones(2)}, r"threshold has shape \(2,\), expected one"),
        ({"train_embed": np.array([None, 1])}, "train_embed is a Array, expected numbers"),
        ({"train_embed": EMBEDDINGS * np.inf}, r"embeddings of shape \(30, 8\) holds values that are no fin"),
        ({"mean": np.zeros(8)}, "expected mean and precision"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_pickles_that_are_no_density_are_one_clear_line(tmp_path: Path, held: object, said: str) -> None:
    with pytest.raises(CheckpointError, match=said) as caught:
        read_density_arrays(dump(tmp_path / "density.pkl", held))
    assert "density.pkl" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pickle_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.pkl"
    with path.open("wb") as file:
        file.write(b"\x80\x03")
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(CheckpointError, match="expected at most"):
        read_density_arrays(path)


WHOLE = pickle.dumps({"train_embed": EMBEDDINGS[:3], "threshold": np.float32(2)}, 3)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_pickles_are_refused_cleanly_or_still_a_density(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    raw = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "density.pkl"
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        arrays = read_density_arrays(path)
    except CheckpointError:
        return
    assert arrays.embeddings is None or np.isfinite(arrays.embeddings).all()
