"""What ``paddle.save`` writes, made with pickle and NumPy as Paddle makes it; Paddle itself is not needed."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sspcab_edge.errors import CheckpointError
from sspcab_export.checkpoints import checkpoint_files, read_checkpoint

NAMES = "StructuredToParameterName@@"


def weights() -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    generator = np.random.default_rng(0)
    return {
        "resnet18.conv1.weight": generator.normal(size=(8, 3, 7, 7)).astype(np.float32),
        "resnet18.bn1._mean": generator.normal(size=8).astype(np.float32),
        "head.0.weight": np.asfortranarray(generator.normal(size=(8, 4)).astype(np.float32)),
    }


class Named:
    """Pickles as a tensor does when Paddle keeps its name: ``tuple((name, array))``."""

    def __init__(self, name: str, array: Any) -> None:
        self.call = (name, array)

    def __reduce__(self) -> Any:
        return tuple, (self.call,)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("form", ["plain", "with-names", "tensors"])
def test_weights_are_read_in_every_form(tmp_path: Path, form: str, protocol: int) -> None:
    state: dict[str, Any] = dict(weights())
    if form == "with-names":
        state[NAMES] = {key: f"parameter_{number}" for number, key in enumerate(state)}
    elif form == "tensors":
        state = {key: Named(f"parameter_{key}", array) for key, array in state.items()}
    path = tmp_path / "model.pdparams"
    path.write_bytes(pickle.dumps(state, protocol))
    tensors = read_checkpoint([path]).tensors
    assert set(tensors) == set(weights())
    for key, array in weights().items():
        np.testing.assert_array_equal(tensors[key].numpy(), array)


def test_a_weight_that_was_cut_into_slices_is_put_together(tmp_path: Path) -> None:
    state: dict[str, Any] = weights()
    flat = state.pop("resnet18.conv1.weight").ravel()
    for number in range(3):
        state[f"resnet18.conv1.weight@@.{number}"] = flat[number * 500 : (number + 1) * 500]
    names = [f"resnet18.conv1.weight@@.{number}" for number in range(3)]
    described = {"OriginShape": (8, 3, 7, 7), "slices": names}
    state["UnpackBigParamInfor@@"] = {"resnet18.conv1.weight": described}
    path = tmp_path / "model.pdparams"
    path.write_bytes(pickle.dumps(state, 2))
    got = read_checkpoint([path]).tensors["resnet18.conv1.weight"]
    np.testing.assert_array_equal(got.numpy(), weights()["resnet18.conv1.weight"])
    del state[names[1]]
    path.write_bytes(pickle.dumps(state, 2))
    with pytest.raises(CheckpointError, match="slices that are not all there"):
        read_checkpoint([path])


def test_arrays_of_uint16_are_bfloat16(tmp_path: Path) -> None:
    values = torch.tensor([1.5, -2.0, 0.0078125], dtype=torch.bfloat16)
    path = tmp_path / "half.pdparams"
    path.write_bytes(pickle.dumps({"w": values.view(torch.uint16).numpy()}, 4))
    got = read_checkpoint([path]).tensors["w"]
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, values)


def test_upper_case_names_are_found_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "FINAL.PDPARAMS").write_bytes(pickle.dumps(weights(), 4))
    (tmp_path / "FINAL.PDOPT").write_bytes(pickle.dumps({"LR_Scheduler": {"last_lr": 0.1}}, 4))
    (path,) = checkpoint_files([tmp_path])
    assert set(read_checkpoint([path]).tensors) == set(weights())


def test_the_state_of_an_optimiser_is_no_network(tmp_path: Path) -> None:
    path = tmp_path / "final.pdopt"
    path.write_bytes(pickle.dumps({"LR_Scheduler": {"last_lr": 0.1}, "w_moment1_0": np.zeros(3)}, 4))
    with pytest.raises(CheckpointError, match=r"state of an optimiser.*\.pdparams"):
        read_checkpoint([path])


@pytest.mark.parametrize("byte_order", ["<", ">"])
@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "i8", "u1", "b1", "c8"])
def test_dtypes_and_byte_orders(tmp_path: Path, kind: str, byte_order: str) -> None:
    array = np.array([[0, 1, 1], [1, 0, 1]]).astype(f"{byte_order}{kind}")
    path = tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps({"w": array, "n": np.float64(2.5)}, 4))
    got = read_checkpoint([path])
    np.testing.assert_array_equal(got.tensors["w"].numpy(), array)
    assert got.facts["n"] == 2.5


@pytest.mark.parametrize("shape", [(5,), (-1, 6), (2**62, 4), ("a",), 6])
def test_arrays_whose_bytes_are_not_those_of_their_shape(tmp_path: Path, shape: Any) -> None:
    class Lies:
        def __reduce__(self) -> Any:
            reduced: Any = np.zeros(6, np.float32).__reduce__()
            return reduced[0], reduced[1], (reduced[2][0], shape, *reduced[2][2:])

    path = tmp_path / "w.pdparams"
    path.write_bytes(pickle.dumps({"w": Lies()}, 2))
    with pytest.raises(CheckpointError, match=r"w\.pdparams cannot be read.*array") as caught:
        read_checkpoint([path])
    assert "\n" not in str(caught.value)
