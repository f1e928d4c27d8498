"""`saved_model`: a SavedModel whose pruned weights take the space of what is left of them.

Pruned weights are written as values and gaps (`encoding.py`), in a few variables. An initializer,
which every loader of SavedModels runs, decodes them once into the variables that the model reads;
those are not in the checkpoint. What is served is the graph that Keras itself would export.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from tf_prac.checks import check_choice
from tf_prac.errors import ArgumentError, FileError
from tf_prac.export.content import Content, description
from tf_prac.export.decoder import Decoder, left_out
from tf_prac.export.directory import METADATA, check_free, directory_bytes, new_directory
from tf_prac.export.encoding import STORAGES
from tf_prac.export.serving import outputs_of, serve
from tf_prac.export.source import source_of
from tf_prac.export.verify import compare, example_inputs
from tf_prac.storage.files import write_json


@dataclasses.dataclass(frozen=True)
class Export:
    """What was written.

    Attributes:
        directory: where.
        metadata: the content of its tf_prac.json.
        bytes: of all files.
        max_error: largest difference between the outputs of the exported model, loaded in a new
            process, and those of the Keras model; None if it was not checked.
    """

    directory: pathlib.Path
    metadata: dict[str, Any]
    bytes: int
    max_error: float | None


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
    """Writes a SavedModel that plain TensorFlow loads, small on disk as it stands.

    It has no optimizer and no Keras in it, the signatures `serving_default` and `serve`, and a
    file assets/tf_prac.json that says what it is. After writing it is loaded in a new process in
    which tf_prac cannot be imported, and its outputs are compared with those of the Keras model.

    Example:

        >>> export = saved_model(network, "served/1", softmax=True)  # doctest: +SKIP
        >>> tf.saved_model.load("served/1").serve(images)["probabilities"]  # doctest: +SKIP

    Args:
        model_or_ticket: a built Keras model whose pruned weights are 0, or a `PracModel`: what is
            served. Or a `Ticket`, or the directory of one: mask and rewind weights, for research.
        directory: where; it must not exist, unless `overwrite`.
        model: for a ticket, a built model of its architecture; it is unchanged afterwards.
        masks: which weights are pruned. Default: the masks of the `PracModel` or ticket; of a
            plain model, the zeros of its prunable weights.
        sparse: False writes every weight dense.
        storage: how values of pruned weights are stored: "float32" (exactly), "float16",
            "bfloat16", or "int8" with a scale for each output channel. The model computes in its
            own type either way.
        inputs: what is served, a `tf.TensorSpec` or several by name. Default: the model's inputs.
        preprocess: a function of the served inputs that gives the model's input. Default: none.
        softmax: whether to serve probabilities of a model that gives logits.
        metadata: figures to add to tf_prac.json, such as data set and accuracy.
        samples: inputs for the comparison, an array or several by name. Default: random ones.
        check: whether to compare.
        overwrite: whether to replace an export that is there.

    Raises:
        ArgumentError: a directory that exists; inputs that cannot be served; a layer that cannot
            be exported.
        MismatchError: non-zero weights under the masks, or outputs that differ after writing.
        FileError: the directory cannot be written.
    """
    check_choice("storage", storage, STORAGES)
    check_free(directory, overwrite)
    source = source_of(model_or_ticket, model=model, masks=masks)
    if sparse and masks is None and not source.masks:
        warnings.warn(
            f"{source.network.name} has neither masks nor zeros: exported dense.", stacklevel=2
        )
    with source.applied():
        served = serve(source.network, inputs=inputs, preprocess=preprocess, softmax=softmax)
        content = Content(source, served, sparse, storage)
        described = {
            **description(source, "sparse_saved_model" if sparse else "saved_model", storage),
            **content.description(),
            **(metadata or {}),
        }
        expected = None
        if check:
            samples = example_inputs(served.inputs, samples)
            with source.applied(content.rounded()):
                expected = outputs_of(served, samples)
        with new_directory(directory, overwrite) as temporary:
            write(content, described, temporary)
            error = None
            if expected is not None:
                error = compare("saved_model", temporary, samples, expected)
    path = pathlib.Path(directory)
    return Export(path, described, directory_bytes(path), error)


def write(content: Content, described: dict[str, Any], directory: pathlib.Path) -> None:
    """Writes a SavedModel into a directory that is there."""
    root = tf.Module(name="export")
    root.dense = list(content.plain.values())
    root.extra = content.extra
    decoded = []
    if content.stored:
        root.decoder = Decoder(content)
        decoded = [content.variables[name] for name in content.stored]
    root.serve = content.served.function
    notes = directory / METADATA
    write_json(notes, "export", described, indent=None)
    root.metadata = tf.saved_model.Asset(str(notes))
    signature = content.served.function
    try:
        with left_out(decoded):
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
            "model", content.source.network.name, "a model that tracks what it uses", str(error)
        ) from error
    notes.unlink()
    _leave_saving_out(directory)


def _leave_saving_out(directory: pathlib.Path) -> None:
    """Removes the graph that writes a checkpoint: a third of what every loader builds, never run.

    The fingerprint, which TensorFlow does not need, would be that of another graph.
    """
    path = directory / "saved_model.pb"
    saved = SavedModel.FromString(path.read_bytes())
    (meta,) = saved.meta_graphs
    saver, graph = meta.saver_def, meta.graph_def
    for node in [n for n in graph.node if n.name == saver.save_tensor_name.split(":")[0]]:
        for function in graph.library.function:
            if function.signature.name == node.attr["f"].func.name:
                graph.library.function.remove(function)
                break
        graph.node.remove(node)
        saver.save_tensor_name = saver.filename_tensor_name
    path.write_bytes(saved.SerializeToString(deterministic=True))
    (directory / "fingerprint.pb").unlink(missing_ok=True)
