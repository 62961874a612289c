"""Known hosts find their weights in every container, and ask where two copies of a network differ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from definitions.draem_plain import Discriminative, OfficialBlock, Reconstructive, randomise
from sspcab_edge.errors import HostError, OptionError
from sspcab_export.checkpoints import checkpoint_files, read_checkpoint
from sspcab_export.hosts import HostOptions, LoadedHost, load_host
from sspcab_export.hosts.torch_source import DetectorSource

State = dict[str, Any]


def networks(seed: int) -> tuple[nn.Module, nn.Module]:
    reconstructive, discriminative = Reconstructive(8), Discriminative(4)
    discriminative.get_submodule("decoder_segment.db4").add_module("3", OfficialBlock(4, 1, 1, r=4))
    return randomise(reconstructive, seed), randomise(discriminative, seed + 10)


PAIR = networks(1)
REC, SEG = (dict(network.state_dict()) for network in PAIR)
REC_EMA, SEG_EMA = (dict(network.state_dict()) for network in networks(2))
ADAM = {"state": {0: {"exp_avg": torch.ones(4)}}, "param_groups": [{"lr": 1e-3}]}


def before(prefix: str, *states: State) -> State:
    return {f"{prefix}{key}": value for state in states for key, value in state.items()}


def load(folder: Path, *contents: Any, **options: Any) -> LoadedHost:
    for name, content in zip(("run_.pckl", "run__seg.pckl"), contents, strict=False):
        torch.save(content, folder / name)
    return load_host(read_checkpoint(checkpoint_files([folder])), HostOptions(**options))


def weights(host: LoadedHost) -> torch.Tensor:
    """All numbers of a host, in the order of its layers."""
    assert isinstance(host.source, DetectorSource)
    return torch.cat([tensor.float().flatten() for tensor in host.source.module.state_dict().values()])


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    return weights(load(tmp_path_factory.mktemp("plain"), REC, SEG))


CONTAINERS: dict[str, Callable[[], tuple[Any, ...]]] = {
    "two trainers' files": lambda: tuple(
        {"model": before("module.", state), "optimizer": ADAM, "epoch": torch.tensor(n)}
        for n, state in enumerate((REC, SEG))
    ),
    "averaged": lambda: tuple(
        {"n_averaged": torch.tensor(3), **before("module.", state)} for state in (REC, SEG)
    ),
    "lightning": lambda: (
        {"state_dict": {**before("model._orig_mod.", REC, SEG), "criterion.weight": torch.ones(3)},
         "hyper_parameters": {"lr": 1.0}, "optimizer_states": [ADAM]},
    ),
    "profiled": lambda: ({**REC, **SEG, "total_ops": torch.zeros(1), "encoder.total_ops": torch.zeros(1)},),
    "list": lambda: ([REC, SEG],),
    "whole": lambda: PAIR,
    "whole in one": lambda: ({"model": nn.ModuleDict({"rec": PAIR[0], "seg": PAIR[1]}), "ema": None},),
    "parallel, whole": lambda: ({"rec": nn.DataParallel(PAIR[0]), "seg": nn.DataParallel(PAIR[1])},),
    "copies": lambda: ({"model": {**REC, **SEG}, "ema": {**REC, **SEG}},),
}  # fmt: skip


@pytest.mark.parametrize("kind", CONTAINERS)
def test_every_container_gives_the_same_host(tmp_path: Path, kind: str, plain: torch.Tensor) -> None:
    host = load(tmp_path, *CONTAINERS[kind]())
    assert [block.channels for block in host.blocks] == [4]
    assert torch.equal(weights(host), plain)


def test_of_two_copies_that_differ_one_is_asked_for(tmp_path: Path, plain: torch.Tensor) -> None:
    content = {"model": {**REC, **SEG}, "ema": before("module.", REC_EMA, SEG_EMA)}
    with pytest.raises(HostError, match=r"at model, ema\.module: they differ.*--weights-key model or"):
        load(tmp_path, content)
    assert torch.equal(weights(load(tmp_path, content, weights_key=("model",))), plain)
    averaged = load(tmp_path, content, weights_key=("ema",))
    assert not torch.equal(weights(averaged), plain)
    assert averaged.overrides["weights-key"] == "ema"
    assert "weights at model are another copy of those at ema.module: not used" in averaged.assumptions
    with pytest.raises(OptionError, match=r"--weights-key is emma, but the weights in .* lie at model, ema"):
        load(tmp_path, content, weights_key=("emma",))


def test_of_two_networks_each_may_be_named(tmp_path: Path, plain: torch.Tensor) -> None:
    content = {"rec": REC, "seg": SEG, "rec_ema": REC_EMA, "seg_ema": SEG_EMA}
    got = load(tmp_path, content, weights_key=("rec", "seg"))
    assert torch.equal(weights(got), plain)
    with pytest.raises(HostError, match="--weights-key seg or --weights-key seg_ema"):
        load(tmp_path, content, weights_key=("rec",))
