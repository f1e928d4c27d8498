"""`check_fixed_order`: whether positions in a dataset may serve as sample ids."""

from __future__ import annotations

import hashlib
from typing import Any

import tensorflow as tf

from tf_prac.errors import DataError

CHECKED = 256


def check_fixed_order(dataset: tf.data.Dataset, name: str = "dataset") -> None:
    """Reads the start of a dataset twice, and refuses it if the two passes differ.

    A shuffled dataset has another order in each pass, so its positions identify no samples. Random
    augmentation also changes elements, but not the order: passes whose labels agree are accepted,
    unless all labels are the same and tell nothing.

    Args:
        dataset: unbatched elements (x, y) or (x, y, sample_weight); the first 256 are read, in
            eager mode only.
        name: name of the data, for the error. Default "dataset".

    Raises:
        DataError: If the passes differ.
    """
    if not tf.executing_eagerly():
        return
    first, second = (_digests(dataset.take(CHECKED)) for _ in range(2))
    if first == second:
        return
    labels = [label for _, label in first]
    if labels == [label for _, label in second] and len(set(labels)) > 1:
        return
    raise DataError(
        f"{name}: two passes over the data differ; allowed: the same samples in the same order in "
        "every pass, or with sample ids. Do not shuffle before this; call "
        "tf_prac.with_sample_ids before shuffle()."
    )


def _digests(elements: tf.data.Dataset) -> list[tuple[bytes, bytes]]:
    """Returns hashes of the inputs and of the labels of each element."""
    return [(_digest(x), _digest(y)) for x, y, *_ in elements]


def _digest(part: Any) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for leaf in tf.nest.flatten(part, expand_composites=True):
        array = leaf.numpy()
        is_text = isinstance(array, bytes) or array.dtype == object
        digest.update(repr(array if is_text else array.shape).encode())
        digest.update(b"" if is_text else array.tobytes())
    return digest.digest()
