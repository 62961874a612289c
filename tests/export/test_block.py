"""SSPCAB in torch against the NumPy definition, and reading it back from state dicts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from definitions.sspcab_numpy import sspcab
from sspcab_edge.block import DIALECTS, BlockSpec
from sspcab_edge.errors import HostError, OptionError
from sspcab_export.block import SSPCAB, check_map_size, find_blocks, read_block_spec, rename_block

STEMS = {
    "official": ("conv", "se"),
    "anomalib": ("masked_conv", "attention_module"),
    "tensorflow": ("corner", "se"),
    "ssmctb": ("conv", "transformer"),
}


def shapes_of(module: torch.nn.Module, path: str = "") -> dict[str, tuple[int, ...]]:
    prefix = f"{path}." if path else ""
    return {prefix + key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}


def expected(block: SSPCAB, x: torch.Tensor, dialect: str, dilation: int) -> np.ndarray:
    convolution, attention = STEMS[block.dialect.name]
    state = {key: tensor.numpy() for key, tensor in block.state_dict().items()}
    return sspcab(
        x.numpy(),
        [state[f"{convolution}{number}.weight"] for number in range(1, 5)],
        [state[f"{convolution}{number}.bias"] for number in range(1, 5)],
        {key: array for key, array in state.items() if key.startswith("transformer.")}
        if attention == "transformer"
        else [state[f"{attention}.fc{layer}.{kind}"] for layer in (1, 2) for kind in ("weight", "bias")],
        dialect=dialect,
        dilation=dilation,
    )


@pytest.mark.parametrize("dilation", range(4))
@pytest.mark.parametrize("kernel", [1, 2, 3])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_computes_the_definition(dialect: str, kernel: int, dilation: int) -> None:
    torch.manual_seed(kernel * 7 + dilation)
    block = SSPCAB(9, dialect=dialect, kernel=kernel, dilation=dilation, reduction=4).double().eval()
    if dialect == "ssmctb":
        torch.nn.init.normal_(block.get_parameter("transformer.pos_embedding"))
    x = torch.randn(2, 9, 7, 11, dtype=torch.float64)
    with torch.no_grad():
        result = block(x).numpy()
    np.testing.assert_allclose(result, expected(block, x, dialect, dilation), rtol=0, atol=1e-12)


def test_same_weights_mean_different_things_in_different_dialects() -> None:
    """Row 7: the checkpoint's convolution i looks where the dialect says, and outputs differ as defined."""
    torch.manual_seed(0)
    checkpoint = {f"net.{key}": value for key, value in SSPCAB(8).state_dict().items()}
    (found,) = find_blocks({key: tuple(value.shape) for key, value in checkpoint.items()})
    x = torch.randn(1, 8, 9, 9)
    results = {}
    for dialect in ("official", "anomalib", "tensorflow"):
        spec = read_block_spec(found, dialect=dialect)
        block = SSPCAB.from_spec(spec).eval()
        renamed = rename_block(checkpoint, found, dialect)
        block.load_state_dict({key.removeprefix("net."): value for key, value in renamed.items()})
        with torch.no_grad():
            results[dialect] = block(x).numpy()
        np.testing.assert_allclose(results[dialect], expected(block, x, dialect, 1), atol=1e-5)
    for one, other in (("official", "anomalib"), ("official", "tensorflow"), ("anomalib", "tensorflow")):
        assert np.abs(results[one] - results[other]).max() > 0.05


def test_relabelled_convolutions_alone_do_not_convert_a_dialect() -> None:
    """anomalib with 2 and 3 exchanged still lacks the ReLU: hosts.md 1.2."""
    torch.manual_seed(0)
    official, anomalib = SSPCAB(8).eval(), SSPCAB(8, dialect="anomalib").eval()
    state = {f"masked_conv{a}": f"conv{b}" for a, b in ((1, 1), (2, 3), (3, 2), (4, 4))}
    own = official.state_dict()
    anomalib.load_state_dict(
        {
            key: own[state.get(key.split(".")[0], "se") + "." + key.split(".", 1)[1]]
            for key in anomalib.state_dict()
        }
    )
    x = torch.randn(1, 8, 9, 9)
    with torch.no_grad():
        assert (official(x) >= 0).all()
        assert (anomalib(x) < 0).any()
        positive = (anomalib(x) > 0) & (official(x) > 0)
        assert positive.any()


@pytest.mark.parametrize("path", ["", "encoder.block5", "model.0.net"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_keys_and_shapes_tell_the_block(dialect: str, path: str) -> None:
    block = SSPCAB(24, dialect=dialect, kernel=2, dilation=3, reduction=5)
    (found,) = find_blocks({"stem.conv1.weight": (8, 3, 3, 3), **shapes_of(block, path)})
    assert (found.path, found.dialect, found.kernel, found.channels) == (path, dialect, 2, 24)
    assert read_block_spec(found, dilation=3) == BlockSpec(
        path=path,
        dialect=dialect,
        kernel=2,
        dilation=3,
        reduction=0 if dialect == "ssmctb" else 6,
        channels=24,
    )


@given(channels=st.integers(8, 1024), reduction=st.integers(1, 64))
@settings(max_examples=200, deadline=None)
def test_reduction_gives_the_same_hidden_units(channels: int, reduction: int) -> None:
    hidden = max(1, channels // reduction)
    shapes: dict[str, tuple[int, ...]] = {f"conv{i}.weight": (channels, channels, 1, 1) for i in range(1, 5)}
    shapes |= {f"conv{i}.bias": (channels,) for i in range(1, 5)}
    shapes |= {"se.fc1.weight": (hidden, channels), "se.fc1.bias": (hidden,)}
    shapes |= {"se.fc2.weight": (channels, hidden), "se.fc2.bias": (channels,)}
    (found,) = find_blocks(shapes)
    spec = read_block_spec(found)
    assert channels // spec.reduction == hidden
    assert spec.reduction == 8 or channels // 8 != hidden


def test_several_blocks_are_found_in_order_of_path() -> None:
    shapes = shapes_of(SSPCAB(8), "b") | shapes_of(SSPCAB(16, dialect="anomalib"), "a.x")
    assert [(found.path, found.dialect) for found in find_blocks(shapes)] == [
        ("a.x", "anomalib"),
        ("b", "official"),
    ]


def test_a_squeeze_and_excitation_resnet_is_no_block() -> None:
    shapes: dict[str, tuple[int, ...]] = {
        "layer1.conv1.weight": (64, 256, 1, 1),
        "layer1.conv2.weight": (64, 64, 3, 3),
        "layer1.conv3.weight": (256, 64, 1, 1),
        "layer1.se.fc1.weight": (16, 256),
        "layer1.se.fc2.weight": (256, 16),
    }
    assert find_blocks(shapes) == []
    assert find_blocks({f"conv{number}.weight": (8, 8, 1, 1) for number in range(1, 5)}) == []


def broken(**changes: tuple[int, ...] | None) -> dict[str, tuple[int, ...]]:
    """The shapes of a block of 8 channels at ``b``; dots in names are written as two underscores."""
    shapes = shapes_of(SSPCAB(8), "b")
    for name, shape in changes.items():
        key = "b." + name.replace("__", ".")
        if shape is None:
            del shapes[key]
        else:
            shapes[key] = shape
    return shapes


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (broken(conv2__bias=None), r"'b': the checkpoint has no conv2\.bias"),
        (broken(conv4__weight=None), r"'b': the checkpoint has no conv4\.weight"),
        (broken(se__fc2__weight=None), r"'b': the checkpoint has no se\.fc2\.weight"),
        (broken(conv1__weight=(8, 8, 1, 2)), r"conv1\.weight has a 1x2 kernel, expected a square one"),
        (broken(conv1__weight=(8, 6, 1, 1)), r"conv1\.weight goes from 6 to 8 channels"),
        (broken(conv3__weight=(8, 8, 3, 3)), r"conv3\.weight has shape \(8, 8, 3, 3\), expected \(8, 8, 1"),
        (broken(conv1__weight=(8, 8)), r"conv1\.weight has shape \(8, 8\), expected 4 dimensions"),
        (broken(se__fc1__weight=(8, 1)), r"se\.fc1\.weight has shape \(8, 1\), .* as Paddle stores it"),
        (broken(se__fc2__weight=(8, 3)), r"se\.fc2\.weight has shape \(8, 3\), expected \(8, 1\)"),
        (broken(se__fc1__weight=(0, 8)), r"se\.fc1\.weight has no rows"),
    ],
)
def test_disagreeing_tensors_are_named(shapes: dict[str, tuple[int, ...]], message: str) -> None:
    (found,) = find_blocks(shapes)
    with pytest.raises(HostError, match=message):
        read_block_spec(found)


def test_hidden_units_that_no_reduction_gives_are_refused() -> None:
    shapes = broken(se__fc1__weight=(3, 8), se__fc1__bias=(3,), se__fc2__weight=(8, 3))
    (found,) = find_blocks(shapes)
    with pytest.raises(HostError, match="3 hidden units, which no reduction r of 8 channels gives"):
        read_block_spec(found)


def test_contradicting_keys_need_a_dialect() -> None:
    shapes = {
        key.replace("attention_module", "se"): shape
        for key, shape in shapes_of(SSPCAB(8, dialect="anomalib"), "b").items()
    }
    (found,) = find_blocks(shapes)
    assert found.dialect is None
    with pytest.raises(HostError, match=r"masked_conv1\.\.4 and the attention se.*--dialect"):
        read_block_spec(found)
    assert read_block_spec(found, dialect="official").dialect == "official"
    renamed = rename_block(dict.fromkeys(shapes, 0), found, "official")
    assert set(renamed) == set(shapes_of(SSPCAB(8), "b"))


def test_one_path_cannot_hold_two_blocks() -> None:
    both = shapes_of(SSPCAB(8), "b") | shapes_of(SSPCAB(8, dialect="anomalib"), "b")
    with pytest.raises(HostError, match=r"b holds the tensors of two blocks at once: conv, masked_conv"):
        find_blocks(both)


def test_impossible_options_are_refused() -> None:
    (found,) = find_blocks(shapes_of(SSPCAB(8)))
    with pytest.raises(OptionError, match="unknown dialect 'paddle'"):
        read_block_spec(found, dialect="paddle")
    with pytest.raises(OptionError, match="dilation d is -1, expected 0 or more"):
        read_block_spec(found, dilation=-1)
    with pytest.raises(OptionError, match="reduction 16 leaves no hidden unit"):
        SSPCAB(8, reduction=16)


@pytest.mark.parametrize(
    ("dialect", "dilation", "side"), [("official", 5, 6), ("anomalib", 20, 16), ("tensorflow", 7, 8)]
)
def test_dilation_must_fit_the_map(dialect: str, dilation: int, side: int) -> None:
    spec = BlockSpec(path="b", dialect=dialect, kernel=1, dilation=dilation, reduction=8, channels=8)
    with pytest.raises(OptionError, match=f"dilation {dilation} does not fit the block at 'b'"):
        check_map_size(spec, side, 100)
    check_map_size(spec, dilation + 2, dilation + 2)
    block = SSPCAB(8, dialect=dialect, dilation=dilation)
    assert block(torch.zeros(1, 8, dilation + 2, dilation + 2)).shape == (1, 8, dilation + 2, dilation + 2)


def test_an_attention_belongs_to_its_dialect() -> None:
    (successor,) = find_blocks(shapes_of(SSPCAB(8, dialect="ssmctb")))
    (first,) = find_blocks(shapes_of(SSPCAB(8)))
    with pytest.raises(
        HostError, match="its attention is called transformer, which the dialect official has"
    ):
        read_block_spec(successor, dialect="official")
    with pytest.raises(HostError, match="its attention is called se, which the dialect ssmctb has"):
        read_block_spec(first, dialect="ssmctb")


def test_an_attention_of_another_size_is_refused() -> None:
    shapes = shapes_of(SSPCAB(8, dialect="ssmctb"))
    shapes["transformer.mha.to_qkv.weight"] = (768, 64)
    (found,) = find_blocks(shapes)
    with pytest.raises(HostError, match=r"to_qkv.weight has shape \(768, 64\), expected \(960, 64\)"):
        read_block_spec(found)
