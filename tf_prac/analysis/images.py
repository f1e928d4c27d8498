"""Images inside and outside a PrAC set (PrAC paper, Figure 9)."""

from __future__ import annotations

import os
import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

from tf_prac.data.sample_set import SampleSet
from tf_prac.plotting import save_figure

if TYPE_CHECKING:
    from tf_prac.data.splits import Split

CLASSES, COLUMNS = 10, 6


def image_rows(sample_set: SampleSet, train: Split) -> list[dict[str, Any]]:
    """Samples up to 6 images of each of the first 10 classes, inside and outside the set.

    They are drawn at random, the same in each call.

    Args:
        sample_set: the samples of a round.
        train: the training samples.

    Returns:
        Rows with the columns class, inside (True or False) and sample_id.
    """
    generator = np.random.default_rng(0)
    inside = np.isin(train.ids, sample_set.ids)
    rows = []
    for label in np.unique(train.labels)[:CLASSES]:
        for in_set in (True, False):
            ids = train.ids[(train.labels == label) & (inside == in_set)]
            chosen = np.sort(generator.choice(ids, min(COLUMNS, len(ids)), replace=False))
            rows += [{"class": int(label), "inside": in_set, "sample_id": int(i)} for i in chosen]
    return rows


def draw_images(
    stem: str | os.PathLike, sample_set: SampleSet, train: Split, title: str
) -> list[pathlib.Path]:
    """Draws the samples of `image_rows`: on the left those in the set, on the right the others.

    Returns:
        The written files; none if the samples are not images.
    """
    if not is_image(train.samples.input_shape):
        return []
    rows = image_rows(sample_set, train)
    ids = np.unique([row["sample_id"] for row in rows])
    batch = train.samples.inputs(ids)
    images = dict(zip(ids.tolist(), batch, strict=True))
    classes = sorted({row["class"] for row in rows})

    def draw(figure: Any) -> None:
        figure.suptitle(title)
        for half, in_set in zip(figure.subfigures(1, 2), (True, False), strict=True):
            half.suptitle("in the set" if in_set else "outside")
            grid = half.subplots(len(classes), COLUMNS, squeeze=False)
            for axes_row, label in zip(grid, classes, strict=True):
                samples = [r for r in rows if (r["class"], r["inside"]) == (label, in_set)]
                for axes in axes_row:
                    axes.axis("off")
                if in_set:
                    name = train.samples.classes[label] if train.samples.classes else str(label)
                    at = {"ha": "right", "va": "center", "transform": axes_row[0].transAxes}
                    axes_row[0].text(-0.1, 0.5, f"{name:.12}", fontsize=8, **at)
                for axes, row in zip(axes_row, samples, strict=False):
                    axes.imshow(displayable(images[row["sample_id"]]), cmap="gray")

    return save_figure(stem, rows, draw, size=(7.0, 0.55 * len(classes) + 0.8))


def is_image(shape: tuple[int, ...]) -> bool:
    """Whether inputs of this shape are grayscale or color images."""
    return len(shape) == 2 or (len(shape) == 3 and shape[-1] in (1, 3))


def displayable(image: np.ndarray) -> np.ndarray:
    """Returns an image for display: uint8, or floats scaled to [0, 1]."""
    image = image[..., 0] if image.ndim == 3 and image.shape[-1] == 1 else image
    if image.dtype == np.uint8:
        return image
    low, high = float(image.min()), float(image.max())
    return (image - low) / (high - low if high > low else 1.0)
