"""`saved_model`: a SavedModel that stores only the remaining elements of pruned weights.

Pruned weights are written as values and gaps (`encoding.py`), in a few variables. An initializer,
which every loader of SavedModels runs, decodes them into the variables that the model reads;
these variables are not in the checkpoint. The served graph is the one that Keras would export.
"""

from __future__ import annotations

import logging
import os
import pathlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.checks import check_bool, check_choice
from tf_prac.errors import ArgumentError, FileError
from tf_prac.export.content import Content
from tf_prac.export.decoder import Decoder, decoded_variables, without_values
from tf_prac.export.destination import Destination, Export
from tf_prac.export.directory import write_metadata
from tf_prac.export.encoding import STORAGES
from tf_prac.export.load import read_weights
from tf_prac.export.slim import slim
from tf_prac.export.source import source_of
from tf_prac.export.verify import check_weights
from tf_prac.keras_api import quiet_log
from tf_prac.pruning.weights import snapshot
from tf_prac.storage.files import sha256

VARIABLES = "variables.data-00000-of-00001"


def saved_model(
    model_or_ticket: Any,
    directory: str | os.PathLike,
    *,
    model: Any = None,
    masks: Mapping[str, np.ndarray] | None = None,
    sparse: bool = True,
    storage: str = "float32",
    inputs: Any = None,
    preprocess: Callable[[Any], Any] | None = None,
    softmax: bool = False,
    metadata: Mapping[str, Any] | None = None,
    samples: Any = None,
    check: bool = True,
    overwrite: bool = False,
) -> Export:
    """Writes a SavedModel that is small on disk and that plain TensorFlow loads.

    It contains neither the optimizer nor Keras objects. Its signatures are `serving_default` and
    `serve`; assets/tf_prac.json describes its content. The written export is loaded in a new
    process where tf_prac cannot be imported, and compared with the outputs of the Keras model, both
    without TensorFloat-32.

    Example:

        >>> export = saved_model(network, "served/1", softmax=True)  # doctest: +SKIP
        >>> tf.saved_model.load("served/1").serve(images)["probabilities"]  # doctest: +SKIP

    Args:
        model_or_ticket: the network to serve: a built Keras model whose pruned weights are 0, or a
            `PracModel`. Or, for research, a `Ticket` or its directory: mask and rewind weights.
        directory: the directory to write; it must not exist unless `overwrite` is True.
        model: for a ticket, a built model of its architecture; it is not changed.
        masks: masks of the pruned weights, by name. By default those of the `PracModel` or ticket;
            for a plain model, the zeros of its prunable weights.
        sparse: whether to pack pruned weights; False writes every weight dense. Default True.
        storage: storage type of pruned weights: "float32" (exact), "float16", "bfloat16", or
            "int8" with one scale per output channel. The model computes in its own type in any
            case. Default "float32", the only one without `sparse`.
        inputs: the served input, a `tf.TensorSpec` or several by name. By default the model's.
        preprocess: a function that maps the served input to the model's input. Default None.
        softmax: whether to serve probabilities of the model's logits: by a sigmoid for outputs of
            one unit and those compiled with a binary loss, otherwise by a softmax.
            Default False.
        metadata: values to add to tf_prac.json, such as data set and accuracy. Default None.
        samples: inputs for the comparison, an array or several by name. By default random.
        check: whether to compare. Default True.
        overwrite: whether to replace an existing export. Default False.

    Returns:
        The `Export`.

    Raises:
        ArgumentError: If the directory exists, the inputs cannot be served, or a layer cannot be
            exported.
        MismatchError: If a masked weight is not zero; or after writing, if the stored weights
            differ from the model's, or the outputs by more than rounding explains.
        FileError: If the directory cannot be written.
    """
    check_choice("storage", storage, STORAGES)
    check_bool("sparse", sparse)
    check_bool("softmax", softmax)
    if not sparse and storage != "float32":
        raise ArgumentError("storage", storage, "float32 with sparse=False, as weights stay dense")
    destination = Destination(
        directory=directory, metadata=metadata, samples=samples, check=check, overwrite=overwrite
    )
    source = source_of(model_or_ticket, model=model, masks=masks)
    if sparse and masks is None and not source.masks:
        warnings.warn(
            f"{source.network.name} has neither masks nor zeros: exported dense.", stacklevel=2
        )
    if not source.masks:
        storage = "float32"  # nothing is packed
    kind = "sparse_saved_model" if sparse else "saved_model"
    with source.served(inputs, preprocess, softmax) as served:
        content = Content(source, served, sparse, storage)
        document = destination.document(source, kind, storage, content.description())
        rounded = content.rounded() if check else None
        with source.applied(rounded):
            expected = destination.expected(source.network, served)
        with destination.new_directory() as temporary:
            write(content, document, temporary)
            max_error = None
            if expected is not None:
                weights = rounded or snapshot(source.network)
                check_weights(temporary, read_weights(temporary, document)[0], weights)
                max_error = expected.compare("saved_model", temporary)
    return destination.export(document, max_error)


def write(content: Content, document: dict[str, Any], directory: pathlib.Path) -> None:
    """Writes a SavedModel with metadata `document` into an existing directory."""
    root = tf.Module(name="export")
    if content.plain:
        root.dense = list(content.plain.values())
    if content.extra:
        root.extra = content.extra
    decoded = []
    if content.stored:
        root.decoder = Decoder(content)
        decoded = decoded_variables(content)
    root.serve = content.function
    signature = content.function
    try:
        with without_values(decoded), quiet_log(logging.WARNING):
            tf.saved_model.save(
                root,
                str(directory),
                signatures={"serving_default": signature, "serve": signature},
                options=tf.saved_model.SaveOptions(experimental_custom_gradients=False),
            )
    except tf.errors.OpError as error:
        raise FileError(f"{directory}: cannot be written: {error.message}.") from error
    except AssertionError as error:
        raise ArgumentError(
            "model",
            content.source.network.name,
            "a model that tracks all objects it uses",
            str(error),
        ) from error
    (directory / "assets").mkdir(exist_ok=True)
    write_metadata(directory, document)
    graph, data = directory / "saved_model.pb", directory / "variables" / VARIABLES
    graph.write_bytes(slim(graph.read_bytes(), prefix=sha256(data)[:6]))
    (directory / "fingerprint.pb").unlink(missing_ok=True)  # TensorFlow does not need it
