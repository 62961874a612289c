"""What OpenVINO and TensorRT are given where the ONNX file keeps its blocks as one node each."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from definitions.block_nets import Kind, network
from definitions.graph_text import images
from definitions.running import RunGraph
from sspcab_edge.errors import GraphError
from sspcab_edge.ports import Port
from sspcab_export import to_onnx, to_openvino, to_tensorrt
from sspcab_export.custom_op import may_hold_blocks
from sspcab_export.graph import load_graph, save_graph
from sspcab_export.passes import optimise
from sspcab_export.passes.block_bodies import holds_blocks
from sspcab_export.passes.keep_blocks import keep_blocks
from sspcab_export.to_tensorrt import block_plugin, check_build, for_plugin, judged_graph, plugin_registry
from sspcab_runtime.engines.openvino_engine import import_openvino
from sspcab_runtime.engines.tensorrt import can_build, import_checker

NETWORK = (Kind(1, 1), Kind(2, 0, "anomalib"))


@dataclass(frozen=True)
class Files:
    """One network with its blocks folded, and kept, in folders of their own."""

    folded: Path
    kept: Path


@pytest.fixture
def files(tmp_path: Path) -> Files:
    folded, blocks = optimise(network(*NETWORK))
    kept, _ = keep_blocks(folded, blocks)
    paths = Files(tmp_path / "folded" / "model.fp32.onnx", tmp_path / "kept" / "model.fp32.onnx")
    for model, path in ((folded, paths.folded), (kept, paths.kept)):
        path.parent.mkdir()
        save_graph(model, path)
    return paths


def test_which_files_hold_blocks(files: Files) -> None:
    assert may_hold_blocks(files.kept)
    assert not may_hold_blocks(files.folded)
    with pytest.raises(GraphError, match=r"cannot read .*none\.onnx: No such file"):
        may_hold_blocks(files.kept.with_name("none.onnx"))


def test_the_onnx_artifact_is_the_file_itself(files: Files) -> None:
    assert to_onnx.export_files(files.kept, files.kept.parent, "fp32") == ("model.fp32.onnx",)


def test_openvino_gets_the_folded_network(files: Files) -> None:
    results = []
    for path in (files.folded, files.kept):
        names = to_openvino.export_files(path, path.parent, "fp32")
        assert names == ("openvino/model.fp32.xml", "openvino/model.fp32.bin")
        assert b"SSPCAB" not in (path.parent / names[0]).read_bytes()
        core = import_openvino().Core()
        model = core.read_model(path.parent / names[0])
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        operators = [operation.get_type_name() for operation in model.get_ordered_ops()]
        results.append((operators, compiled(images())[compiled.output(0)]))
    assert results[0][0] == results[1][0]
    np.testing.assert_array_equal(results[0][1], results[1][1])


@pytest.mark.parametrize("package", ["torch", "onnx_ir"])
def test_without_the_exporters_packages_only_kept_blocks_are_refused(package: str, files: Files) -> None:
    """A device without them converts a folded graph for OpenVINO; of another it says one clear line."""
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from pathlib import Path\n"
        "from sspcab_edge.errors import MissingPackageError\n"
        "from sspcab_export.to_openvino import export_files\n"
        f"folded, kept = Path({str(files.folded)!r}), Path({str(files.kept)!r})\n"
        "print(export_files(folded, folded.parent, 'fp32'))\n"
        "try:\n    export_files(kept, kept.parent, 'fp32')\n"
        "except MissingPackageError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    made, said = done.stdout.strip().splitlines() or ["", done.stderr]
    assert "openvino/model.fp32.xml" in made
    assert said.startswith(f"{package} is not installed, needed for converting model.fp32.onnx: pip install")


def test_tensorrt_gets_the_folded_network(files: Files, run_onnxruntime: RunGraph) -> None:
    before = files.kept.read_bytes()
    (name,) = to_tensorrt.export_files(files.kept, files.kept.parent, "fp32")
    assert name == "model.fp32.tensorrt.onnx"
    assert files.kept.read_bytes() == before
    made = files.kept.parent / name
    proto = onnx.load(made)
    onnx.checker.check_model(proto, full_check=True)
    assert not proto.functions
    assert [one.domain for one in proto.opset_import] == [""]
    operators = [node.op_type for node in load_graph(files.folded).graph]
    assert [node.op_type for node in proto.graph.node] == operators
    wanted, got = (run_onnxruntime(path.read_bytes(), images())[0] for path in (files.folded, made))
    np.testing.assert_array_equal(wanted, got)
    assert judged_graph(made) == made


def test_tensorrt_shares_a_folded_file(files: Files) -> None:
    assert to_tensorrt.export_files(files.folded, files.folded.parent, "fp32") == ("model.fp32.onnx",)
    assert judged_graph(files.folded) == files.folded


def test_a_file_with_bodies_stands_for_itself(files: Files) -> None:
    """It needs no plugin: TensorRT parses it too, and puts the bodies in place."""
    assert judged_graph(files.kept) == files.kept


def test_the_real_parser_takes_what_tensorrt_gets(files: Files) -> None:
    if import_checker() is None:
        pytest.skip("tensorrt_rtx is not installed: no real parser and builder to check with")
    (name,) = to_tensorrt.export_files(files.kept, files.kept.parent, "fp32")
    port = Port(name="x", dtype="float32", shape=("N", 4, 9, 11), layout="NCHW")
    assert "parses and builds it" in check_build(files.kept.parent / name, [port])


@dataclass
class Creator:
    """What TensorRT's registry says of a plugin."""

    name: str
    plugin_version: str = "1"
    plugin_namespace: str = ""


@dataclass
class Registry:
    """As much of TensorRT's registry as is asked."""

    all_creators: list[object]


OURS = Creator("SSPCAB", "3", "sspcab.edge")
ANYONES = Creator("SSPCAB", "2")


@pytest.mark.parametrize(
    ("creators", "wanted"),
    [
        ([], None),
        ([Creator("EfficientNMS_TRT"), object()], None),
        ([Creator("SSPCAB", plugin_namespace="somebody.else")], None),
        ([Creator("sspcab")], None),
        ([ANYONES], ANYONES),
        ([Creator("EfficientNMS_TRT"), OURS], OURS),
        ([OURS, ANYONES], OURS),
        ([ANYONES, OURS], OURS),
    ],
)
def test_which_plugin_computes_the_block(creators: list[object], wanted: Creator | None) -> None:
    assert block_plugin(Registry(creators)) is wanted


def test_without_a_registry_there_is_no_plugin() -> None:
    assert block_plugin(None) is None


@pytest.mark.skipif(can_build() is None, reason="TensorRT is here, and its registry may hold anything")
def test_without_tensorrt_there_is_no_registry() -> None:
    assert plugin_registry() is None


def test_a_plugin_is_named_on_the_node(files: Files) -> None:
    kept = load_graph(files.kept)
    model = for_plugin(kept, OURS)
    assert not model.functions
    assert kept.functions
    for node in model.graph:
        assert (node.domain, node.op_type) == ("sspcab.edge", "SSPCAB")
        assert node.attributes["plugin_version"].as_string() == "3"
        assert node.attributes["plugin_namespace"].as_string() == "sspcab.edge"
        assert node.attributes["kernel"].as_int() in (1, 2)


def test_blocks_are_left_to_a_plugin_that_is_there(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(to_tensorrt, "plugin_registry", lambda: Registry([OURS]))
    (name,) = to_tensorrt.export_files(files.kept, files.kept.parent, "fp32")
    made = files.kept.parent / name
    onnx.checker.check_model(onnx.load(made), full_check=True)
    model = load_graph(made)
    assert holds_blocks(model)
    assert not model.functions
    assert [node.op_type for node in model.graph] == ["SSPCAB", "SSPCAB"]
    assert judged_graph(made) == files.kept
    assert (
        check_build(made, [])
        == f"{name}: its block is left to this machine's plugin SSPCAB; no parser was asked"
    )


def test_a_name_that_only_looks_like_ours_changes_nothing(tmp_path: Path) -> None:
    """A layer called sspcab.edge is no operator set."""
    model, _ = optimise(network(Kind()))
    model.graph[0].name = "sspcab.edge"
    path = tmp_path / "model.fp32.onnx"
    save_graph(model, path)
    assert may_hold_blocks(path)
    assert not holds_blocks(load_graph(path))
    assert to_tensorrt.export_files(path, tmp_path, "fp32") == ("model.fp32.onnx",)
    assert judged_graph(path) == path
    assert to_openvino.export_files(path, tmp_path, "fp32") == (
        "openvino/model.fp32.xml",
        "openvino/model.fp32.bin",
    )


def test_operators_of_others_are_not_taken_for_blocks() -> None:
    model, _ = optimise(network(Kind()))
    assert not holds_blocks(model)
    model.graph.append(ir.node("Mine", [model.graph.inputs[0]], domain="somebody.else"))
    assert not holds_blocks(model)
