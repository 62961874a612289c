"""The contract around networks nobody here knows: what they give, what they call it, what cannot be."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from definitions.sspcab_torch import SumThenRelu
from sspcab_edge.errors import EdgeError, HostError, OptionError
from sspcab_export.graph import load_graph, save_graph
from sspcab_export.hosts import HostOptions, LoadedHost
from sspcab_export.hosts.network import load_network
from sspcab_export.hosts.onnx_graph import load_onnx
from sspcab_export.networks.factory import FactoryNetwork
from sspcab_export.passes import optimise
from sspcab_export.running import GraphRunner

SIDE = 12
FRAMES = np.random.default_rng(7).integers(0, 256, (3, SIDE, SIDE, 3)).astype(np.uint8)


def pictures(frames: npt.NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255


class Gives(nn.Module):
    """Repaints a picture and hands it out as told."""

    def __init__(self, arrange: Callable[[torch.Tensor, torch.Tensor], Any], channels: int = 3) -> None:
        super().__init__()
        self.layer = nn.Conv2d(channels, channels, 3, padding=1)
        self.arrange = arrange

    def forward(self, x: torch.Tensor) -> Any:
        return self.arrange(self.layer(x), x)


def host_of(module: nn.Module, **options: Any) -> LoadedHost:
    torch.manual_seed(1)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2)
    told = {"input_size": (SIDE, SIDE), "score": "error", **options}
    return load_network(FactoryNetwork(module, "mine:make"), HostOptions(**told), name="network")


def check_graph(host: LoadedHost, wanted: npt.NDArray[np.float32], folder: Path) -> ir.Model:
    """The source, its graph as it is, and what is written of it give these scores."""
    scores, maps = host.source.infer({"frames": FRAMES})
    np.testing.assert_allclose(scores, wanted, rtol=1e-5)
    model = host.source.graph()
    save_graph(optimise(model)[0], folder / "contract.onnx")
    for graph in (model, load_graph(folder / "contract.onnx")):
        run = GraphRunner(graph)
        for number, frame in enumerate(FRAMES):
            got = run(frame)
            np.testing.assert_allclose(got["score"][0], wanted[number], rtol=1e-5)
            assert list(got) == (["score"] if maps is None else ["score", "map"])
            if maps is not None:
                np.testing.assert_allclose(got["map"][0], maps[number], atol=1e-6)
    return model


ARRANGED: dict[str, tuple[Callable[[torch.Tensor, torch.Tensor], Any], str | None]] = {
    "tensor": (lambda made, x: made, None),
    "tuple with a loss": (lambda made, x: (made, (made - x).square().mean()), None),
    "list": (lambda made, x: [made, made - x], "output0"),
    "dict": (lambda made, x: {"made": made, "difference": made - x}, "made"),
    "nested": (lambda made, x: {"out": {"made": made, "parts": (made - x, x)}, "rest": None}, "out.made"),
    "with a label": (lambda made, x: {"made": made, "label": made.amax((1, 2, 3)) > 0}, None),
}


@pytest.mark.parametrize("arranged", ARRANGED)
def test_a_network_may_hand_out_what_it_gives_in_any_form(arranged: str, tmp_path: Path) -> None:
    arrange, named = ARRANGED[arranged]
    module = Gives(arrange)
    host = host_of(module, map_output=named)
    x = pictures(FRAMES)
    with torch.no_grad():
        wanted = (module.layer(x) - x).square().mean((1, 2, 3)).numpy()
    check_graph(host, wanted, tmp_path)
    assert host.batch is None, "a loss over the whole batch is not what is scored"
    assert host.overrides.get("map") == named


def test_two_reconstructions_have_to_be_told_apart() -> None:
    with pytest.raises(OptionError, match=r"2 of it looks like a reconstruction. Still needed: --map"):
        host_of(Gives(lambda made, x: [made, x]))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (lambda made, x: "text", r"gives str, expected tensors"),
        (lambda made, x: (made > 0, [None]), r"gives tuple, expected tensors"),
        (lambda made, x: made * torch.inf, r"output holds values that are no finite numbers"),
        (lambda made, x: made.log(), r"output holds values that are no finite numbers"),
        (lambda made, x: made[:, :2], r"none of it looks like a reconstruction"),
    ],
)
def test_what_cannot_be_scored_is_one_line(given: Callable[..., Any], said: str) -> None:
    with pytest.raises(EdgeError, match=said) as caught:
        host_of(Gives(given))
    assert "\n" not in str(caught.value)


def test_nothing_is_refused_for_an_output_that_is_not_in_use(tmp_path: Path) -> None:
    module = Gives(lambda made, x: {"score": made.amax((1, 2, 3)), "spread": made.log()})
    host = host_of(module, score=None)
    with torch.no_grad():
        check_graph(host, module.layer(pictures(FRAMES)).amax((1, 2, 3)).numpy(), tmp_path)


def test_a_network_that_mixes_pictures_up_or_takes_one_alone_gets_one_a_call(tmp_path: Path) -> None:
    mixes = host_of(Gives(lambda made, x: made - x.mean()))
    assert mixes.batch == 1
    assert "output output depends on what else is in the batch" in mixes.assumptions
    alone = Gives(lambda made, x: made.reshape(1, 3, SIDE, SIDE))
    host = host_of(alone)
    assert host.batch == 1
    assert "the graph is fixed to one frame a call" in host.assumptions
    x = pictures(FRAMES)
    with torch.no_grad():
        wanted = (alone.layer(x) - x).square().mean((1, 2, 3)).numpy()
    model = check_graph(host, wanted, tmp_path)
    assert list(model.graph.inputs[0].shape or ()) == [1, SIDE, SIDE, 3]


def test_a_grey_network_of_code_has_to_be_told_its_colour(tmp_path: Path) -> None:
    module = Gives(lambda made, x: made, channels=1)
    with pytest.raises(HostError, match=r"fails on a picture \(1, 3, 12, 12\): RuntimeError"):
        host_of(module)
    host = host_of(module, colour="grey", input_range=(-1.0, 1.0))
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    x = (pictures(FRAMES) * weights).sum(1, keepdim=True) * 2 - 1
    with torch.no_grad():
        check_graph(host, (module.layer(x) - x).square().mean((1, 2, 3)).numpy(), tmp_path)


class Holds(nn.Module):
    """Its own part is called as our wrapper calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.ModuleDict(
            {"stem": nn.Conv2d(3, 8, 3, padding=1), "block": SumThenRelu(8, dilation=2)}
        )
        self.head = nn.Conv2d(8, 3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(self.head(self.network["block"](self.network["stem"](x))))


@pytest.mark.parametrize("kind", ["code", "file"])
def test_blocks_keep_the_path_that_they_have_in_the_network(kind: str, tmp_path: Path) -> None:
    module = Holds().eval()
    host = host_of(module)
    if kind == "file":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                module, (torch.zeros(1, 3, SIDE, SIDE),), tmp_path / "x.onnx", dynamo=True, verbose=False,
                external_data=False,
            )  # fmt: skip
        host = load_onnx(tmp_path / "x.onnx", HostOptions(score="error"))
    _, (block,) = optimise(host.source.graph())
    assert (block.path, block.dialect, block.kernel, block.dilation) == ("network.block", "official", 1, 2)
    assert (block.reduction, block.form) == (8, "folded")


# ONNX files with names and forms of their own


def onnx_file(
    path: Path,
    nodes: list[Any],
    outputs: Mapping[str, list[Any]],
    weights: Mapping[str, npt.NDArray[Any]] | None = None,
    *,
    picture: str = "x",
    opset: int = 17,
    weights_are_inputs: bool = False,
) -> Path:
    def value(name: str, shape: list[Any]) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    initializers = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    inputs = [value(picture, ["n", 3, SIDE, SIDE])]
    if weights_are_inputs:
        inputs += [value(name, list(array.shape)) for name, array in (weights or {}).items()]
    graph = helper.make_graph(
        nodes, "g", inputs, [value(name, shape) for name, shape in outputs.items()], initializers
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


FULL: list[str | int | None] = ["n", 3, SIDE, SIDE]
HALF = {"w": np.full((1, 1, 1, 1), 0.5, np.float32)}


@pytest.mark.parametrize("name", ["score", "map", "frames", "contract_white", "contract_score_shape", "v"])
def test_names_of_the_contract_may_be_taken(name: str, tmp_path: Path) -> None:
    """By a value inside, by a weight, by the picture, by an output."""
    x = pictures(FRAMES).numpy() * 2 - 1
    wanted = np.square(np.tanh(x * 0.5) - x).mean((1, 2, 3))
    files = [
        onnx_file(
            tmp_path / "inside.onnx",
            [helper.make_node("Mul", ["p", "w"], [name]), helper.make_node("Tanh", [name], ["y"])],
            {"y": FULL}, HALF, picture="p",
        ),
        onnx_file(
            tmp_path / "weight.onnx",
            [helper.make_node("Mul", ["p", name], ["z"]), helper.make_node("Tanh", ["z"], ["y"])],
            {"y": FULL}, {name: HALF["w"]}, picture="p",
        ),
        onnx_file(
            tmp_path / "taken.onnx",
            [helper.make_node("Mul", [name, "w"], ["z"]), helper.make_node("Tanh", ["z"], ["y"])],
            {"y": FULL}, HALF, picture=name,
        ),
        onnx_file(
            tmp_path / "given.onnx",
            [helper.make_node("Mul", ["p", "w"], ["z"]), helper.make_node("Tanh", ["z"], [name])],
            {name: FULL}, HALF, picture="p",
        ),
    ]  # fmt: skip
    for path in files:
        host = load_onnx(path, HostOptions(score="error", input_range=(-1.0, 1.0)))
        model = check_graph(host, wanted, tmp_path)
        assert [value.name for value in model.graph.outputs] == ["score", "map"]


def test_weights_that_are_inputs_too_become_weights(tmp_path: Path) -> None:
    nodes = [helper.make_node("Mul", ["x", "w"], ["y"])]
    path = onnx_file(tmp_path / "x.onnx", nodes, {"y": FULL}, HALF, weights_are_inputs=True)
    host = load_onnx(path, HostOptions(score="error"))
    model = check_graph(host, np.square(pictures(FRAMES).numpy() / 2).mean((1, 2, 3)), tmp_path)
    assert [value.name for value in model.graph.inputs] == ["frames"]


def test_a_score_and_a_map_that_are_called_so_are_taken_as_they_are(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["map"], axes=[1], keepdims=1),
        helper.make_node("ReduceMax", ["map"], ["score"], axes=[1, 2, 3], keepdims=0),
    ]
    path = onnx_file(tmp_path / "x.onnx", nodes, {"score": ["n"], "map": ["n", 1, SIDE, SIDE]})
    host = load_onnx(path, HostOptions())
    check_graph(host, pictures(FRAMES).numpy().mean(1).max((1, 2)), tmp_path)
    assert (host.threshold, host.score, host.map_size) == (None, None, (SIDE, SIDE))


@pytest.mark.parametrize("opset", [11, 12, 13, 20])
def test_old_and_new_opsets_are_taken(opset: int, tmp_path: Path) -> None:
    """In opset 11 and 12 the axes of Squeeze, and the sizes of Split, are attributes."""
    nodes = [
        helper.make_node("Unsqueeze", ["x"], ["u"], axes=[0]),
        helper.make_node("Squeeze", ["u"], ["y"], axes=[0]),
    ]
    if opset >= 13:
        nodes = [
            helper.make_node("Unsqueeze", ["x", "a"], ["u"]),
            helper.make_node("Squeeze", ["u", "a"], ["y"]),
        ]
    weights = {"a": np.array([0])} if opset >= 13 else {}
    half = helper.make_node("Mul", ["y", "w"], ["made"])
    path = onnx_file(tmp_path / "x.onnx", [*nodes, half], {"made": FULL}, {**weights, **HALF}, opset=opset)
    host = load_onnx(path, HostOptions(score="error", colour="BGR"))
    check_graph(host, np.square(pictures(FRAMES).numpy() / 2).mean((1, 2, 3)), tmp_path)


def test_operators_that_later_opsets_lack_are_converted(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Upsample", ["x", "s"], ["large"], mode="nearest"),
        helper.make_node("AveragePool", ["large"], ["small"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Mul", ["small", "w"], ["y"]),
    ]
    weights = {"s": np.array([1, 1, 2, 2], np.float32), **HALF}
    host = load_onnx(
        onnx_file(tmp_path / "x.onnx", nodes, {"y": FULL}, weights, opset=9), HostOptions(score="error")
    )
    model = check_graph(host, np.square(pictures(FRAMES).numpy() / 2).mean((1, 2, 3)), tmp_path)
    assert model.opset_imports[""] == 13


def test_a_network_that_gives_its_picture_back_has_no_error(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "x.onnx", [helper.make_node("Identity", ["x"], ["y"])], {"y": FULL})
    check_graph(load_onnx(path, HostOptions(score="error")), np.zeros(3, np.float32), tmp_path)


def test_outputs_that_are_no_tensors_are_left_alone(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Tanh", ["x"], ["y"]),
        helper.make_node("SequenceConstruct", ["x", "y"], ["both"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, FULL)],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, FULL),
            helper.make_tensor_sequence_value_info("both", TensorProto.FLOAT, None),
        ],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        tmp_path / "x.onnx",
    )
    x = pictures(FRAMES).numpy()
    host = load_onnx(tmp_path / "x.onnx", HostOptions(score="error"))
    check_graph(host, np.square(np.tanh(x) - x).mean((1, 2, 3)), tmp_path)


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_three_dimensions_in_a_file_are_refused(op: str, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Unsqueeze", ["x", "a"], ["deep"]),
        helper.make_node(op, ["deep", "w"], ["made"]),
        helper.make_node("Squeeze", ["made", "a"], ["y"]),
    ]
    weights = {"a": np.array([2]), "w": np.ones((3, 3, 1, 1, 1), np.float32)}
    path = onnx_file(tmp_path / "x.onnx", nodes, {"y": FULL}, weights)
    with pytest.raises(HostError, match=r"three-dimensional convolutions.*no time axis"):
        load_onnx(path, HostOptions(score="error"))


@pytest.mark.parametrize(
    "options",
    [
        {"colour": "BGR"}, {"input_range": (0.0, 255.0)}, {"mean": (0.5,)}, {"std": (0.5,)},
        {"score": "map-max"}, {"map_output": "map"}, {"normalisation": "imagenet"},
        {"dilation": 2}, {"density": "kde"}, {"patch_map": True}, {"bandwidth": 2.0},
    ],
    ids=str,
)  # fmt: skip
def test_a_contract_graph_has_everything_inside(options: dict[str, Any], tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["frames"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["f"], ["score"], axes=[1, 2, 3], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["n", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])],
    )
    path = tmp_path / "contract.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    assert (
        load_onnx(path, HostOptions()).source.infer({"frames": FRAMES})[0].tolist()
        == FRAMES.max((1, 2, 3)).tolist()
    )
    name = "map" if "map_output" in options else next(iter(options)).replace("_", "-")
    with pytest.raises(OptionError, match=rf"--{name} is of no use for the contract graph .*contract\.onnx"):
        load_onnx(path, HostOptions(**options))
