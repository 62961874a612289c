"""DRAEM in the authors' layout, against a second definition, from picture file to score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from definitions.draem_plain import (
    AnomalibBlock,
    Discriminative,
    OfficialBlock,
    Reconstructive,
    authors_verdict,
    randomise,
)
from sspcab_edge.errors import CheckpointError, EdgeError, HostError, OptionError
from sspcab_edge.preprocess import decode_picture, prepare
from sspcab_export.checkpoints import checkpoint_files, read_checkpoint
from sspcab_export.hosts import HostOptions, LoadedHost, load_host

CHANNELS = {
    "encoder.block5": 64,
    "encoder.block1.3": 8,
    "decoder.db4.3": 8,
    "decoder.db4.6": 8,
    "decoder_segment.db4.3": 4,
    "encoder_segment.block6": 32,
}
"""Where the tests put a block, and the channels there at widths 8 and 4."""


def networks(block_at: str | None = "encoder.block5", k: int = 1, d: int = 1) -> tuple[nn.Module, nn.Module]:
    """Both networks, small and random, with a block at the given place."""
    reconstructive, discriminative = Reconstructive(8), Discriminative(4)
    if block_at is not None:
        parent, _, name = block_at.rpartition(".")
        root = discriminative if "_segment" in block_at else reconstructive
        stage = root.get_submodule(parent)
        block = OfficialBlock(CHANNELS[block_at], k, d, r=4)
        stage.add_module(name, block)
    return randomise(reconstructive, 1), randomise(discriminative, 2)


def save_pair(folder: Path, reconstructive: nn.Module, discriminative: nn.Module) -> Path:
    """The authors' two files."""
    torch.save(reconstructive.state_dict(), folder / "run_.pckl")
    torch.save(discriminative.state_dict(), folder / "run__seg.pckl")
    return folder


def load(path: Path, **options: object) -> LoadedHost:
    return load_host(read_checkpoint(checkpoint_files([path])), HostOptions(**options))  # type: ignore[arg-type]


def assert_same_verdicts(
    host: LoadedHost, reconstructive: nn.Module, discriminative: nn.Module, pictures: list[Path]
) -> None:
    for path in pictures:
        score, anomaly = authors_verdict(reconstructive, discriminative, path)
        frame = prepare(decode_picture(path).pixels, host.preprocess)
        got, maps = host.source.infer({"frames": frame[None]})
        assert maps is not None
        assert got[0] == pytest.approx(score, abs=2e-6)
        np.testing.assert_allclose(maps[0], anomaly, atol=2e-5)


@pytest.mark.parametrize("place", CHANNELS)
def test_the_block_is_found_wherever_it_sits(tmp_path: Path, place: str, photographs: list[Path]) -> None:
    pair = networks(place)
    host = load(save_pair(tmp_path, *pair))
    assert [block.path for block in host.blocks] == [place]
    assert host.blocks[0].dialect == "official"
    assert host.blocks[0].channels == CHANNELS[place]
    assert_same_verdicts(host, *pair, photographs[:1])


def test_two_blocks_in_both_networks(tmp_path: Path, photographs: list[Path]) -> None:
    reconstructive, discriminative = networks("encoder.block5")[0], networks("decoder_segment.db4.3")[1]
    host = load(save_pair(tmp_path, reconstructive, discriminative))
    assert [b.path for b in host.blocks] == ["encoder.block5", "decoder_segment.db4.3"]
    assert_same_verdicts(host, reconstructive, discriminative, photographs[:1])


@pytest.mark.parametrize(("k", "d"), [(1, 0), (1, 3), (2, 1), (3, 2)])
def test_sub_kernel_comes_from_the_weights_and_dilation_from_the_option(
    tmp_path: Path, k: int, d: int, photographs: list[Path]
) -> None:
    pair = networks("decoder.db4.3", k, d)
    host = load(save_pair(tmp_path, *pair), dilation=d)
    assert (host.blocks[0].kernel, host.blocks[0].dilation) == (k, d)
    assert_same_verdicts(host, *pair, photographs[:1])


def test_swapping_colours_or_concatenation_would_be_seen(tmp_path: Path, photographs: list[Path]) -> None:
    """The comparison above has teeth: RGB and BGR give clearly different scores on these pictures."""
    pair = networks()
    host = load(save_pair(tmp_path, *pair))
    for path in photographs:
        frame = prepare(decode_picture(path).pixels, host.preprocess)
        right, wrong = host.source.infer({"frames": np.stack([frame, frame[..., ::-1]])})[0]
        assert abs(right - wrong) > 1e-4


@pytest.mark.parametrize("layout", ["one-file", "safetensors", "safetensors-pair", "wrapped", "parallel"])
def test_every_way_of_saving_gives_the_same_host(
    tmp_path: Path, layout: str, photographs: list[Path]
) -> None:
    pair = networks()
    states = [module.state_dict() for module in pair]
    path = tmp_path / "model.pt"
    if layout == "one-file":
        torch.save({"model": states[0], "model_seg": states[1], "epoch": 700}, path)
    elif layout == "wrapped":
        torch.save({"state_dict": {**states[0], **states[1]}}, path)
    elif layout == "parallel":
        torch.save({f"module.{k}": v for s in states for k, v in s.items()}, path)
    elif layout == "safetensors":
        path = tmp_path / "model.safetensors"
        save_file({f"{n}.{k}": v for n, s in zip("ab", states, strict=True) for k, v in s.items()}, path)
    else:
        path = tmp_path / "run.safetensors"
        save_file(states[0], path)
        save_file(states[1], tmp_path / "run_seg.safetensors")
    assert_same_verdicts(load(path), *pair, photographs[:1])


def test_half_precision_weights_are_read_as_float(tmp_path: Path) -> None:
    pair = networks()
    for module in pair:
        module.half()
    host = load(save_pair(tmp_path, *pair))
    frame = np.zeros((1, 256, 256, 3), np.uint8)
    assert host.source.infer({"frames": frame})[0].dtype == np.float32


def test_a_draem_without_the_block_needs_the_option(tmp_path: Path, photographs: list[Path]) -> None:
    pair = networks(None)
    save_pair(tmp_path, *pair)
    with pytest.raises(HostError, match="--allow-no-block"):
        load(tmp_path)
    assert_same_verdicts(load(tmp_path, allow_no_block=True), *pair, photographs[:1])


def test_swapped_files_are_refused(tmp_path: Path) -> None:
    reconstructive, discriminative = networks()
    save_pair(tmp_path, discriminative, reconstructive)
    with pytest.raises(CheckpointError, match="swapped"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("lost", "said"), [("run__seg.pckl", "only the rec"), ("run_.pckl", "only the disc")]
)
def test_half_a_pair_is_refused(tmp_path: Path, lost: str, said: str) -> None:
    save_pair(tmp_path, *networks())
    (tmp_path / lost).unlink()
    with pytest.raises(CheckpointError, match=said):
        load(tmp_path)


def damaged(tmp_path: Path, key: str, change: object) -> Path:
    """A pair in which one tensor of the reconstructive network is changed or, for None, removed."""
    reconstructive, discriminative = networks()
    save_pair(tmp_path, reconstructive, discriminative)
    state = dict(reconstructive.state_dict())
    tensor = state.pop(key)
    if callable(change):
        state[key] = change(tensor)
    torch.save(state, tmp_path / "run_.pckl")
    return tmp_path


@pytest.mark.parametrize(
    ("key", "change", "said"),
    [
        ("encoder.block2.0.weight", lambda t: t * float("nan"), "no finite numbers"),
        ("encoder.block5.conv1.weight", lambda t: t / 0, "no finite numbers"),
        ("encoder.block2.1.running_var", lambda t: t + float("inf"), "no finite numbers"),
        ("encoder.block2.0.weight", lambda t: t[:, :4], r"takes 4 channels, expected 8"),
        ("encoder.block2.0.weight", None, r"no .*encoder\.block2\.0\.weight"),
        ("encoder.block2.1.bias", lambda t: t[:3], r"shape \(3,\), expected \(16,\)"),
        ("encoder.block2.1.running_mean", None, r"no encoder\.block2\.1\.running_mean"),
        ("encoder.block5.se.fc1.weight", lambda t: t.T.contiguous(), "transposed"),
        ("encoder.block5.conv3.weight", None, "conv3"),
        ("decoder.fin_out.0.weight", lambda t: t[:2], "gives 2 channels, expected 3"),
    ],
)
def test_contradictions_in_the_weights_are_one_clear_line(
    tmp_path: Path, key: str, change: object, said: str
) -> None:
    with pytest.raises(HostError, match=said) as caught:
        load(damaged(tmp_path, key, change))
    assert "\n" not in str(caught.value)


def test_files_of_two_different_networks_are_refused(tmp_path: Path) -> None:
    """A reconstructive file whose later half comes from a wider network."""
    reconstructive, discriminative = networks()
    wide = randomise(Reconstructive(16), 3).state_dict()
    mixed = {k: wide[k] if k.startswith("decoder") else v for k, v in reconstructive.state_dict().items()}
    save_pair(tmp_path, reconstructive, discriminative)
    torch.save(mixed, tmp_path / "run_.pckl")
    with pytest.raises(HostError, match="different networks"):
        load(tmp_path)


def test_a_block_where_nothing_tells_when_it_runs_is_refused(tmp_path: Path) -> None:
    reconstructive, discriminative = networks(None)
    encoder = reconstructive.get_submodule("encoder")
    encoder.add_module("extra", OfficialBlock(64))
    with pytest.raises(HostError, match=r"block at encoder\.extra"):
        load(save_pair(tmp_path, reconstructive, discriminative))


def test_layers_that_have_no_place_are_refused(tmp_path: Path) -> None:
    reconstructive, discriminative = networks()
    reconstructive.get_submodule("decoder").add_module("side", nn.Conv2d(8, 8, 1))
    with pytest.raises(HostError, match="no place for"):
        load(save_pair(tmp_path, reconstructive, discriminative))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dialect": "oficial"}, "unknown dialect 'oficial'"),
        ({"dilation": -1}, "dilation d is -1"),
        ({"dilation": 40}, "dilation 40"),
        ({"dialect": "tensorflow", "dilation": 15}, "reflect padding"),
        ({"input_size": (250, 256)}, "multiples of 32"),
    ],
)
def test_impossible_options_are_refused(tmp_path: Path, options: dict[str, object], said: str) -> None:
    save_pair(tmp_path, *networks())
    with pytest.raises(OptionError, match=said):
        load(tmp_path, **options)


def test_dialects_give_different_scores_and_the_option_wins_and_is_recorded(
    tmp_path: Path, photographs: list[Path]
) -> None:
    """The same weights under official and anomalib: each as its definition computes it, and not alike."""
    reconstructive, discriminative = networks("decoder_segment.db4.3")
    save_pair(tmp_path, reconstructive, discriminative)
    official = load(tmp_path)
    overridden = load(tmp_path, dialect="anomalib")
    assert overridden.blocks[0].dialect == "anomalib"
    assert overridden.overrides == {"dialect": "anomalib"}
    assert_same_verdicts(official, reconstructive, discriminative, photographs)

    stage = discriminative.get_submodule("decoder_segment.db4")
    theirs = stage.get_submodule("3").state_dict()
    block = AnomalibBlock(4, r=4)
    renamed = {
        key.replace("conv", "masked_conv").replace("se.", "attention_module."): value
        for key, value in theirs.items()
    }
    block.load_state_dict(renamed)
    stage.add_module("3", block.eval())
    assert_same_verdicts(overridden, reconstructive, discriminative, photographs)
    frame = prepare(decode_picture(photographs[0]).pixels, official.preprocess)[None]
    assert (
        abs(official.source.infer({"frames": frame})[0][0] - overridden.source.infer({"frames": frame})[0][0])
        > 1e-4
    )


def test_keys_that_tell_two_dialects_are_refused_unless_one_is_given(tmp_path: Path) -> None:
    reconstructive, discriminative = networks()
    state = {
        key.replace("block5.se.", "block5.attention_module."): value
        for key, value in reconstructive.state_dict().items()
    }
    save_pair(tmp_path, reconstructive, discriminative)
    torch.save(state, tmp_path / "run_.pckl")
    with pytest.raises(HostError, match="--dialect"):
        load(tmp_path)
    assert load(tmp_path, dialect="official").blocks[0].dialect == "official"


def test_weights_of_something_else_are_refused_with_the_hosts_that_are_known(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 3).state_dict(), tmp_path / "mlp.pt")
    with pytest.raises(EdgeError, match=r"no known host .*draem"):
        load(tmp_path / "mlp.pt")
