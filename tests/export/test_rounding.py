"""The reference model asked again: whether it is repeatable, and how far rounding moves it."""

from __future__ import annotations

import hashlib
import io
import math
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from definitions.unrepeatable_nets import REPEATABLE, UNREPEATABLE, Repaints, seeded
from sspcab_edge.errors import HostError
from sspcab_edge.manifest import Decision, Quantiles
from sspcab_edge.parity import PackItem
from sspcab_export.hosts import HostOptions, LoadedHost
from sspcab_export.hosts.network import load_network
from sspcab_export.networks.factory import FactoryNetwork
from sspcab_export.reading import read_model
from sspcab_export.rounding import check_repeatable, measure_rounding, probe, rounding_notes
from sspcab_export.verify import Judged

SIDE = 32
TOLD = HostOptions(score="error", input_size=(SIDE, SIDE))
NOTHING = Decision(threshold=None, policy="none")


def factory_host(network: nn.Module) -> LoadedHost:
    return load_network(FactoryNetwork(network, "user:make"), TOLD, name="network")


def program_host(network: nn.Module, kind: str, folder: Path) -> LoadedHost:
    buffer, example = io.BytesIO(), torch.zeros(1, 3, SIDE, SIDE)
    path = folder / ("net.pt2" if kind == "pt2" else "net.pt")
    if kind == "pt2":
        torch.export.save(torch.export.export(network, (example,)), buffer)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = torch.jit.trace(network, example, check_trace=False)  # type: ignore[no-untyped-call]
            torch.jit.save(traced, buffer)
    path.write_bytes(buffer.getvalue())
    digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    return read_model([path], HostOptions(score="error", input_size=(SIDE, SIDE), trust=digest), None)[0]


def asked_twice(host: LoadedHost) -> None:
    check_repeatable(host.source, probe(host))


def judged(host: LoadedHost, count: int = 7) -> list[Judged]:
    numbers, found = np.random.default_rng(5), []
    for number in range(count):
        entry = {"frames": numbers.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)}
        scores, maps = host.source.infer({"frames": entry["frames"][None]})
        item = PackItem(
            str(number), "picture", entry, float(scores[0]), None, None if maps is None else maps[0]
        )
        found.append(Judged(item, None, None))
    return found


@pytest.mark.parametrize("name", UNREPEATABLE)
def test_a_network_that_is_random_is_named_before_anything_else(name: str) -> None:
    network, cause = UNREPEATABLE[name]
    random.seed(1)
    with pytest.raises(HostError, match="asked twice about the same image") as caught:
        asked_twice(factory_host(seeded(network())))
    said = str(caught.value)
    assert cause in said
    assert "its maps differ by up to" in said
    assert "\n" not in said


@pytest.mark.parametrize("name", REPEATABLE)
def test_rounding_that_differs_from_call_to_call_is_not_randomness(name: str) -> None:
    host = factory_host(seeded(REPEATABLE[name]()))
    if name == "rounding":
        one, two = (host.source.infer({"frames": probe(host)["frames"][None]})[1] for _ in range(2))
        assert one is not None
        assert two is not None
        assert np.abs(one - two).max() > 1e-3 * np.abs(one).max(), "it is large enough to be asked about"
    asked_twice(host)


@pytest.mark.parametrize("kind", ["torchscript", "pt2"])
def test_programs_that_are_random_are_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="asked twice about the same image"):
        asked_twice(program_host(seeded(UNREPEATABLE["noise"][0]()), kind, tmp_path))


@pytest.mark.parametrize("op", ["RandomNormalLike", "Dropout"])
def test_graphs_that_are_random_are_named(op: str, tmp_path: Path) -> None:
    weight = helper.make_tensor("w", TensorProto.FLOAT, (3, 3, 1, 1), np.eye(3, dtype=np.float32).ravel())
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    constants = [weight]
    if op == "Dropout":
        constants.append(helper.make_tensor("ratio", TensorProto.FLOAT, (), [0.3]))
        constants.append(helper.make_tensor("training", TensorProto.BOOL, (), [True]))
        nodes.append(helper.make_node("Dropout", ["y", "ratio", "training"], ["repainted"]))
    else:
        nodes.append(helper.make_node("RandomNormalLike", ["y"], ["noise"], scale=0.1))
        nodes.append(helper.make_node("Add", ["y", "noise"], ["repainted"]))
    shape = [1, 3, SIDE, SIDE]
    graph = helper.make_graph(
        nodes,
        "random",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("repainted", TensorProto.FLOAT, shape)],
        constants,
    )
    path = tmp_path / "random.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    host, _ = read_model([path], HostOptions(score="error"), None)
    with pytest.raises(HostError, match="asked twice about the same image"):
        asked_twice(host)


def test_an_input_on_which_only_the_judge_finds_randomness_is_named() -> None:
    """The built-in image is too smooth for it to show."""

    class Sometimes(Repaints):
        def features(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.as_tensor(self.inside(x))
            return y + torch.randn_like(y) * (x.diff(dim=3).abs().mean() > 0.25)

    host = factory_host(seeded(Sometimes()))
    asked_twice(host)
    with pytest.raises(HostError, match="not repeatable"):
        measure_rounding(host.source, judged(host), NOTHING)


class Cancels(nn.Module):
    """A reconstruction whose rounding is ``gain`` times as large as that of a plain one."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.tanh(self.layer(x))
        return torch.as_tensor((y + self.gain) - self.gain)


@pytest.mark.parametrize("gain", [0.0, 1e3, 1e4])
def test_rounding_is_the_largest_difference_to_float64(gain: float) -> None:
    network = seeded(Cancels(gain))
    host = factory_host(network)
    found = measure_rounding(host.source, judged(host, 5), NOTHING)
    assert found is not None
    worst = 0.0
    for one in judged(host, 5):
        assert one.item is not None
        assert one.item.map is not None
        x = torch.from_numpy(one.item.entry["frames"].transpose(2, 0, 1)[None].astype(np.float32)) / 255
        exact = seeded(Cancels(gain)).double()(x.double())
        error = ((exact - x.double()) ** 2).mean(1)[0].detach().numpy()
        worst = max(worst, float(np.abs(error - one.item.map).max()))
    assert (found.method, found.inputs) == ("float64", 5)
    assert found.map == pytest.approx(worst, rel=0.05, abs=1e-7)


@pytest.mark.parametrize("kind", ["torchscript", "pt2"])
def test_programs_run_in_float64_too(kind: str, tmp_path: Path) -> None:
    network = seeded(Cancels(1e3))
    found = measure_rounding(*_asked(program_host(network, kind, tmp_path)), NOTHING)
    own = measure_rounding(*_asked(factory_host(network)), NOTHING)
    assert found is not None
    assert own is not None
    assert found.method == "float64"
    assert found.map == pytest.approx(own.map, rel=0.2)


def _asked(host: LoadedHost) -> tuple[Any, list[Judged]]:
    return host.source, judged(host)


def test_a_network_whose_code_refuses_float64_sums_up_in_another_order() -> None:
    class Insists(Repaints):
        def features(self, x: torch.Tensor) -> torch.Tensor:
            if x.dtype != torch.float32 or torch.as_tensor(self.inside(x)).dtype != torch.float32:
                raise TypeError("float32 alone")
            return torch.as_tensor(self.inside(x))

    host = factory_host(seeded(Insists()))
    found = measure_rounding(host.source, judged(host), NOTHING)
    assert found is not None
    assert found.method == "other-order"
    assert found.map is not None
    assert found.map < 1e-5


def test_nothing_is_measured_where_nothing_was_asked() -> None:
    host = factory_host(seeded(Repaints()))
    assert measure_rounding(host.source, [], NOTHING) is None
    assert rounding_notes(None) == []


def test_a_model_that_rounding_alone_decides_is_named() -> None:
    host = factory_host(seeded(Cancels(1e6)))
    normal = Quantiles(minimum=0.1, q25=0.1, median=0.1, q75=0.1, maximum=0.1)
    decision = Decision(threshold=0.1, policy="quantile", normal=normal)
    found = measure_rounding(host.source, judged(host), decision)
    assert found is not None
    assert not found.trusted
    (note,) = rounding_notes(found)
    assert "depend on the machine" in note
    assert found.map is not None
    assert math.isfinite(found.map)
