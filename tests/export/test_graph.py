"""Graphs from torch, and single ONNX files in and out."""

from __future__ import annotations

import inspect
import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import external_data_helper
from torch import nn

from definitions.graph_text import BLOCK, block_arrays, graph, serialised
from definitions.running import RunGraph
from sspcab_edge.errors import GraphError, OutputError
from sspcab_export import graph as graph_module
from sspcab_export.graph import graph_from_torch, load_graph, save_graph
from sspcab_export.passes import optimise


class TwoInTwoOut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)
        self.norm = nn.BatchNorm2d(2)

    def forward(self, frames: torch.Tensor, flow: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = frames.to(torch.float32).permute(0, 3, 1, 2) / 255
        total = self.norm(self.conv(pixels)) + flow
        return total.amax(dim=(1, 2, 3)), total[:, 0]


EXAMPLES = {"frames": torch.zeros(1, 5, 7, 3, dtype=torch.uint8), "flow": torch.zeros(1, 2, 5, 7)}


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is remembered here: these tests are of torch's exporter."""
    monkeypatch.setattr(torch.onnx, "export", inspect.unwrap(torch.onnx.export))


@pytest.fixture(scope="module")
def module() -> TwoInTwoOut:
    torch.manual_seed(0)
    return TwoInTwoOut()


def test_ports_opset_and_free_batch(module: TwoInTwoOut, run_graph: RunGraph) -> None:
    model = graph_from_torch(module, EXAMPLES, ["score", "map"])
    ports = {value.name: (str(value.dtype), str(value.shape)) for value in model.graph.inputs}
    assert ports == {"frames": ("UINT8", "[N,5,7,3]"), "flow": ("FLOAT", "[N,2,5,7]")}
    ports = {value.name: (str(value.dtype), str(value.shape)) for value in model.graph.outputs}
    assert ports == {"score": ("FLOAT", "[N]"), "map": ("FLOAT", "[N,5,7]")}
    assert model.opset_imports[""] == 18
    assert next(iter(model.graph)).op_type == "Cast"
    frames = torch.randint(0, 256, (4, 5, 7, 3), dtype=torch.uint8)
    flow = torch.randn(4, 2, 5, 7)
    with torch.no_grad():
        wanted = module(frames, flow)
    got = run_graph(serialised(model), {"frames": frames.numpy(), "flow": flow.numpy()})
    for one, other in zip(wanted, got, strict=True):
        np.testing.assert_allclose(one.numpy(), other, atol=1e-6)


def test_the_exporter_says_nothing(
    module: TwoInTwoOut, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    level = logging.getLogger("torch.onnx").level
    graph_from_torch(module, EXAMPLES, ["score", "map"])
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("torch.onnx").level == level


def test_parameters_are_not_copied(module: TwoInTwoOut) -> None:
    model = graph_from_torch(module, EXAMPLES, ["score", "map"])
    tensor = model.graph.initializers["conv.weight"].const_value
    assert tensor is not None
    assert np.shares_memory(tensor.numpy(), module.conv.weight.detach().numpy())


class DependsOnData(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum() > 0 else -x


def test_what_torch_cannot_export_is_one_clear_line() -> None:
    with pytest.raises(GraphError, match=r"^torch cannot export this network: [^\n]+$"):
        graph_from_torch(DependsOnData(), {"x": torch.zeros(1, 3)}, ["y"])


def test_a_wrong_number_of_names_is_refused(module: TwoInTwoOut) -> None:
    with pytest.raises(GraphError, match="the network gives 2 tensors, expected 1: score"):
        graph_from_torch(module, EXAMPLES, ["score"])


def test_one_file_with_the_same_bytes_each_time(module: TwoInTwoOut, tmp_path: Path) -> None:
    for name in ("a", "b"):
        model = graph_from_torch(module, EXAMPLES, ["score", "map"])
        model.ir_version = 11
        model.graph.metadata_props["path"] = str(tmp_path)
        save_graph(model, tmp_path / f"{name}.onnx")
    save_graph(model, tmp_path / "c.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "b.onnx", "c.onnx"]
    data = {path.read_bytes() for path in tmp_path.iterdir()}
    assert len(data) == 1
    assert b"site-packages" not in data.pop()
    proto = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(proto, full_check=True)
    assert proto.ir_version == 10
    assert not any(external_data_helper.uses_external_data(tensor) for tensor in proto.graph.initializer)
    names = [node.name for node in proto.graph.node]
    assert all(names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("elements", [1, 1000, 1024, 1025, 5000, 3_000_000])
def test_large_weights_survive_the_file(elements: int, tmp_path: Path) -> None:
    """Also around the sizes where protobuf's length fields grow by a byte."""
    arrays = {name: np.arange(elements, dtype=np.float32) + offset for offset, name in enumerate("ab")}
    model = graph("t = Add (x, a)\n y = Mul (t, b)", arrays, inputs="float[N,M] x", outputs="float[N,M] y")
    save_graph(model, tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(proto)
    assert [node.op_type for node in proto.graph.node] == ["Add", "Mul"]
    loaded = load_graph(tmp_path / "m.onnx")
    assert list(loaded.graph.initializers) == ["a", "b"]
    for name, array in arrays.items():
        tensor = loaded.graph.initializers[name].const_value
        assert tensor is not None
        np.testing.assert_array_equal(tensor.numpy(), array)
    assert list(model.graph.initializers) == ["a", "b"]


def test_an_invalid_graph_is_not_written(tmp_path: Path) -> None:
    model = graph(BLOCK, block_arrays())
    model.graph.node(0).op_type = "Nonsense"
    with pytest.raises(GraphError, match=r"the graph for .*m\.onnx is not valid: .*Nonsense"):
        save_graph(model, tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*: No such file or directory"):
        save_graph(graph(BLOCK, block_arrays()), tmp_path / "missing" / "m.onnx")


def test_weights_beyond_protobuf_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_module, "MAX_FILE_BYTES", 100)
    with pytest.raises(GraphError, match="bytes of weights, expected at most 100"):
        save_graph(graph(BLOCK, block_arrays()), tmp_path / "m.onnx")


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.onnx"
    path.write_bytes(serialised(graph(BLOCK, block_arrays())))
    return path


def test_bad_files_are_one_clear_line(good: Path, tmp_path: Path) -> None:
    data = good.read_bytes()
    rng = np.random.default_rng(0)
    bad = {
        "empty": b"",
        "truncated": data[: len(data) // 2],
        "random": rng.integers(0, 256, 4096, dtype=np.uint8).tobytes(),
        "text": b"not a model\n" * 100,
        "png": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "unsorted": data.replace(b"\x02c1", b"\x02c9", 1),
    }
    for name, content in bad.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        with pytest.raises(GraphError, match=rf"^\S*{name}\.onnx is not (a valid|an) ONNX model[^\n]*$"):
            load_graph(path)
    with pytest.raises(GraphError, match=r"cannot read .*none\.onnx: No such file"):
        load_graph(tmp_path / "none.onnx")
    with pytest.raises(GraphError, match="Is a directory"):
        load_graph(tmp_path)


def test_any_changed_byte_is_optimised_or_refused(good: Path, tmp_path: Path) -> None:
    """No other exception than ours gets out, whatever byte is wrong."""
    data = good.read_bytes()
    rng = np.random.default_rng(1)
    path = tmp_path / "changed.onnx"
    refused = 0
    for position in rng.integers(0, len(data), 150):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0xFF]) + data[position + 1 :])
        try:
            optimise(load_graph(path))
        except GraphError:
            refused += 1
    assert refused > 20


def test_a_file_over_the_limit_is_refused(good: Path) -> None:
    with pytest.raises(GraphError, match=r"good\.onnx has \d+ bytes, expected at most 1000"):
        load_graph(good, max_bytes=1000)


def test_sparse_weights_are_named(good: Path, tmp_path: Path) -> None:
    model = onnx.load(good)
    values = onnx.numpy_helper.from_array(np.ones(1, np.float32), "few")
    indices = onnx.numpy_helper.from_array(np.array([3]), "where")
    model.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, [9]))
    path = tmp_path / "sparse.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(
        GraphError, match=r"keeps 'few' as a sparse tensor, which is not read: export it dense"
    ):
        load_graph(path)


def test_external_data_in_a_constant_is_refused(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (float[2] y)'
        "{ c = Constant <value = float[2] {1.0, 2.0}> () y = Add (x, c) }"
    )
    tensor = model.graph.node[0].attribute[0].t
    tensor.raw_data = np.array([1, 2], np.float32).tobytes()
    del tensor.float_data[:]
    external_data_helper.set_external_data(tensor, location="/etc/passwd")
    tensor.ClearField("raw_data")
    path = tmp_path / "constant.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(GraphError, match="in the external file '/etc/passwd'"):
        load_graph(path)
