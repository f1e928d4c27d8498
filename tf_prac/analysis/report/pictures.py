"""Images of samples for a page: which ones to show, and their PNG data URIs."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tf_prac.analysis.images import displayable, is_image
from tf_prac.analysis.report.html import Html, tag
from tf_prac.data.forgetting import ForgettingStats
from tf_prac.data.prac_set import PracSet

if TYPE_CHECKING:
    from tf_prac.data.splits import Split

MAX_IMAGES, MAX_PIXELS = 20, 64


def hardest(rounds: Sequence[ForgettingStats]) -> np.ndarray:
    """Returns ids of samples that no round classified correctly, the most presented first."""
    never = rounds[0].never_learned.copy()
    seen = np.zeros(never.shape, np.int64)
    for stats in rounds:
        never &= stats.never_learned | ~stats.seen
        seen += stats.presentations
    ids = np.flatnonzero(never)
    return ids[np.argsort(-seen[ids], kind="stable")][:MAX_IMAGES]


def most_forgotten(rounds: Sequence[ForgettingStats]) -> tuple[np.ndarray, np.ndarray]:
    """Returns ids of the samples with the most forgetting events over all rounds, and counts."""
    events = np.stack([stats.events for stats in rounds]).sum(0, dtype=np.int64)
    order = np.argsort(-events, kind="stable")
    ids = order[events[order] > 0][:MAX_IMAGES]
    return ids, events[ids]


def forgotten_by_pruning(prac_set: PracSet) -> np.ndarray:
    """Returns up to `MAX_IMAGES` ids of CEP, evenly spaced."""
    cep = prac_set.cep
    return cep[np.linspace(0, len(cep) - 1, min(MAX_IMAGES, len(cep))).astype(int)]


def gallery(train: Split, ids: np.ndarray, notes: Sequence[str] = ()) -> Html:
    """Returns the images of samples, each with its class and a note.

    Args:
        train: the samples; images with one or three channels.
        ids: ids of the samples to show.
        notes: a note for each. Default (): none.
    """
    batch = train.samples.inputs(ids)
    figures = []
    for n, (sample, image) in enumerate(zip(ids.tolist(), batch, strict=True)):
        name = class_name(train, train.samples.labels[sample])
        title = ", ".join([f"sample {sample}", name, *notes[n : n + 1]])
        picture = tag("img", src=data_uri(image), alt=title, title=title)
        caption = [name, *(tag("b", note) for note in notes[n : n + 1])]
        figures.append(tag("figure", picture, tag("figcaption", caption)))
    return tag("div", figures, class_="gallery")


def class_name(train: Split, label: int) -> str:
    """Returns the name of a class, or its number if it has none."""
    names = train.samples.classes
    return f"class {label}" if names is None or names[label].isdigit() else names[label]


def has_images(train: Split) -> bool:
    """Whether samples can be shown as images."""
    return is_image(train.samples.input_shape)


def data_uri(image: np.ndarray) -> str:
    """Returns an image, subsampled to at most 64 pixels a side, as a PNG data URI."""
    step = -(-max(image.shape[:2]) // MAX_PIXELS)
    pixels = displayable(image[::step, ::step])
    if pixels.dtype != np.uint8:
        pixels = np.round(255 * pixels).astype(np.uint8)
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode()


def png(pixels: np.ndarray) -> bytes:
    """Returns the PNG file of an image, uint8 [height, width] or [height, width, 3]."""
    height, width = pixels.shape[:2]
    rows = np.concatenate(
        [np.zeros((height, 1), np.uint8), pixels.reshape(height, -1)], axis=1
    )  # each row starts with its filter: none
    color = 2 if pixels.ndim == 3 else 0
    header = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
