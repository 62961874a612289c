"""Any network as host: what it takes and gives is told by options, by its file, and by trying it.

The source of truth is the network as it came with the contract around it in NumPy; the graph gets the same
contract as nodes. Neither knows of the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass, RemoveUnusedNodesPass

from sspcab_edge.errors import HostError, OptionError
from sspcab_edge.front_end_spec import Preprocess
from sspcab_edge.manifest import OtherRounding
from sspcab_edge.ports import Array
from sspcab_export.contract.inputs import InputSpec, make_picture, put_input
from sspcab_export.contract.scores import Recipe, is_map, is_score, make_score, parse_recipe, put_score
from sspcab_export.host_options import Colour
from sspcab_export.hosts.base import HostOptions, LoadedHost, Scored, refuse_unused
from sspcab_export.hosts.draem_network import IMAGENET_MEAN, IMAGENET_STD
from sspcab_export.needs import MissingOptions, Need, score_needs, size_need
from sspcab_export.networks.base import Expected, Network
from sspcab_export.networks.onnx_file import check_operators, picture_input

__all__ = ["ANOMALIB_THRESHOLD", "load_network"]

ANOMALIB_THRESHOLD = 0.5
"""Where anomalib 2 puts the threshold of ``pred_score`` when it exports (its post-processor's default)."""

OPTIONS = frozenset(
    {
        "allow_no_block", "colour", "factory", "input_range", "input_size", "map_output", "mean",
        "normalisation", "resize", "score", "std", "trust",
    }
)  # fmt: skip
"""What is told of any network."""

_SCORE_NAMES = ("score", "pred_score", "anomaly_score")
_MAP_NAMES = ("map", "anomaly_map")
_PROBE_SEED = 20211109
_PROBE_SIZES = ((256, 256), (224, 224), (64, 64), (32, 32), (512, 512))
"""(height, width) that a network is tried at whose size is not known."""

Shapes = Mapping[str, tuple[int, ...]]
Arrays = Mapping[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class NetworkSource:
    """A network with the contract around it."""

    network: Network
    spec: InputSpec
    recipe: Recipe
    size: tuple[int, int]
    batch: int | None
    shapes: Shapes

    def infer(
        self, inputs: Mapping[str, Array]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
        """Run the network as it came, one frame after the other.

        Raises:
            HostError: It fails.
        """
        scores, maps = [], []
        for frame in np.asarray(inputs["frames"], np.uint8):
            picture = make_picture(frame[None], self.spec)
            score, anomaly = make_score(self.recipe, self.network.run(picture), picture)
            scores.append(score)
            if anomaly is not None:
                maps.append(anomaly)
        return np.concatenate(scores), np.concatenate(maps) if maps else None

    def infer_otherwise(self, inputs: Mapping[str, Array]) -> tuple[Scored, OtherRounding]:
        """The same, the network in float64 or in another order of summation.

        Raises:
            HostError: It fails.
        """
        pictures = [make_picture(frame[None], self.spec) for frame in np.asarray(inputs["frames"], np.uint8)]
        outputs, method = self.network.run_otherwise(pictures)
        scored = [make_score(self.recipe, *one) for one in zip(outputs, pictures, strict=True)]
        maps = [anomaly for _, anomaly in scored if anomaly is not None]
        return (
            np.concatenate([score for score, _ in scored]),
            np.concatenate(maps) if maps else None,
        ), method

    def graph(self) -> ir.Model:
        """The network's own graph with the contract's nodes before and behind it.

        Raises:
            GraphError: The network cannot be turned into a graph.
            HostError: It holds what no engine can run.
        """
        model = self.network.graph((self.spec.channels, *self.size), self.batch)
        check_operators(model, self.network.where)
        graph = model.graph
        picture = picture_input(model, self.network.where)
        for weight in [value for value in graph.inputs if value is not picture]:
            graph.inputs.remove(weight)
        batch: int | str = "N" if self.batch is None else self.batch
        frames = ir.Value(
            name="frames",
            shape=ir.Shape([batch, *self.size, 3]),
            type=ir.TensorType(ir.DataType.UINT8),
        )
        picture.shape = ir.Shape([batch, self.spec.channels, *self.size])
        prepared = put_input(graph, picture, self.spec, frames)
        put_score(graph, self.recipe, prepared, self.shapes)
        ir.passes.Sequential(RemoveUnusedNodesPass(), NameFixPass())(model)
        return model


def load_network(
    network: Network, options: HostOptions, *, name: str, assumptions: Sequence[str] = ()
) -> LoadedHost:
    """Find out what the network takes and gives, and wrap it in the contract.

    Args:
        network: The network.
        options: What the user tells of it.
        name: The host's name in manifests.
        assumptions: What was assumed already.

    Raises:
        HostError: It cannot be run.
        MissingOptions: Its size, or what its score is, has to be told.
        OptionError: An option contradicts the network.
    """
    refuse_unused(options, OPTIONS, "a network of no known host")
    assumed = list(assumptions)
    expected = network.expected
    told = _size(network, options)
    spec = _input_spec(network.where, expected, options, assumed)
    if expected.batch not in (None, 1):
        raise HostError(
            f"{network.where} takes {expected.batch} pictures at once, expected 1 or a free batch size"
        )
    if told is None:
        raise _missing_size(network, options, spec)
    size = told
    given = _try(network, spec, size)
    shapes = {output: tuple(array.shape) for output, array in given.items()}
    recipe = _recipe(network.where, options, shapes, (spec.channels, *size))
    used = [recipe.source] if recipe.map is None else [recipe.source, recipe.map]
    _check_finite(network.where, {output: given[output] for output in used})
    batch = expected.batch or _batch(network, spec, size, shapes, used, assumed)
    if batch is not None:
        assumed.append("the graph is fixed to one frame a call")
    threshold = None
    if options.score is None and expected.label:
        threshold = ANOMALIB_THRESHOLD
        assumed.append(f"threshold {threshold} on pred_score, where anomalib exports it")
    resize = options.resize or ("antialias-linear" if threshold is not None else "opencv-linear")
    if options.resize is None:
        assumed.append(f"frames are resized with {resize}: the network does not tell")
    source = NetworkSource(network, spec, recipe, size, batch, shapes)
    _, maps = source.infer({"frames": np.zeros((1, *size, 3), dtype=np.uint8)})
    return LoadedHost(
        name=name,
        source=source,
        blocks=(),
        preprocess=Preprocess(width=size[1], height=size[0], resize=resize),
        map_size=None if maps is None else (maps.shape[1], maps.shape[2]),
        threshold=threshold,
        overrides=_overrides(options),
        assumptions=tuple(assumed),
        batch=batch,
        score=recipe.from_map,
    )


def _size(network: Network, options: HostOptions) -> tuple[int, int] | None:
    height, width = network.expected.height, network.expected.width
    if height is not None and width is not None:
        if options.input_size not in (None, (height, width)):
            raise OptionError(
                f"--input-size differs from {height}x{width}, which {network.where} is fixed to"
            )
        return height, width
    return options.input_size


def _missing_size(network: Network, options: HostOptions, spec: InputSpec) -> MissingOptions:
    """The size, and with it whatever else shows once the network has run at some other."""
    needs = [size_need()]
    for size in _PROBE_SIZES:
        try:
            given = _try(network, spec, size)
        except HostError:
            continue
        shapes = {output: tuple(array.shape) for output, array in given.items()}
        try:
            _recipe(network.where, options, shapes, (spec.channels, *size))
        except MissingOptions as error:
            needs += error.needs
        break
    return MissingOptions(f"{network.where} takes pictures of any size", needs)


def _input_spec(where: str, expected: Expected, options: HostOptions, assumed: list[str]) -> InputSpec:
    colour: Colour = options.colour or ("grey" if expected.channels == 1 else "RGB")
    low, high = options.input_range or (0.0, 1.0)
    mean, std = options.mean, options.std
    if options.normalisation == "imagenet":
        if mean or std:
            raise OptionError("--normalisation imagenet is a mean and std: give it or --mean and --std")
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    spec = InputSpec(colour, low, high, tuple(mean), tuple(std))
    if expected.channels not in (None, spec.channels):
        raise OptionError(
            f"{where} takes {expected.channels} channels, expected {spec.channels} for {colour} pictures"
        )
    told = [options.colour, options.input_range, options.normalisation, *mean, *std]
    if not any(one is not None for one in told):
        assumed.append(f"the network takes {colour} pictures in [0, 1]")
    return spec


def _try(network: Network, spec: InputSpec, size: tuple[int, int]) -> Arrays:
    """What the network gives for one picture of noise.

    Raises:
        HostError: It fails, or gives nothing.
    """
    frames = np.random.default_rng(_PROBE_SEED).integers(0, 256, (1, *size, 3)).astype(np.uint8)
    outputs = network.run(make_picture(frames, spec))
    if not outputs:
        raise HostError(
            f"{network.where} gives no tensors of floating point numbers, which scores and maps are"
        )
    return outputs


def _check_finite(where: str, outputs: Arrays) -> None:
    for name, array in outputs.items():
        if not np.isfinite(array).all():
            raise HostError(
                f"{where}: {name} holds values that are no finite numbers for a picture of noise: "
                "the training went wrong, or the picture is in another range (--input-range, --mean, --std)"
            )


def _batch(
    network: Network,
    spec: InputSpec,
    size: tuple[int, int],
    shapes: Shapes,
    used: Sequence[str],
    assumed: list[str],
) -> int | None:
    """1 where the network cannot take two pictures at once or mixes them up; None where it can.

    Only the outputs in use count. It has to be tried: even a file that says so may hold a fixed size inside.
    """
    single = [name for name in used if shapes[name][:1] != (1,)]
    if single:
        assumed.append(f"output {single[0]} has no batch axis")
        return 1
    pair = np.random.default_rng(_PROBE_SEED).integers(0, 256, (2, *size, 3)).astype(np.uint8)
    pictures = make_picture(pair, spec)
    try:
        both = network.run(pictures)
    except HostError:
        return 1
    for number in range(2):
        alone = network.run(pictures[number : number + 1])
        for name in used:
            one, two = alone[name], both[name]
            if len(two) != 2 or not np.allclose(two[number], one[0], rtol=1e-3, atol=1e-4):
                assumed.append(f"output {name} depends on what else is in the batch")
                return 1
    return None


def _recipe(where: str, options: HostOptions, shapes: Shapes, picture: tuple[int, ...]) -> Recipe:
    """The recipe with its source, from options or from names that exporters use."""
    if options.score is None:
        score = next((name for name in _SCORE_NAMES if name in shapes and is_score(shapes[name])), None)
        if score is None:
            raise MissingOptions(
                f"{where} gives {_said(shapes)}: which of it is the score is not known",
                score_needs(_proposals(shapes, picture)),
            )
        own = options.map_output or next((name for name in _MAP_NAMES if name in shapes), None)
        recipe = Recipe("output", score, own)
    else:
        recipe = parse_recipe(options.score, options.map_output)
    if recipe.source == "":
        recipe = _with_source(where, recipe, shapes, picture)
    for name in (recipe.source, recipe.map):
        if name is not None and name not in shapes:
            raise OptionError(f"{where} has no output {name!r}, expected one of {_said(shapes)}")
    _check(where, recipe, shapes, picture)
    return recipe


def _with_source(where: str, recipe: Recipe, shapes: Shapes, picture: tuple[int, ...]) -> Recipe:
    if recipe.kind == "error":
        fits = [name for name, shape in shapes.items() if shape[1:] == picture]
        what = "a reconstruction"
    else:
        fits = [name for name, shape in shapes.items() if is_map(shape)]
        what = "a map"
    if len(fits) != 1:
        need = Need("--map", fits[0] if fits else "NAME", f"which is it of {', '.join(fits or shapes)}")
        raise MissingOptions(
            f"{where} gives {_said(shapes)}: {len(fits) or 'none'} of it looks like {what}", [need]
        )
    return Recipe(recipe.kind, fits[0], None, recipe.side)


def _proposals(shapes: Shapes, picture: tuple[int, ...]) -> list[tuple[str, str | None]]:
    """Recipes that fit what a network gives, the likeliest first, with the output to name for each."""
    numbers = [name for name, shape in shapes.items() if is_score(shape)]
    maps = [name for name, shape in shapes.items() if is_map(shape) and shape[1:] != picture]
    images = [name for name, shape in shapes.items() if shape[1:] == picture]
    return [
        *((f"output:{name}", None) for name in numbers),
        *(("map-max", name if len(maps) > 1 else None) for name in maps),
        *(("error", name if len(images) > 1 else None) for name in images),
    ]


def _check(where: str, recipe: Recipe, shapes: Shapes, picture: tuple[int, ...]) -> None:
    shape = shapes[recipe.source]
    if recipe.kind == "output":
        if not is_score(shape):
            raise OptionError(f"{where}: {recipe.source} has shape {shape}, expected one number a picture")
        if recipe.map is not None and not is_map(shapes[recipe.map]):
            raise OptionError(
                f"{where}: {recipe.map} has shape {shapes[recipe.map]}, expected one map a picture"
            )
    elif recipe.kind == "error":
        if shape[1:] != picture:
            raise OptionError(
                f"{where}: {recipe.source} has shape {shape}, expected the picture's, {(1, *picture)}"
            )
    elif not is_map(shape):
        raise OptionError(
            f"{where}: {recipe.source} has shape {shape}, expected a map, (1, h, w) or (1, 1, h, w)"
        )


def _said(shapes: Shapes) -> str:
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())


def _overrides(options: HostOptions) -> dict[str, str]:
    def numbers(values: Sequence[float]) -> str | None:
        return ",".join(f"{value:g}" for value in values) or None

    given = {
        "colour": options.colour,
        "factory": options.factory,
        "input-range": None if options.input_range is None else "{:g}:{:g}".format(*options.input_range),
        "input-size": None if options.input_size is None else "x".join(map(str, options.input_size)),
        "map": options.map_output,
        "mean": numbers(options.mean),
        "normalisation": options.normalisation,
        "resize": options.resize,
        "score": options.score,
        "std": numbers(options.std),
        "trust": options.trust,
    }
    return {name: value for name, value in given.items() if value is not None}
