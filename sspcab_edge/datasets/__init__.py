"""Data sets as they lie on disk: which files are images, which are masks, and which images are anomalous."""

from sspcab_edge.datasets.files import (
    UNREAD_IMAGES,
    VIDEO_SUFFIXES,
    ImageFiles,
    left_out,
    list_files,
    list_images,
    natural_key,
)
from sspcab_edge.datasets.labelled import LAYOUTS, Category, Dataset, LabelledImage, Layout, read_dataset
from sspcab_edge.datasets.masks import read_mask
from sspcab_edge.datasets.normal import NormalImages, read_normal_images

__all__ = [
    "LAYOUTS",
    "UNREAD_IMAGES",
    "VIDEO_SUFFIXES",
    "Category",
    "Dataset",
    "ImageFiles",
    "LabelledImage",
    "Layout",
    "NormalImages",
    "left_out",
    "list_files",
    "list_images",
    "natural_key",
    "read_dataset",
    "read_mask",
    "read_normal_images",
]
