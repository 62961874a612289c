"""Weights beside an ONNX file: read where they are plain files of its folder, as declared; refused else."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, external_data_helper, helper, numpy_helper
from torch import nn

from sspcab_edge.errors import GraphError, OptionError
from sspcab_export import export
from sspcab_export.checkpoints import checkpoint_files
from sspcab_export.external_data import put_data_inside
from sspcab_export.graph import load_graph, read_graph
from sspcab_export.hosts import HostOptions
from sspcab_export.reading import read_model
from sspcab_runtime import Detector

SIDE = 16


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 1)).eval()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What torch's exporter writes when nobody says anything: two files."""
    path = tmp_path_factory.mktemp("written") / "m.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network(), (torch.rand(1, 3, SIDE, SIDE),), path, input_names=["images"], output_names=["made"],
            verbose=False,
        )  # fmt: skip
    assert (path.parent / "m.onnx.data").is_file()
    return path


@pytest.fixture
def two(written: Path, tmp_path: Path) -> Path:
    for name in ("m.onnx", "m.onnx.data"):
        (tmp_path / name).write_bytes((written.parent / name).read_bytes())
    return tmp_path / "m.onnx"


def arrays(path: Path) -> dict[str, np.ndarray]:
    graph = load_graph(path).graph
    return {str(name): value.const_value.numpy() for name, value in graph.initializers.items()}  # type: ignore[union-attr]


def test_what_torch_writes_by_default_becomes_one_file(two: Path, tmp_path: Path) -> None:
    options = HostOptions(score="error", allow_no_block=True)
    bundle = export(two, host=options, output=tmp_path / "bundle").bundle
    digests = [
        hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("m.onnx", "m.onnx.data")
    ]
    model = bundle.manifest.model
    assert [(entry.path, entry.sha256) for entry in model.source] == list(
        zip(("m.onnx", "m.onnx.data"), digests, strict=True)
    )
    assert model.digest == hashlib.sha256("\n".join(digests).encode()).hexdigest()
    (artifact,) = bundle.manifest.artifacts
    inside = onnx.load(bundle.file(artifact.files[0]), load_external_data=False)
    assert not any(external_data_helper.uses_external_data(one) for one in inside.graph.initializer)
    frame = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8)
    x = torch.from_numpy(frame.transpose(2, 0, 1).copy())[None] / 255
    with torch.no_grad():
        wanted = float((network()(x) - x).pow(2).mean())
    with Detector.open(bundle.path) as detector:
        assert detector(frame).score == pytest.approx(wanted, rel=1e-5)


def test_both_files_or_their_folder_may_be_named(two: Path) -> None:
    options = HostOptions(score="error")
    wanted = read_model([two], options, None)[1]
    data = two.with_name("m.onnx.data")
    for given in ([two, data], [data, two], [two.parent]):
        assert read_model(checkpoint_files(given), options, None)[1] == wanted


def test_a_file_that_is_not_its_own_is_refused(two: Path) -> None:
    other = two.with_name("other.bin")
    other.write_bytes(b"x")
    with pytest.raises(OptionError, match=r"m\.onnx has no data in .*other\.bin"):
        read_model([two, other], HostOptions(score="error"), None)


def test_a_change_in_the_data_is_another_model(two: Path) -> None:
    before = read_model([two], HostOptions(score="error"), None)[1].digest
    data = bytearray(two.with_name("m.onnx.data").read_bytes())
    data[1] ^= 1
    two.with_name("m.onnx.data").write_bytes(data)
    assert read_model([two], HostOptions(score="error"), None)[1].digest != before


@pytest.mark.parametrize("one_file", [True, False])
def test_one_file_for_all_or_one_a_tensor(written: Path, tmp_path: Path, one_file: bool) -> None:
    onnx.save(
        onnx.load(written), tmp_path / "m.onnx", save_as_external_data=True, all_tensors_to_one_file=one_file,
        location="w.bin" if one_file else None, size_threshold=0,
    )  # fmt: skip
    wanted = arrays(written)
    found = arrays(tmp_path / "m.onnx")
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)
    files = [entry.path for entry in read_graph(tmp_path / "m.onnx")[1]]
    assert files[0] == "m.onnx"
    assert len(files) == (2 if one_file else 1 + len(wanted))


VALUES = np.arange(6, dtype=np.float32).reshape(2, 3)


def outside(name: str, **declared: object) -> onnx.TensorProto:
    tensor = numpy_helper.from_array(VALUES, name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "w.bin", **declared}.items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    return tensor


def one_tensor(
    folder: Path, *, change: Callable[[onnx.TensorProto], None] | None = None, **declared: object
) -> Path:
    """``y = x + w``, w at bytes 64 to 88 of ``w.bin`` unless something else is declared."""
    (folder / "w.bin").write_bytes(bytes(64) + VALUES.tobytes() + bytes(8))
    tensor = outside("w", **{"offset": 64, "length": 24, **declared})
    if change is not None:
        change(tensor)
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in "xy"]
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])], "g", ports[:1], ports[1:], initializer=[tensor]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_gaps_between_tensors_are_allowed(tmp_path: Path) -> None:
    np.testing.assert_array_equal(arrays(one_tensor(tmp_path))["w"], VALUES)


def test_the_length_may_be_left_out(tmp_path: Path) -> None:
    path = one_tensor(tmp_path, length=None)
    np.testing.assert_array_equal(arrays(path)["w"], VALUES)


@pytest.mark.parametrize(
    "location", ["/etc/passwd", "../w.bin", "sub/w.bin", "./w.bin", "..", ".", "", "sub\\w.bin", "w\0.bin"]
)
def test_a_location_is_a_plain_name(tmp_path: Path, location: str) -> None:
    inner = tmp_path / "sub"
    inner.mkdir()
    path = one_tensor(inner)
    (tmp_path / "w.bin").write_bytes(bytes(100))
    (inner / "sub").mkdir()
    (inner / "sub" / "w.bin").write_bytes(bytes(100))
    path = one_tensor(inner, location=location)
    with pytest.raises(GraphError, match=r"expected the plain name of a file .* save it as one file"):
        load_graph(path)


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"offset": 73}, r"bytes 73 to 97 of 'w.bin', which has 96: it is truncated"),
        ({"offset": 10**17}, "it is truncated"),
        ({"length": 20}, r"with 20 bytes, expected the 24 of its shape \(2, 3\)"),
        ({"length": 10**12}, "with 1000000000000 bytes, expected the 24"),
        ({"offset": -4}, "offset '-4', expected a number of bytes"),
        ({"length": "1e3"}, "length '1e3', expected a number of bytes"),
        ({"offset": "9" * 30}, "offset '9+', expected a number of bytes"),
        ({"length": "٢٤"}, "expected a number of bytes"),
    ],
)
def test_what_is_declared_has_to_be_there(tmp_path: Path, declared: dict[str, Any], said: str) -> None:
    with pytest.raises(GraphError, match=said):
        load_graph(one_tensor(tmp_path, **declared))


def test_a_shape_larger_than_any_file_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    def enlarge(tensor: onnx.TensorProto) -> None:
        tensor.dims[:] = [1 << 20, 1 << 20]
        tensor.external_data[2].value = str(4 << 40)

    with pytest.raises(GraphError, match=r"keeps 4398046511104 bytes of weights in other files, expected at"):
        load_graph(one_tensor(tmp_path, change=enlarge))


def test_a_type_without_bytes_is_refused(tmp_path: Path) -> None:
    def text(tensor: onnx.TensorProto) -> None:
        tensor.data_type = TensorProto.STRING

    with pytest.raises(GraphError, match="no plain bytes"):
        load_graph(one_tensor(tmp_path, change=text))


def test_a_file_larger_than_the_bound_is_refused(tmp_path: Path) -> None:
    path = one_tensor(tmp_path)
    with (tmp_path / "w.bin").open("r+b") as file:
        file.truncate(1 << 33)
    with pytest.raises(GraphError, match=r"w\.bin has 8589934592 bytes, expected at most"):
        load_graph(path)


def test_a_missing_file_is_named(two: Path) -> None:
    two.with_name("m.onnx.data").unlink()
    with pytest.raises(
        GraphError, match=r"'m\.onnx\.data', which is not there: it lay beside m\.onnx .* copy both"
    ):
        load_graph(two)


def test_links_devices_pipes_and_folders_are_refused(tmp_path: Path) -> None:
    path = one_tensor(tmp_path)
    data = tmp_path / "w.bin"
    data.rename(tmp_path / "real.bin")
    data.symlink_to("real.bin")
    with pytest.raises(GraphError, match="which is a link, expected a regular file"):
        load_graph(path)
    data.unlink()
    os.mkfifo(data)
    with pytest.raises(GraphError, match="expected a regular file"):
        load_graph(path)
    data.unlink()
    data.mkdir()
    with pytest.raises(GraphError, match="expected a regular file"):
        load_graph(path)
    device = tmp_path.joinpath("dev")
    device.mkdir()
    with pytest.raises(GraphError, match="expected a regular file"):
        put_data_inside(
            onnx.load(one_tensor(device, location="null"), load_external_data=False),
            Path("/dev/m.onnx"),
            1000,
        )


def test_tensors_are_found_wherever_they_stand(tmp_path: Path) -> None:
    """In a constant, in a branch, in a function, in a sparse initialiser."""
    (tmp_path / "w.bin").write_bytes(VALUES.tobytes())

    def constant(output: str) -> onnx.NodeProto:
        return helper.make_node("Constant", [], [output], value=outside(output, offset=0, length=24))

    info = helper.make_tensor_value_info("z", TensorProto.FLOAT, [2, 3])
    branch = helper.make_graph([constant("z")], "b", [], [info])
    sparse = helper.make_sparse_tensor(
        outside("s", offset=0, length=24), numpy_helper.from_array(np.arange(6), "i"), [9]
    )
    model = helper.make_model(
        helper.make_graph(
            [constant("c"), helper.make_node("If", ["q"], ["y"], then_branch=branch, else_branch=branch)],
            "g", [], [info], sparse_initializer=[sparse],
        ),
        functions=[
            helper.make_function("own", "F", [], ["f"], [constant("f")], [helper.make_opsetid("", 17)])
        ],
    )  # fmt: skip
    (entry,) = put_data_inside(model, tmp_path / "m.onnx", 1000)
    assert entry.path == "w.bin"
    then = model.graph.node[1].attribute[0].g
    for tensor in (
        model.graph.node[0].attribute[0].t,
        then.node[0].attribute[0].t,
        model.functions[0].node[0].attribute[0].t,
        model.graph.sparse_initializer[0].values,
    ):
        np.testing.assert_array_equal(numpy_helper.to_array(tensor), VALUES)
        assert not tensor.external_data
