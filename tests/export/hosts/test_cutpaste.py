"""CutPaste in the arrangements of public code, against a second definition and scikit-learn."""

from __future__ import annotations

import functools
import pickle
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
import torch
from sklearn.covariance import LedoitWolf
from torch import nn

from definitions.cutpaste_plain import (
    AddedBlock,
    Floats,
    Frame,
    Projection,
    ReplacedConvolution,
    ResNet18,
    TakenApart,
    embeddings,
    kernel_score,
    like_paddle,
    mahalanobis,
    patches,
    spread_of,
    stage,
)
from definitions.draem_plain import AnomalibBlock, OfficialBlock, randomise
from definitions.graph_text import serialised
from definitions.running import RunGraph
from sspcab_edge.block import BlockSpec
from sspcab_edge.errors import CheckpointError, HostError, OptionError
from sspcab_edge.preprocess import decode_picture
from sspcab_export.checkpoints import checkpoint_files, read_checkpoint
from sspcab_export.hosts import HostOptions, LoadedHost, load_host
from sspcab_export.hosts.cutpaste_density import MAX_PATCHES, spread
from sspcab_export.passes import optimise
from sspcab_export.pictures import builtin_samples

SIZE = 96
WIDTH = 8
"""Embeddings have 64 numbers, the last feature map 3x3 positions."""

State = dict[str, torch.Tensor]


@functools.cache
def scene() -> tuple[list[Frame], list[Frame]]:
    """40 normal frames, and 16 to be scored of which half are of something else."""
    pictures = {sample.path.stem: decode_picture(sample.path).pixels for sample in builtin_samples()}
    rng = np.random.default_rng(0)

    def view(name: str) -> Frame:
        side = int(rng.integers(110, 200))
        y, x = rng.integers(0, 320 - side, 2)
        part = np.ascontiguousarray(pictures[name][y : y + side, x : x + side])
        return np.asarray(cv2.resize(part, (SIZE, SIZE), interpolation=cv2.INTER_AREA), dtype=np.uint8)

    other = ["grass-1", "coffee-1", "chelsea-1", "rocket-1", "coffee-2", "chelsea-2", "retina-1", "camera-1"]
    normal = [view("gravel-1") for _ in range(40)]
    return normal, [view("gravel-1") for _ in range(8)] + [view(name) for name in other]


@functools.cache
def added() -> nn.Module:
    return randomise(AddedBlock(WIDTH), 1)


def save(folder: Path, state: State, name: str = "model.pt") -> Path:
    torch.save(state, folder / name)
    return folder / name


def load(path: Path, **options: Any) -> LoadedHost:
    options = {"input_size": (SIZE, SIZE), **options}
    return load_host(read_checkpoint(checkpoint_files([path])), HostOptions(**options))


def entries(frames: Sequence[npt.NDArray[np.uint8]]) -> list[dict[str, npt.NDArray[np.uint8]]]:
    return [{"frames": frame} for frame in frames]


def fitted(host: LoadedHost) -> LoadedHost:
    assert host.fit is not None
    seen: list[int] = []
    ready = host.fit(entries(scene()[0]), seen.append)
    assert seen == list(range(1, 41))
    assert ready.fit is None
    return ready


def scores_of(host: LoadedHost) -> Floats:
    got, maps = host.source.infer({"frames": np.stack(scene()[1])})
    assert maps is None
    assert got.dtype == np.float32
    return got.astype(np.float64)


def wanted_of(network: nn.Module, **options: Any) -> Floats:
    normal, asked = scene()
    return mahalanobis(embeddings(network, normal, **options), embeddings(network, asked, **options))


def assert_same_scores(got: npt.NDArray[np.floating], wanted: Floats) -> None:
    """Within 1e-4 of the interquartile range, of scores that do depend on the picture."""
    assert spread_of(wanted) > 0.1 * wanted.mean()
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4 * spread_of(wanted))


ARRANGEMENTS: dict[str, tuple[Callable[[], nn.Module], str, int]] = {
    "added": (lambda: AddedBlock(WIDTH), "SSPCAB", 32),
    "replaced-conv1": (
        lambda: ReplacedConvolution(WIDTH, "layer4.1.conv1", 64, bias=True), "resnet18.layer4.1.conv1", 64,
    ),
    "taken-apart": (lambda: TakenApart(WIDTH), "sspcab", 64),
}  # fmt: skip


@functools.cache
def optimised(
    name: str, patch_map: bool = False
) -> tuple[nn.Module, LoadedHost, bytes, tuple[BlockSpec, ...]]:
    """An arrangement, saved, loaded, fitted and exported."""
    network = randomise(ARRANGEMENTS[name][0](), 1)
    with tempfile.TemporaryDirectory() as folder:
        host = fitted(load(save(Path(folder), network.state_dict()), patch_map=patch_map))
    model, blocks = optimise(host.source.graph())
    constants = [name for name, value in model.graph.initializers.items() if value.dtype == ir.DataType.FLOAT]
    assert {"score_head.epsilon", "score_head.density.mean", "score_head.density.factor"} <= set(constants)
    return network, host, serialised(model), blocks


@pytest.mark.parametrize("name", ARRANGEMENTS)
def test_public_arrangements_give_the_plain_scores_on_every_engine(name: str, run_graph: RunGraph) -> None:
    network, host, graph, blocks = optimised(name, name == "added")
    _, path, channels = ARRANGEMENTS[name]
    assert host.name == "cutpaste"
    assert host.blocks == (
        BlockSpec(path=path, dialect="official", kernel=1, dilation=1, reduction=8, channels=channels),
    )
    assert [block.form for block in blocks] == ["folded"]
    wanted, frames = wanted_of(network), np.stack(scene()[1])
    got, _ = host.source.infer({"frames": frames})
    assert_same_scores(got, wanted)
    outputs = run_graph(graph, {"frames": frames})
    assert len(outputs) == (2 if name == "added" else 1)
    assert_same_scores(outputs[0], wanted)


def test_the_map_is_the_distance_of_each_position(run_graph: RunGraph) -> None:
    network, host, graph, _ = optimised("added", True)
    assert host.map_size == (3, 3)
    normal, asked = scene()
    reference = LedoitWolf().fit(patches(network, normal).reshape(-1, 64))
    wanted = np.sqrt(reference.mahalanobis(patches(network, asked).reshape(-1, 64))).reshape(-1, 3, 3)
    _, maps = host.source.infer({"frames": np.stack(asked)})
    assert maps is not None
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps, wanted, rtol=1e-4)
    np.testing.assert_allclose(run_graph(graph, {"frames": np.stack(asked)})[1], wanted, rtol=1e-4)


def test_a_batch_gives_what_single_calls_give(run_graph: RunGraph) -> None:
    graph, frames = optimised("added", True)[2], np.stack(scene()[1][6:9])
    together = run_graph(graph, {"frames": frames})
    for number in range(3):
        alone = run_graph(graph, {"frames": frames[number : number + 1]})
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_allclose(one[0], other[number], rtol=2e-5)


def test_the_kernel_density_is_scikit_learns(tmp_path: Path) -> None:
    normal, asked = scene()
    path = save(tmp_path, added().state_dict())
    for bandwidth, option in ((1.0, None), (0.05, 0.05)):
        host = fitted(load(path, density="kde", bandwidth=option))
        wanted = kernel_score(embeddings(added(), normal), embeddings(added(), asked), bandwidth)
        np.testing.assert_allclose(scores_of(host), wanted, rtol=0, atol=1e-4 * spread_of(wanted))
        assert f"bandwidth {bandwidth:g}" in host.assumptions[-1]
    assert host.overrides == {"input-size": "96x96", "density": "kde", "bandwidth": "0.05"}


PLACES = {
    "layer1.0.conv1": 8,
    "layer1.1": 8,
    "layer2.0.conv2": 16,
    "layer4.0.conv2": 64,
    "layer4.1.conv2": 64,
    "layer4.1": 64,
    "layer4.2": 64,
    "layer4": 32,
}


@pytest.mark.parametrize("place", PLACES)
def test_the_block_is_found_wherever_it_replaces_something(tmp_path: Path, place: str) -> None:
    network = randomise(ReplacedConvolution(WIDTH, place, PLACES[place]), 3)
    host = load(save(tmp_path, network.state_dict()))
    assert [(b.path, b.channels) for b in host.blocks] == [(f"resnet18.{place}", PLACES[place])]
    assert_same_scores(scores_of(fitted(host)), wanted_of(network))


class AddedAnywhere(Projection):
    """Blocks after the second and after the last stage, by names of the user's own."""

    def __init__(self) -> None:
        super().__init__(WIDTH)
        self.resnet18.add_module("mine", OfficialBlock(64))
        self.blocks = nn.ModuleDict({"second": AnomalibBlock(16, r=4)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        net = self.resnet18
        x = self.blocks["second"](net.layer2(net.layer1(net.stem(x))))
        out: torch.Tensor = net.get_submodule("mine")(net.layer4(net.layer3(x)))
        return out


def test_added_blocks_of_any_name_stand_where_their_channels_are(tmp_path: Path) -> None:
    network = randomise(AddedAnywhere(), 4)
    host = load(save(tmp_path, network.state_dict()))
    assert [(b.path, b.dialect) for b in host.blocks] == [
        ("blocks.second", "anomalib"), ("resnet18.mine", "official"),
    ]  # fmt: skip
    said = "\n".join(host.assumptions)
    assert "blocks.second runs after resnet18.layer2" in said
    assert "resnet18.mine runs after resnet18.layer4" in said
    assert_same_scores(scores_of(fitted(host)), wanted_of(network))


class WrappedStage(Projection):
    """A stage and a block as one, in the place of the stage; ``first`` puts the block before it."""

    def __init__(self, stage: str, channels: int, first: bool) -> None:
        super().__init__(WIDTH)
        parts = [self.resnet18.get_submodule(stage), OfficialBlock(channels)]
        setattr(self.resnet18, stage, nn.Sequential(*(parts[::-1] if first else parts)))


class Children(nn.Module):
    """Nothing but the children of a network as a list, a block among them; gives its last feature map."""

    def __init__(self, at: int, block: nn.Module, prefix: str | None, *, whole: bool = False) -> None:
        super().__init__()
        network = ResNet18(WIDTH)
        parts = list(network.children())[: 10 if whole else 8]
        if whole:
            parts[-1] = nn.Linear(8 * WIDTH, 3)
        parts.insert(at, block)
        self.prefix, self.last = prefix, len(parts) - 2 * whole
        for name, part in enumerate(parts):
            if prefix is None:
                self.add_module(str(name), part)
        if prefix is not None:
            self.add_module(prefix, nn.Sequential(*parts))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = list((self if self.prefix is None else self.get_submodule(self.prefix)).children())
        for part in parts[: self.last]:
            x = part(x)
        return x


WRAPPED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "behind the third stage": (lambda: WrappedStage("layer3", 32, False), "resnet18.layer3.1"),
    "behind the last": (lambda: WrappedStage("layer4", 64, False), "resnet18.layer4.1"),
    "before the last": (lambda: WrappedStage("layer4", 32, True), "resnet18.layer4.0"),
    "before the first": (lambda: WrappedStage("layer1", 8, True), "resnet18.layer1.0"),
    "children": (lambda: Children(7, OfficialBlock(32), "features"), "features.7"),
    "children at the root": (lambda: Children(7, OfficialBlock(32), None), "7"),
    "all children, with a classifier": (lambda: Children(8, OfficialBlock(64), None, whole=True), "8"),
    "children, the stage wrapped": (
        lambda: Children(6, nn.Sequential(stage(16, 32, 2, False), OfficialBlock(32)), "net"), "net.6.1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRAPPED)
def test_blocks_beside_a_stage_or_among_children_run_where_they_stand(tmp_path: Path, name: str) -> None:
    make, path = WRAPPED[name]
    network = make()
    if name.endswith("stage wrapped"):  # its third stage is in the list already
        assert isinstance(network, Children)
        parts = network.get_submodule("net")
        assert isinstance(parts, nn.Sequential)
        del parts[7]
        network.last = len(parts)
    randomise(network, 3)
    host = load(save(tmp_path, network.state_dict()))
    assert [(b.path, b.dialect) for b in host.blocks] == [(path, "official")]
    assert_same_scores(scores_of(fitted(host)), wanted_of(network))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: Children(4, OfficialBlock(8), "net"),
            "the block at net.4 stands before the first stage, expected it after one",
        ),
        (
            lambda: Children(8, stage(64, 64, 2, False), None),
            "8 is a fifth stage of residual blocks, expected the four of ResNet-18",
        ),
    ],
)
def test_arrangements_that_are_no_resnet_are_one_clear_line(
    tmp_path: Path, make: Callable[[], nn.Module], said: str
) -> None:
    with pytest.raises(HostError, match=re.escape(said)):
        load(save(tmp_path, randomise(make(), 3).state_dict()))


@pytest.mark.parametrize(("k", "d"), [(1, 0), (2, 0)])
def test_sub_kernel_comes_from_the_weights_and_dilation_from_the_option(
    tmp_path: Path, k: int, d: int
) -> None:
    network = randomise(AddedBlock(WIDTH, k, d), 5)
    host = load(save(tmp_path, network.state_dict()), dilation=d)
    assert (host.blocks[0].kernel, host.blocks[0].dilation) == (k, d)
    assert host.overrides["dilation"] == str(d)
    assert_same_scores(scores_of(fitted(host)), wanted_of(network))


def test_dialect_and_normalisation_win_and_are_recorded(tmp_path: Path) -> None:
    network = randomise(AddedBlock(WIDTH), 1)
    path = save(tmp_path, network.state_dict())
    plain = fitted(load(path, normalisation="none", resize="opencv-linear"))
    assert plain.preprocess.resize == "opencv-linear"
    given = {"input-size": "96x96", "normalisation": "none", "resize": "opencv-linear"}
    assert plain.overrides == given
    assert_same_scores(scores_of(plain), wanted_of(network, imagenet=False))
    other = fitted(load(path, dialect="anomalib"))
    assert other.blocks[0].dialect == "anomalib"
    assert other.overrides["dialect"] == "anomalib"
    wanted = wanted_of(network)
    assert np.abs(scores_of(other) - wanted).max() > 0.1 * spread_of(wanted)


def test_defaults_are_public_codes_and_recorded(tmp_path: Path) -> None:
    host = load(save(tmp_path, added().state_dict()), input_size=None)
    size = host.preprocess
    assert (size.width, size.height, size.resize) == (256, 256, "pil-cubic")
    assert host.overrides == {}
    assert (host.map_size, host.threshold, host.batch) == (None, None, None)
    for said in (
        "dilation 1",
        "input size 256x256",
        "ImageNet",
        "pil-cubic",
        "SSPCAB runs after resnet18.layer3",
    ):
        assert any(said in one for one in host.assumptions), said


# --- how weights are stored --------------------------------------------------------------------------------


def deeper() -> nn.Module:
    """Three basic blocks in one stage and a single one in another."""
    network = ReplacedConvolution(WIDTH, "layer4.1.conv2", 64)
    network.resnet18.layer1 = stage(8, 8, 1, False, blocks=3)
    network.resnet18.layer2 = stage(8, 16, 2, False, blocks=1)
    return network


LAYOUTS: dict[str, Callable[[State], State]] = {
    "wrapped": lambda state: {f"module.{key}": value for key, value in state.items()},
    "bare": lambda state: {
        key.removeprefix("resnet18."): value for key, value in state.items() if key[:4] in ("resn", "SSPC")
    },
    "paddle": like_paddle,
    "classifier": lambda state: state | {"resnet18.fc.weight": torch.ones(9, 64)},
    "half": lambda state: {k: v.half() if v.is_floating_point() else v for k, v in state.items()},
    "twice": lambda state: state | {f"copy.{k}": v for k, v in state.items() if k.startswith("resnet18.")},
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_way_of_storing_gives_the_same_host(tmp_path: Path, layout: str) -> None:
    network = randomise(AddedBlock(WIDTH), 1)
    if layout == "half":
        network.half().float()
    host = load(save(tmp_path, LAYOUTS[layout](network.state_dict())))
    assert [block.channels for block in host.blocks] == [32]
    assert_same_scores(scores_of(fitted(host)), wanted_of(network))


def test_paddles_names_of_a_last_stage_taken_apart(tmp_path: Path) -> None:
    network = randomise(TakenApart(WIDTH), 6)
    host = load(save(tmp_path, like_paddle(network.state_dict())))
    assert [block.path for block in host.blocks] == ["sspcab"]
    assert_same_scores(scores_of(fitted(host)), wanted_of(network))


def test_paddles_square_linears_are_transposed_like_the_others(tmp_path: Path) -> None:
    """With r = 1 a shape cannot tell which way a weight lies: who wrote the file does."""
    network = AddedBlock(WIDTH)
    network.SSPCAB = OfficialBlock(32, r=1)
    randomise(network, 6)
    host = load(save(tmp_path, like_paddle(network.state_dict())))
    assert [(block.path, block.reduction) for block in host.blocks] == [("SSPCAB", 1)]
    assert_same_scores(scores_of(fitted(host)), wanted_of(network))


def test_a_copied_list_that_holds_the_block_is_one_block(tmp_path: Path) -> None:
    network = randomise(ReplacedConvolution(WIDTH, "layer4.1.conv1", 64), 6)
    copies = {
        f"net.{i}.{k}": v
        for i, c in enumerate(network.get_submodule("resnet18").children())
        for k, v in c.state_dict().items()
    }
    host = load(save(tmp_path, network.state_dict() | copies))
    assert [block.path for block in host.blocks] == ["resnet18.layer4.1.conv1"]
    assert_same_scores(scores_of(fitted(host)), wanted_of(network))


def test_other_numbers_of_basic_blocks_are_read_from_the_keys(tmp_path: Path) -> None:
    network = randomise(deeper(), 7)
    host = load(save(tmp_path, network.state_dict()))
    assert_same_scores(scores_of(fitted(host)), wanted_of(network))


def test_a_cutpaste_without_the_block_needs_the_option(tmp_path: Path) -> None:
    network = randomise(Projection(WIDTH), 8)
    path = save(tmp_path, network.state_dict())
    with pytest.raises(HostError, match="--allow-no-block"):
        load(path)
    host = load(path, allow_no_block=True)
    assert host.blocks == ()
    assert not any("dilation" in said for said in host.assumptions)
    assert_same_scores(scores_of(fitted(host)), wanted_of(network))


# --- contradictions ----------------------------------------------------------------------------------------

CONV = "resnet18.layer2.0.conv1.weight"
NORM = "resnet18.layer2.0.bn1."


def changed(key: str, change: Callable[[torch.Tensor], torch.Tensor] | None) -> Callable[[State], State]:
    """One tensor changed or, for None, removed; its copy in ``net`` as well."""

    def apply(state: State) -> State:
        state = {k: v for k, v in state.items() if not k.startswith("net.")}
        tensor = state.pop(key)
        return state if change is None else state | {key: change(tensor)}

    return apply


def without(state: State, part: str) -> State:
    return {key: value for key, value in state.items() if part not in key}


def block_state(path: str, channels: int) -> State:
    return {f"{path}.{key}": value for key, value in OfficialBlock(channels).state_dict().items()}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (changed(CONV, None), r"no resnet18\.layer2\.0\.conv1\.weight"),
        (changed(CONV, lambda t: t * torch.nan), r"layer2\.0\.conv1\.weight holds values that are no finite"),
        (changed(CONV, lambda t: t.long()), r"is torch\.int64, expected real numbers"),
        (changed(CONV, lambda t: t[:, :4]), "takes 4 channels, expected 8"),
        (changed(CONV, lambda t: t[..., :1]), r"conv1\.weight has shape .*, expected a 3x3 convolution"),
        (changed(CONV, lambda t: t[0]), "expected a 3x3 convolution"),
        (changed("resnet18.layer2.0.downsample.0.weight", None), r"no .*downsample\.0\.weight"),
        (changed("resnet18.layer2.0.downsample.0.weight", lambda t: t[:9]), "gives 9 channels, expected 16"),
        (changed("resnet18.layer2.0.downsample.1.bias", None), r"no .*downsample\.1\.bias"),
        (changed(NORM + "running_var", None), r"no resnet18\.layer2\.0\.bn1\.running_var"),
        (changed(NORM + "running_mean", lambda t: t / 0), r"bn1\.running_mean holds .*no finite"),
        (changed(NORM + "weight", lambda t: t[:3]), r"bn1\.weight has 3 channels, expected 16"),
        (changed(NORM + "weight", lambda t: t[:, None]), r"bn1\.weight has shape \(16, 1\)"),
        (changed("resnet18.bn1.weight", None), r"no resnet18\.bn1\.weight"),
        (changed("SSPCAB.conv3.weight", None), "SSPCAB.*conv3"),
        (changed("SSPCAB.conv3.weight", lambda t: t + torch.inf), r"SSPCAB\.conv3\.weight holds"),
        (changed("SSPCAB.se.fc1.weight", lambda t: t.T.contiguous()), "transposed"),
        (lambda s: s | {CONV.replace("weight", "bias"): torch.ones(3)}, r"bias has shape \(3,\), expected"),
        (lambda s: s | {"resnet18.layer3.0.conv3.weight": torch.ones(9, 9, 1, 1)}, "is a bottleneck"),
        (lambda s: s | {"net.5.0.conv1.weight": s[CONV] + 1}, r"net\.5\.0\.conv1\.weight differs from"),
        (
            lambda s: s | {f"ema.{k}": v + 1 for k, v in s.items() if "resnet" in k},
            r"at \., ema: they differ, say which it is with --weights-key",
        ),
        (lambda s: s | {"net.3.weight": torch.ones(2)}, r"1 weights .*no place for, first net\.3\.weight"),
        (lambda s: s | {"centre": torch.ones(2)}, "no place for, first centre"),
        (lambda s: s | {"resnet18.layer5.0.conv1.weight": torch.ones(2)}, r"first resnet18\.layer5"),
        (lambda s: s | {"resnet18.layer3.gate.weight": torch.ones(2)}, r"first resnet18\.layer3\.gate"),
        (lambda s: s | block_state("resnet18.layer3.extra", 32), r"block at resnet18\.layer3\.extra, where"),
        (lambda s: s | block_state("second", 32), "two blocks have the channels of layer3"),
        (lambda s: s | block_state("second", 24), "second has 24 channels, expected those of a stage"),
        (lambda s: s | block_state("second", 8), "after the first pooling and layer1: nothing tells"),
        (lambda s: without(s, "layer3.0"), r"no weights at resnet18\.layer3\.0"),
        (lambda s: without(s, "layer4"), r"no weights at resnet18\.layer4\.0"),
        (
            lambda s: without(s, "resnet18.layer3") | block_state("resnet18.layer3", 16),
            "block replaces the stage resnet18.layer3",
        ),
        (
            lambda s: without(s, "layer4.0.conv1") | block_state("resnet18.layer4.0.conv1", 32),
            r"layer4\.0\.conv1 stands where the map is halved",
        ),
        (
            lambda s: s | {NORM + "_mean": s[NORM + "running_mean"]},
            r"bn1\._mean and .*bn1\.running_mean",
        ),
    ],
)  # fmt: skip
def test_contradictions_in_the_weights_are_one_clear_line(
    tmp_path: Path, change: Callable[[State], State], said: str
) -> None:
    with pytest.raises(HostError, match=said) as caught:
        load(save(tmp_path, change(dict(added().state_dict()))))
    assert "\n" not in str(caught.value)


def test_other_networks_are_not_taken_for_cutpaste(tmp_path: Path) -> None:
    state = {"conv1.weight": torch.ones(4, 1, 7, 7), "layer1.0.conv1.weight": torch.ones(4, 4, 3, 3)}
    with pytest.raises(OptionError, match=r"no known host .*cutpaste"):
        load(save(tmp_path, state))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dialect": "oficial"}, "unknown dialect"),
        ({"dilation": -1}, "dilation d is -1"),
        ({"dilation": 9}, "dilation 9 does not fit the block at 'SSPCAB': its map is 6x6"),
        ({"input_size": (31, 64)}, "input size is 31x64, expected at least 32x32"),
        ({"bandwidth": 2.0}, "--density kde only"),
        ({"bandwidth": 0.0, "density": "kde"}, "the bandwidth is 0"),
        ({"density": "cosine"}, "unknown density 'cosine'"),
    ],
)
def test_impossible_options_are_refused(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    path = save(tmp_path, added().state_dict())
    with pytest.raises(OptionError, match=said):
        load(path, **options)


# --- fitting -----------------------------------------------------------------------------------------------


def test_before_it_is_fitted_the_source_refuses(tmp_path: Path) -> None:
    host = load(save(tmp_path, added().state_dict()))
    with pytest.raises(OptionError, match="--training or --calibration"):
        host.source.infer({"frames": np.stack(scene()[1])})
    with pytest.raises(OptionError, match="--density-arrays"):
        host.source.graph()


def test_fitting_says_what_it_was_fitted_to(tmp_path: Path) -> None:
    host = load(save(tmp_path, added().state_dict()), patch_map=True)
    said = "\n".join(fitted(host).assumptions)
    shrinkage = LedoitWolf().fit(embeddings(added(), scene()[0])).shrinkage_
    assert (
        f"40 normal embeddings, 64 dimensions, Ledoit-Wolf shrinkage {shrinkage:.3g}: fewer pictures" in said
    )
    assert "360 of 360 patches" in said


def no_progress(seen: int) -> None:
    del seen


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("density", ["mahalanobis", "kde"])
def test_too_few_pictures_are_refused(tmp_path: Path, count: int, density: str) -> None:
    host = load(save(tmp_path, added().state_dict()), density=density)
    assert host.fit is not None
    with pytest.raises(OptionError, match=f"{count} normal pictures given, expected 2 or more"):
        host.fit(entries(scene()[0][:count]), no_progress)


def test_a_collapsed_network_is_refused(tmp_path: Path) -> None:
    """A last block that gives the same for every picture: only its biases are left."""
    network = randomise(ReplacedConvolution(WIDTH, "layer4.1", 64), 1)
    for number in range(1, 5):
        network.get_parameter(f"resnet18.layer4.1.conv{number}.weight").data.zero_()
    host = load(save(tmp_path, network.state_dict()), input_size=(256, 256))
    assert host.fit is not None
    frames = [np.asarray(cv2.resize(f, (256, 256)), dtype=np.uint8) for f in scene()[0][:3]]
    with pytest.raises(HostError, match="all 3 embeddings are equal: the network collapsed"):
        host.fit(entries(frames), no_progress)


@pytest.mark.parametrize("total", [1, 7, MAX_PATCHES, 40_000, 64 * 1250, 1_000_003])
def test_positions_are_spread_evenly_over_pictures_and_columns(total: int) -> None:
    chosen = spread(total, MAX_PATCHES)
    assert np.array_equal(chosen, spread(total, MAX_PATCHES))
    assert (np.diff(chosen) > 0).all()
    assert chosen[0] >= 0
    assert chosen[-1] < total
    assert min(total, MAX_PATCHES) * 0.8 <= len(chosen) <= MAX_PATCHES
    if total >= 40_000:
        for bins in (np.bincount(chosen % 8), np.bincount(chosen * 10 // total)):
            assert bins.min() > 0.9 * bins.mean()


# --- densities from files ----------------------------------------------------------------------------------


def arrays(folder: Path, **given: Any) -> Path:
    np.savez(folder / "density.npz", **given)
    return folder / "density.npz"


def test_arrays_make_the_host_ready_at_once(tmp_path: Path) -> None:
    path, x = save(tmp_path, added().state_dict()), embeddings(added(), scene()[0])
    reference = LedoitWolf().fit(x)
    mean, precision = reference.location_, reference.precision_
    wanted = wanted_of(added())
    files: list[dict[str, Any]] = [
        {"embeddings": x.astype(np.float32)},
        {"embeddings": x * np.linspace(0.1, 9, 40)[:, None]},
        {"mean": mean, "precision": precision},
        {"mean": mean, "covariance": reference.covariance_},
    ]
    for number, given in enumerate(files):
        host = load(path, density_arrays=arrays(tmp_path, **given))
        assert host.fit is None
        assert any("density from density.npz, SHA-256 " in said for said in host.assumptions)
        assert any("divided by their lengths, 0.1 to 9" in said for said in host.assumptions) == (number == 1)
        assert_same_scores(scores_of(host), wanted)


def test_densities_that_public_code_pickles_score_the_same(tmp_path: Path) -> None:
    path, x = save(tmp_path, added().state_dict()), embeddings(added(), scene()[0])
    reference = LedoitWolf().fit(x)
    for held in (
        {"train_embed": x.astype(np.float32), "threshold": np.float32(4.5)},
        {"mean": reference.location_, "inv_cov": reference.precision_.astype(np.float32)},
    ):
        file = tmp_path / "density.pkl"
        file.write_bytes(pickle.dumps(held, 3))
        host = load(path, density_arrays=file)
        assert_same_scores(scores_of(host), wanted_of(added()))
        left = "the threshold 4.5 in density.pkl is not taken by itself, only with --threshold 4.5"
        assert any(left in said for said in host.assumptions) == ("threshold" in held)
        assert host.threshold is None


@pytest.mark.parametrize("given", ["embeddings", "mean"])
def test_a_density_of_the_heads_output_is_told_and_refused(tmp_path: Path, given: str) -> None:
    """The plain network's head gives 16 numbers; its last feature map has 64 channels."""
    x = np.random.default_rng(0).normal(size=(40, 16))
    held = {"embeddings": x} if given == "embeddings" else {"mean": x.mean(0), "precision": np.eye(16)}
    path = save(tmp_path, added().state_dict())
    with pytest.raises(OptionError, match="16 dimensions, as many as the projection head gives"):
        load(path, density_arrays=arrays(tmp_path, **held))
    wide = AddedBlock(WIDTH)
    wide.head[3], wide.head[4], wide.out = nn.Linear(64, 64), nn.BatchNorm1d(64), nn.Linear(64, 3)
    file = arrays(tmp_path, mean=np.zeros(64), precision=np.eye(64))
    stored = save(tmp_path, randomise(wide, 1).state_dict(), "wide.pt")
    said = load(stored, density_arrays=file).assumptions
    assert any("taken to be of the pooled features: the projection head gives as many" in one for one in said)
    said = load(path, density_arrays=file).assumptions
    assert not any("taken to be of the pooled" in one for one in said)


def test_the_bandwidth_of_a_file_and_the_option_that_wins(tmp_path: Path) -> None:
    normal, asked = scene()
    path, x = save(tmp_path, added().state_dict()), embeddings(added(), normal)
    file = arrays(tmp_path, embeddings=x, bandwidth=0.2)
    for option, bandwidth in ((None, 0.2), (0.1, 0.1)):
        host = load(path, density="kde", bandwidth=option, density_arrays=file)
        wanted = kernel_score(x, embeddings(added(), asked), bandwidth)
        np.testing.assert_allclose(scores_of(host), wanted, rtol=0, atol=1e-3 * spread_of(wanted))


def test_a_map_from_arrays(tmp_path: Path) -> None:
    path, x = save(tmp_path, added().state_dict()), embeddings(added(), scene()[0])
    vectors = patches(added(), scene()[0]).reshape(-1, 64)
    reference = LedoitWolf().fit(vectors)
    given = {"patch_mean": reference.location_, "patch_precision": reference.precision_}
    host = load(path, patch_map=True, density_arrays=arrays(tmp_path, embeddings=x, **given))
    assert host.map_size == (3, 3)
    _, maps = host.source.infer({"frames": np.stack(scene()[1][:2])})
    assert maps is not None
    positions = patches(added(), scene()[1][:2]).reshape(-1, 64)
    np.testing.assert_allclose(maps, np.sqrt(reference.mahalanobis(positions)).reshape(2, 3, 3), rtol=1e-4)


@pytest.mark.parametrize(
    ("given", "options", "error", "said"),
    [
        ({"embeddings": np.eye(9, 32)}, {}, OptionError, r"shape \(9, 32\), expected \(9, 64\)"),
        ({"mean": np.ones(8), "precision": np.eye(8)}, {}, OptionError, r"mean has shape \(8,\), expected"),
        ({"mean": np.ones(64), "precision": np.eye(64)}, {"density": "kde"}, OptionError, "no embeddings"),
        ({"embeddings": np.eye(9, 64)}, {"patch_map": True}, OptionError, "no patch_mean and patch"),
        (
            {"embeddings": np.eye(9, 64), "patch_mean": np.ones(8), "patch_precision": np.eye(8)},
            {"patch_map": True}, OptionError, r"patch_mean has shape \(8,\), expected \(64,\)",
        ),
        ({"embeddings": np.ones((9, 64))}, {}, HostError, "all 9 embeddings are equal"),
        ({"embeddings": np.full((9, 64), np.nan)}, {}, CheckpointError, "no finite"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused(
    tmp_path: Path, given: dict[str, Any], options: dict[str, Any], error: type[Exception], said: str
) -> None:
    path = save(tmp_path, added().state_dict())
    with pytest.raises(error, match=said):
        load(path, density_arrays=arrays(tmp_path, **given), **options)
