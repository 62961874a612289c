"""Errors planted in the graph of a model, each of which the default gate has to refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import onnx_ir as ir
import pytest
import torch

from definitions.draem_plain import Discriminative, OfficialBlock, Reconstructive, fit_norms, read_rgb
from definitions.planted import Bench, Plant, bench, change, convolutions, folded, largest_by, trunk
from definitions.unrepeatable_nets import Repaints, seeded
from sspcab_edge.manifest import Model
from sspcab_edge.parity import shortfalls
from sspcab_export.checkpoints import checkpoint_files
from sspcab_export.gates import MEAN_ROUNDING_MULTIPLE, ROUNDING_MULTIPLE
from sspcab_export.hosts import HostOptions
from sspcab_export.hosts.network import load_network
from sspcab_export.networks.factory import FactoryNetwork
from sspcab_export.reading import read_model

SIZE = (64, 64)


@pytest.fixture(scope="module")
def benches(scene: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bench]:
    """DRAEM with a block at its bottleneck, and a network of a user's own code that repaints its image."""
    root = tmp_path_factory.mktemp("planted")
    reconstructive, discriminative = Reconstructive(8), Discriminative(4)
    reconstructive.encoder["block5"] = OfficialBlock(64)
    paths = sorted(scene.calibration.glob("*.png"))
    images = np.stack([cv2.resize(read_rgb(path)[..., ::-1], SIZE) for path in paths[:8]])
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).astype(np.float32) / 255)
    fit_norms(reconstructive, discriminative, x, 3)
    torch.save(reconstructive.state_dict(), root / "run.pckl")
    torch.save(discriminative.state_dict(), root / "run_seg.pckl")
    loaded, model = read_model(checkpoint_files([root / "run.pckl"]), HostOptions(input_size=SIZE), None)
    own = FactoryNetwork(seeded(Repaints(), gain=3.0), "user:make")
    told = HostOptions(input_size=SIZE, score="error")
    nobody = Model(name="own", source=(), digest="")
    for name in ("draem", "own"):
        (root / name).mkdir()
    return {
        "draem": bench(loaded, model, scene.calibration, root / "draem"),
        "own": bench(load_network(own, told, name="network"), nobody, scene.calibration, root / "own"),
    }


def weight_off(share: float, by: float = 0.01) -> Callable[[ir.Model], None]:
    """The largest weight of the convolution at ``share`` of the way through the graph, off by a share."""

    def plant(model: ir.Model) -> None:
        layers = trunk(model)
        change(layers[round(share * (len(layers) - 1))], 1, largest_by(by))

    return plant


def exchanged(model: ir.Model) -> None:
    """Red and blue."""
    change(convolutions(model)[0], 1, lambda weights: weights[:, ::-1])


def corners(model: ir.Model) -> None:
    """Two branches of the block look into each other's corners, as in the other dialect."""
    change(folded(model), 1, lambda weights: weights.swapaxes(2, 3))


def one_tap(model: ir.Model) -> None:
    """One channel's tap of the folded block in another corner."""

    def moved(weights: np.ndarray) -> np.ndarray:
        weights[0, :, 0] = weights[0, :, 0, ::-1]
        return weights

    change(folded(model), 1, moved)


def nearer(model: ir.Model) -> None:
    """Rows of the folded block a pixel too near to each other."""
    node = folded(model)
    rows, columns = node.attributes["dilations"].as_ints()
    pads = list(node.attributes["pads"].as_ints())
    pads[2] -= 1
    node.attributes["dilations"] = ir.AttrInt64s("dilations", [rows - 1, columns])
    node.attributes["pads"] = ir.AttrInt64s("pads", pads)


def no_bias(model: ir.Model) -> None:
    """The block's branches without their biases."""
    change(folded(model), 2, np.zeros_like)


def louder(model: ir.Model) -> None:
    """What the score is made of, one per cent too large."""
    change(convolutions(model)[-1], 1, lambda weights: weights * np.float32(1.01))


PLANTS: dict[str, Plant] = {
    "weight of the first layer": weight_off(0.0),
    "weight of an early layer": weight_off(0.25),
    "weight of a middle layer": weight_off(0.5),
    "weight of a late layer": weight_off(0.75),
    "weight of the last layer": weight_off(1.0),
    "red and blue": exchanged,
    "corners": corners,
    "one tap": one_tap,
    "a pixel": nearer,
    "bias": no_bias,
    "scale": louder,
}


@pytest.mark.parametrize("host", ["draem", "own"])
def test_the_graph_itself_passes(benches: dict[str, Bench], host: str) -> None:
    parity = benches[host].judge()
    assert parity.passed, shortfalls(parity)
    own, gate = benches[host].rounding, benches[host].gate
    assert own.trusted
    assert own.map is not None
    assert gate.map_tolerance is not None
    assert gate.map_tolerance == pytest.approx(max(1e-3, ROUNDING_MULTIPLE * own.map))
    assert own.map_mean is not None
    assert gate.mean_map_tolerance == pytest.approx(max(5e-5, MEAN_ROUNDING_MULTIPLE * own.map_mean))


@pytest.mark.parametrize("host", ["draem", "own"])
@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_error_is_refused(benches: dict[str, Bench], host: str, name: str) -> None:
    parity = benches[host].judge(PLANTS[name])
    assert not parity.passed
