"""Containers brought to the weights of a network whose keys are known: each wrapper, copy and leftover."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from sspcab_edge.errors import CheckpointError, EdgeError, HostError, OptionError
from sspcab_export.checkpoints import read_checkpoint
from sspcab_export.checkpoints.keys import is_training_state
from sspcab_export.checkpoints.match import Matched, match

State = dict[str, Any]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.up = nn.Conv2d(4, 3, 3)


class Tied(nn.Module):
    """One network under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Net()
        self.again = self.body


def randomised(network: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return network


STATE: State = randomised(Net(), 1).state_dict()
OTHER: State = randomised(Net(), 2).state_dict()


def before(prefix: str, state: State = STATE) -> State:
    return {f"{prefix}{key}": value for key, value in state.items()}


def within(part: str, state: State = STATE) -> State:
    """A wrapper around the first submodule: its segment lies inside the keys."""
    return {key.replace("down.", f"down.{part}."): value for key, value in state.items()}


def matched(
    tmp_path: Path, content: Any, own: nn.Module | None = None, asked: tuple[str, ...] = ()
) -> Matched:
    path = tmp_path / "model.pt"
    torch.save(content, path)
    part = read_checkpoint([path]).parts[0]
    keys = (own or Net()).state_dict()
    return match(part.held, part.homes, keys, asked, "model.pt", "nets:make")


def assert_is(got: Matched, state: State = STATE) -> None:
    for key in state:
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(got.tensors[key], state[key]), key


ADAM = {"state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.ones(4)}}, "param_groups": [{"lr": 1e-3}]}
HYPER = {"lr": 1e-3, "mean": torch.zeros(3)}

CONTAINERS: dict[str, Callable[[], Any]] = {
    "bare": lambda: STATE,
    "state_dict": lambda: {"state_dict": STATE, "epoch": 3},
    "model_state_dict": lambda: {
        "model_state_dict": STATE, "optimizer_state_dict": ADAM, "loss": torch.ones(()),
    },
    "model": lambda: {"model": STATE, "optimizer": ADAM, "lr_scheduler": {"last": torch.ones(1)}},
    "net": lambda: {
        "net": STATE, "optim": ADAM, "epoch": torch.tensor(5), "rng_state": torch.get_rng_state(),
    },
    "network": lambda: {"network": STATE},
    "ema alone": lambda: {"ema": STATE, "ema_decay": 0.999},
    "teacher": lambda: {"teacher": STATE},
    "nested": lambda: {"a": {"b": {"c": {"state_dict": STATE}}}},
    "data parallel": lambda: before("module."),
    "compiled": lambda: before("_orig_mod."),
    "parallel and compiled": lambda: before("module._orig_mod."),
    "compiled and parallel": lambda: before("_orig_mod.module."),
    "compiled inside": lambda: within("_orig_mod"),
    "fsdp": lambda: {"model": before("_fsdp_wrapped_module.", within("_fsdp_wrapped_module"))},
    "checkpointed": lambda: within("_checkpoint_wrapped_module"),
    "lightning": lambda: {
        "state_dict": {**before("model._orig_mod."), "criterion.weight": torch.ones(3)},
        "hyper_parameters": HYPER,
        "optimizer_states": [ADAM],
        "callbacks": {"ModelCheckpoint": {"best": torch.ones(1)}},
        "loops": {"fit_loop": {"state_dict": {}}},
    },
    "fabric": lambda: {"model": before("_forward_module."), "optimizer": ADAM, "iteration": torch.tensor(4)},
    "mmcv": lambda: {"meta": {"epoch": 3}, "state_dict": before("module."), "optimizer": ADAM},
    "averaged": lambda: {"n_averaged": torch.tensor(4), **before("module.")},
    "profiled": lambda: {
        **STATE, "total_ops": torch.zeros(1), "total_params": torch.zeros(1),
        "down.0.total_ops": torch.zeros(1),
    },
    "copies": lambda: {"net": STATE, "ema_net": copy.deepcopy(STATE)},
    "list": lambda: [STATE],
    "pair with optimiser": lambda: (STATE, ADAM),
    "metrics": lambda: {"state_dict": {**before("model."), "val_auroc.preds": torch.ones(3)}},
    "another network": lambda: {"netG": STATE, "netD": {"0.weight": torch.ones(9)}},
    "parameter dict": lambda: {
        "state_dict": OrderedDict(STATE), "memory": nn.ParameterDict({"m": torch.ones(2)}),
    },
    "whole": lambda: Net().requires_grad_(False),
}  # fmt: skip


@pytest.mark.parametrize("kind", CONTAINERS)
def test_every_container_gives_the_network_s_weights(tmp_path: Path, kind: str) -> None:
    content = CONTAINERS[kind]()
    if isinstance(content, nn.Module):
        content.load_state_dict(STATE)
    got = matched(tmp_path, content)
    assert_is(got)
    changed = kind not in ("bare", "whole")
    assert bool(got.notes) == changed


def test_metadata_of_an_ordered_dict_is_no_weight(tmp_path: Path) -> None:
    state = Net().state_dict()
    assert state._metadata  # type: ignore[attr-defined]
    assert_is(matched(tmp_path, state), dict(state))


@pytest.mark.parametrize(
    ("content", "first", "second"),
    [
        ({"state_dict": STATE, "state_dict_ema": OTHER}, "state_dict", "state_dict_ema"),
        ({"net": STATE, "ema_net": OTHER}, "net", "ema_net"),
        ({**STATE, "ema": OTHER}, ".", "ema"),
        ({"state_dict": {**before("model."), **before("ema_model.module.", OTHER)}},
         "state_dict.model", "state_dict.ema_model.module"),
        ([STATE, OTHER], "0", "1"),
        ({**before("student."), **before("teacher.", OTHER)}, "student", "teacher"),
        ({**STATE, **before("module.", OTHER)}, ".", "module"),
    ],
    ids=["timm", "net", "beside", "lightning", "list", "teacher", "with and without module"],
)  # fmt: skip
def test_of_two_that_differ_both_are_named_and_one_is_asked_for(
    tmp_path: Path, content: Any, first: str, second: str
) -> None:
    with pytest.raises(HostError, match="they differ") as caught:
        matched(tmp_path, content)
    assert f"at {first}, {second}" in str(caught.value)
    assert f"--weights-key {first} or --weights-key {second}" in str(caught.value)
    assert_is(matched(tmp_path, content, asked=(first,)), STATE)
    got = matched(tmp_path, content, asked=(second,))
    assert_is(got, OTHER)
    assert any("not used" in note for note in got.notes)


def test_a_key_under_which_nothing_lies_is_said(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"--weights-key is emma, but .* lie at net, ema$"):
        matched(tmp_path, {"net": STATE, "ema": OTHER}, asked=("emma",))
    with pytest.raises(OptionError, match=r"lie at net$"):
        matched(tmp_path, {"net": STATE}, asked=("ema",))


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    content = {
        "state_dict": {**before("model.module."), "criterion.weight": torch.ones(3)},
        "net_d": {"0.weight": torch.ones(9)},
        "optimizer": ADAM,
    }
    said = "\n".join(matched(tmp_path, content).notes)
    assert "weights are named state_dict.model.module.* in the checkpoint: the prefix was taken off" in said
    assert "no output depends on state_dict.criterion.weight: left out" in said
    assert "the checkpoint holds net_d.0.weight beside the network: not used" in said


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({**STATE, "head.weight": torch.ones(2)}, r"it has head\.weight, which the network does not"),
        ({**before("model."), "head.weight": torch.ones(2)}, r"it has head\.weight, which"),
        ({k: v for k, v in STATE.items() if k != "up.bias"}, r"it lacks up\.bias"),
        ({**STATE, "up.weight": torch.ones(3, 4, 5, 5)}, r"shape \(3, 4, 5, 5\), the network expects"),
        ({**before("a."), "a.up.bias": torch.ones(9)}, r"a\.up\.bias has shape \(9,\)"),
    ],
)  # fmt: skip
def test_weights_that_nothing_explains_are_an_error(tmp_path: Path, content: State, said: str) -> None:
    with pytest.raises(HostError, match=said) as caught:
        matched(tmp_path, content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", ["body.", "again.", "both"])
def test_one_of_two_names_of_a_tensor_is_enough(tmp_path: Path, kept: str) -> None:
    state = randomised(Tied(), 1).state_dict()
    some = {key: value for key, value in state.items() if kept == "both" or key.startswith(kept)}
    save_file({key: value.clone() for key, value in some.items()}, tmp_path / "tied.safetensors")
    part = read_checkpoint([tmp_path / "tied.safetensors"]).parts[0]
    got = match(part.held, part.homes, Tied().state_dict(), (), "tied.safetensors", "nets:tied")
    assert_is(got, state)


def test_two_names_of_a_tensor_that_differ_are_refused(tmp_path: Path) -> None:
    state = {key: value.clone() for key, value in randomised(Tied(), 1).state_dict().items()}
    state["again.up.bias"] += 1
    with pytest.raises(HostError, match=r"body\.up\.bias and again\.up\.bias differ"):
        matched(tmp_path, state, Tied())


@pytest.mark.parametrize("saved", ["old", "new"])
@pytest.mark.parametrize("made", ["old", "new"])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_weight_normalisation_of_either_form_goes_into_either(tmp_path: Path, saved: str, made: str) -> None:
    forms: dict[str, Callable[..., Any]] = {
        "old": nn.utils.weight_norm, "new": nn.utils.parametrizations.weight_norm,
    }  # fmt: skip
    one = randomised(forms[saved](nn.Conv2d(3, 4, 3)), 1)
    other = forms[made](nn.Conv2d(3, 4, 3))
    got = matched(tmp_path, one.state_dict(), other)
    other.load_state_dict(got.tensors)
    picture = torch.ones(1, 3, 5, 5)
    torch.testing.assert_close(other(picture), one(picture))


def test_a_network_that_has_module_in_its_own_names(tmp_path: Path) -> None:
    own = nn.DataParallel(Net())
    for content in (STATE, before("module."), before("model.module.")):
        got = matched(tmp_path, content, own)
        assert set(got.tensors) == set(before("module."))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
            r"up\.bias is a quantised tensor",
        ),
        (lambda: torch.eye(3).to_sparse(), r"up\.bias is a sparse tensor"),
        (lambda: torch.empty(3, device="meta"), r"up\.bias is a tensor of the meta device"),
        (lambda: torch.ones(3, dtype=torch.complex64).conj(), r"up\.bias is a tensor that is conjugated"),
    ],
    ids=["quantised", "sparse", "meta", "conjugated"],
)
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.filterwarnings("ignore")
def test_tensors_without_plain_numbers_are_one_line(
    tmp_path: Path, make: Callable[[], torch.Tensor], said: str, zipped: bool
) -> None:
    path = tmp_path / "w.pt"
    torch.save({**STATE, "up.bias": make()}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=said) as caught:
        read_checkpoint([path])
    assert "\n" not in str(caught.value)


def test_a_file_of_safetensors_of_more_keys_is_one_line_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file({f"layer{number}.weight": torch.zeros(1) for number in range(11)}, tmp_path / "w.safetensors")
    monkeypatch.setattr("sspcab_export.checkpoints.read.MAX_TENSORS", 10)
    with pytest.raises(CheckpointError, match="holds 11 tensors, expected a network's: at most 10"):
        read_checkpoint([tmp_path / "w.safetensors"])


@pytest.mark.parametrize("long", [False, True])
def test_an_archive_that_lists_too_much_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, long: bool
) -> None:
    path = tmp_path / "many.pt"
    torch.save(STATE, path)
    if long:
        data = bytearray(path.read_bytes())
        end = data.rfind(b"PK\x05\x06")
        size = data[end + 12 : end + 16]
        record = b"PK\x06\x06" + (44).to_bytes(8, "little") + bytes(28) + bytes(size) + bytes(4) + bytes(8)
        data[end + 12 : end + 16] = b"\xff" * 4
        path.write_bytes(bytes(data[:end]) + record + bytes(data[end:]))
    monkeypatch.setattr("sspcab_export.checkpoints.archives.MAX_DIRECTORY", 100)
    with pytest.raises(
        CheckpointError, match=r"many\.pt is an archive whose list of contents has \d{3,4} bytes"
    ):
        read_checkpoint([path])


def test_a_container_of_more_keys_than_any_network_is_one_line(tmp_path: Path) -> None:
    one = torch.zeros(1)
    torch.save({f"layer{number}.weight": one for number in range(100_001)}, tmp_path / "many.pt")
    with pytest.raises(CheckpointError, match="more than 100000 tensors"):
        read_checkpoint([tmp_path / "many.pt"])


def test_many_prefixes_are_no_square_of_their_number() -> None:
    """A single layer fits under each of many prefixes, and a deep key has many ends."""
    own = {"weight": torch.zeros(1), "bias": torch.zeros(1)}
    held = {f"{'a.' * 20}layer{n}.{k}": torch.ones(1) * n for n in range(20_000) for k in own}
    with pytest.raises(HostError, match="20000 networks of the shape"):
        match(held, dict.fromkeys(held, ""), own, (), "many.pt", "nets:make")


segments = st.lists(
    st.sampled_from(["module", "_orig_mod", "_fsdp_wrapped_module", "_forward_module"]), max_size=3
)


@given(
    head=st.lists(st.sampled_from(["model", "net", "a", "module", "_orig_mod"]), max_size=4), inner=segments
)
def test_any_wrappers_anywhere(head: list[str], inner: list[str]) -> None:
    prefix = "".join(f"{part}." for part in head)
    down = "".join(f"{part}." for part in ("down", *inner))
    held = before(prefix, {key.replace("down.", down): value for key, value in STATE.items()})
    got = match(held, dict.fromkeys(held, ""), Net().state_dict(), (), "f", "n")
    assert_is(got)


@given(st.data())
def test_random_keys_are_one_line_or_the_weights(data: st.DataObject) -> None:
    names = st.sampled_from(["down.0.weight", "up.bias", "up", "", ".", "a..b", "module", "x.up.weight"])
    ends = st.sampled_from(["", ".up.bias", ".x"])
    held = {data.draw(names) + data.draw(ends): torch.ones(3) for _ in range(5)}
    with pytest.raises(EdgeError) as caught:
        match(held, dict.fromkeys(held, ""), Net().state_dict(), (), "f", "n")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ("optimizer optimizers optimizer_state_dict optimizer_states optim optimizer_G optG", True),
        ("optimiser lr_schedulers scheduler rng_state random_states callbacks loops d_optimizer opt", True),
        ("cuda_rng_state lr_scheduler_state_dict optim_state_dict LR_Scheduler optimizerG", True),
        ("model optimal_threshold options state_dict optical_flow optim_net network random rings", False),
    ],
)  # fmt: skip
def test_names_of_what_only_training_needs(names: str, expected: bool) -> None:
    assert {is_training_state(name) for name in names.split()} == {expected}
