"""What a whole export is told: the command line, :func:`sspcab_export.export` and recipes are made from it.

Imports without torch and onnx.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import click

from sspcab_edge.bit_depth import BitDepth
from sspcab_edge.block import BlockForm
from sspcab_edge.manifest import Precision, Target
from sspcab_export.front_end_options import FrontEndOptions
from sspcab_export.host_options import HostOptions
from sspcab_export.option_field import option
from sspcab_export.progress import Progress

__all__ = ["ExportOptions", "Suspects"]

Suspects = Literal["exclude", "keep", "refuse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """Everything that an export is told but its checkpoint.

    Attributes:
        targets: What to export for, each once.
        precisions: Arithmetic of the artifacts, each once; int8 needs ``calibration``.
        calibration: Folder of normal pictures, or of videos for hosts that look at those: the threshold is
            fitted to half, int8 ranges are measured on a quarter, the gate judges on the rest.
        validation: Labelled images in a layout of :data:`sspcab_edge.datasets.LAYOUTS`: judged on, and fitted
            to without calibration.
        output: The bundle folder to make; None: the checkpoint's stem and ``-bundle``, in the working
            directory.
        force: Replace an older bundle at ``output``.
        threshold: The threshold itself, on the source's score scale.
        false_alarm_rate: Share of normal frames that may be flagged.
        quantile: Quantile of the normal scores to use as threshold instead.
        training: Normal pictures for hosts that are fitted to some at export, as CutPaste's density is; they
            get half of ``calibration`` without.
        bit_depth: How many bits are in use in images of 16 per channel; None: as many as they hold values
            of.
        suspects: What to do with calibration pictures that the source takes for anomalies.
        gates: Limits instead of the defaults, as in ``int8:rate=0.03``; see :mod:`sspcab_export.gates`.
        float_budget: Most layers to keep in float at a lower precision so that the gate is passed.
        sensitivity: Measure what each layer does at each lower precision, and put it into the report.
        block_form: ``custom-op`` keeps each block as one node in the fp32 ONNX artifact, for engines that
            bring a kernel of their own; ``reference`` keeps its branches, to measure what folding gains.
        name: What to call the model.
        release: The bundle's release number.
        host: What the checkpoint cannot tell, or what wins over what it tells.
        front_end: How frames become what the network looks at.
        progress: Told what happens.
    """

    targets: Sequence[Target] = option(
        ("onnx",), "Common", "Engine to export for; repeat for several.", flag="target"
    )
    precisions: Sequence[Precision] = option(
        ("fp32",), "Common",
        "Arithmetic of the artifacts; repeat for several. int8 needs --calibration.", flag="precision",
        by_default="fp32; of a bundle, all that it has",
    )  # fmt: skip
    calibration: str | Path | None = option(
        None, "Common",
        "Folder of normal pictures of your scene: half fit the threshold, a quarter gives the ranges of "
        "int8, the rest are judged.", metavar="DIR",
    )  # fmt: skip
    validation: str | Path | None = option(
        None, "Common",
        "Labelled images, as in MVTec AD (good/ and a folder per defect) and others: judged, "
        "with AUROC; without --calibration half of them fit the threshold (best F1).", metavar="DIR",
    )  # fmt: skip
    output: str | Path | None = option(
        None, "Common", "The bundle to make.", short="-o", metavar="BUNDLE",
        by_default="the checkpoint's stem and -bundle, here; a bundle given as CHECKPOINT is prepared or "
        "added to in place",
    )  # fmt: skip
    force: bool = option(False, "Common", "Replace an older bundle at the output, in one step.")
    threshold: float | None = option(
        None, "Images and threshold", "The threshold itself, on the model's own score scale."
    )
    false_alarm_rate: float | None = option(
        None, "Images and threshold", "Share of normal frames that may be flagged.", by_default="0.01"
    )
    quantile: float | None = option(
        None, "Images and threshold", "Quantile of the normal scores to take as threshold instead."
    )
    training: str | Path | None = option(
        None, "Images and threshold",
        "Normal pictures that a host is fitted to at export (CutPaste's density), such as those it was "
        "trained on.", metavar="DIR", by_default="half of --calibration",
    )  # fmt: skip
    bit_depth: BitDepth | None = option(
        None, "Images and threshold",
        "How many bits of images with 16 per channel are in use: 16 also for fewer that are shifted up.",
        by_default="as many as they hold values of",
    )  # fmt: skip
    suspects: Suspects = option(
        "exclude", "Images and threshold",
        "What to do with calibration pictures that the model itself takes for anomalies.",
    )  # fmt: skip
    gates: Sequence[str] = option(
        (), "Precision and gate",
        "What artifacts of a precision have to reach, not the default: flips (labels that may change), rate "
        "(95 % upper bound of the flip rate), auroc (drop), score and map (largest differences), map-mean "
        "(largest mean difference of a map), as in "
        "int8:rate=0.03. A failed gate names the option that what was found would pass; score and map of "
        "fp32 are wider where the model's own rounding is.", flag="gate", metavar="PRECISION:NAME=VALUE,...",
        by_default="fp32:flips=0,score=1e-4,map=1e-3,map-mean=5e-5  fp16:rate=0.01,auroc=0.005  "
        "int8:rate=0.02,auroc=0.005",
    )  # fmt: skip
    float_budget: int = option(
        8, "Precision and gate",
        "Most layers to keep in float at a lower precision so that it passes; the worst by measurement.",
        kind=click.IntRange(min=0),
    )  # fmt: skip
    sensitivity: bool = option(
        False, "Precision and gate",
        "Measure what each layer alone does to scores and verdicts at each lower precision, and print it.",
    )  # fmt: skip
    block_form: BlockForm = option(
        "folded", "Precision and gate",
        "folded is the equal graph that engines run fastest. custom-op keeps each block as one node, "
        "sspcab.edge::SSPCAB, in the fp32 ONNX artifact: for engines that bring a kernel of their own. "
        "reference keeps its branches: to measure what folding gains.",
    )  # fmt: skip
    name: str | None = option(None, "Output", "Name of the model.", by_default="the checkpoint's file name")
    release: int = option(1, "Output", "The bundle's release number.", kind=click.IntRange(min=1))
    host: HostOptions = field(default_factory=HostOptions)
    front_end: FrontEndOptions = field(default_factory=FrontEndOptions)
    progress: Progress | None = field(default=None, compare=False)
