"""`as_samples`: data of any kind as `Samples`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from tf_prac.checks import check_int
from tf_prac.data.adapters import Adapted, adapt
from tf_prac.data.checks import MEMORY_LIMIT_BYTES, are_class_numbers
from tf_prac.data.ids import identified
from tf_prac.data.nested import is_plain, read_nested
from tf_prac.data.scan import checked_elements, load_arrays
from tf_prac.data.source import ArraySamples, Samples
from tf_prac.data.stream import StreamSamples
from tf_prac.errors import ArgumentError

DATASET_OPTIONS = ("decode", "buffer_size", "check_order")


def as_samples(
    data: Any, *, memory_limit_bytes: int = MEMORY_LIMIT_BYTES, **options: Any
) -> Samples:
    """Returns data of any kind as `Samples`, which give each sample an id.

    Ids are positions if the order is the same in every pass. Shuffled data is taken too: its ids
    are positions in an order of the samples' content, which is the same for every shuffle.

    Example:

        >>> as_samples((np.zeros([4, 3], np.float32), [0, 1, 0, 1]))
        ArraySamples(arrays train: 4 of (3,), 2 classes)

    Args:
        data: one of

            - `Samples`, which are returned unchanged;
            - arrays (x, y) or (x, y, sample_weight), of NumPy, TensorFlow or pandas; categories of
              pandas become class numbers and class names;
            - a finite `tf.data.Dataset` of them, batched or not, shuffled or not, also with
              {"inputs": x, "sample_id": id} in place of x, with ids 0 to N - 1;
            - a `keras.utils.PyDataset` or `tf_keras.utils.Sequence`, in the order of its index;
            - a function that returns a generator, or another iterable, of batches as `fit` takes
              them, or of samples with one number as label; a generator itself is read once.

            x and y may be dictionaries of arrays, for several inputs and outputs, and x a tuple.
        memory_limit_bytes: a dataset with more bytes of inputs is not held in memory decoded, but
            read as `StreamSamples`; generators and iterables with more bytes are refused. Default
            4 GiB.
        **options: name, version, split, num_classes, classes, mean, std, rescale as in
            `ArraySamples`; for datasets also decode, buffer_size and check_order as in
            `StreamSamples`.

    Raises:
        ArgumentError: If the data is of another kind or infinite, or an option is not for it.
        DataError: If labels, inputs or ids are invalid, two passes have different samples, or the
            data is too large.
    """
    check_int("memory_limit_bytes", memory_limit_bytes, 0)
    if isinstance(data, Samples):
        if options:
            raise ArgumentError(", ".join(options), data, "no options with data that is Samples")
        return data
    adapted = adapt(data, options.get("name", "data"), memory_limit_bytes)
    if isinstance(adapted.data, tf.data.Dataset):
        return _from_dataset(adapted, memory_limit_bytes=memory_limit_bytes, **options)
    if names := [name for name in DATASET_OPTIONS if name in options]:
        allowed = "only with a tf.data.Dataset or a Keras PyDataset or Sequence"
        raise ArgumentError(", ".join(names), f"data of type {type(data).__name__}", allowed)
    inputs, labels, *weights = adapted.data
    if weights:
        options["weights"] = weights[0]
    return ArraySamples(inputs, labels, **_with_classes(adapted.classes, labels, options))


def _from_dataset(
    adapted: Adapted,
    *,
    memory_limit_bytes: int,
    check_order: bool = True,
    decode: Callable[[tf.Tensor], tf.Tensor] | None = None,
    buffer_size: int = 10_000,
    name: str = "dataset",
    **options: Any,
) -> Samples:
    dataset = identified(adapted, name, check_order=check_order)
    if decode is None and not is_plain(dataset.element_spec):
        images, labels, weights = read_nested(
            dataset, name, memory_limit_bytes, check_order=check_order
        )
        options = _with_classes(adapted.classes, labels, options)
        return ArraySamples(images, labels, weights=weights, name=name, **options)
    options = _with_classes(adapted.classes, None, options)
    elements = checked_elements(dataset, name)
    if decode is not None:
        elements = elements.map(
            lambda x, y: ({**x, "inputs": decode(x["inputs"])}, y),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
    arrays = load_arrays(elements, name, memory_limit_bytes, check_order=check_order)
    if arrays is not None:
        return ArraySamples(*arrays, name=name, **options)
    return StreamSamples(
        dataset,
        decode=decode,
        memory_limit_bytes=memory_limit_bytes,
        buffer_size=buffer_size,
        check_order=check_order,
        name=name,
        **options,
    )


def _with_classes(
    classes: Sequence[str] | None, labels: Any, options: dict[str, Any]
) -> dict[str, Any]:
    """Adds the names of the classes that the data has, if labels are class numbers.

    Args:
        classes: the names, or None.
        labels: of all samples; None if they are class numbers.
        options: of the user, which come first.
    """
    if classes is None or not (labels is None or are_class_numbers(labels)):
        return options
    return {"classes": classes, "num_classes": len(classes), **options}
