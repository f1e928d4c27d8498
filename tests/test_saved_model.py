"""Sparse SavedModels: small, equal to the Keras model, loaded by everything, and trained again."""

from __future__ import annotations

import dataclasses
import json
import logging
import pathlib
import warnings

import numpy as np
import precision
import pytest
import tensorflow as tf
from halved import halved
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from tf_prac import (
    Masks,
    PracModel,
    Ticket,
    build_model,
    export,
    global_magnitude,
    load_sparse,
    prunable_weights,
    rewind,
    snapshot,
)
from tf_prac.errors import (
    ArgumentError,
    FileError,
    MismatchError,
    TfPracError,
    UnsafeFileError,
)
from tf_prac.export import architecture, writer
from tf_prac.export.directory import directory_bytes
from tf_prac.export.load import read_weights
from tf_prac.export.verify import check_weights, rounding_of
from tf_prac.keras_api import Flavor, flavor_of, named_weights, to_numpy

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*(np.object|tf.bool|distutils|imp module).*:DeprecationWarning"
)
FLAVORS = ("keras", "tf_keras")
ROUNDING = precision.rounding(1e-6)
IMAGES = np.random.default_rng(0).normal(size=(5, 12, 12, 3)).astype(np.float32)


def pruned(model, rate=0.9):
    """The model with an exact share of its prunable weights set to 0, and its masks."""
    masks = global_magnitude(prunable_weights(model), rate=rate)
    rewind(model, snapshot(model), masks)
    return model, masks


def small_network(flavor, softmax=False):
    """Convolutions, batch normalization with statistics, dropout, and a dense end."""
    keras = Flavor(flavor).module
    keras.utils.set_random_seed(3)
    layers = keras.layers
    x = inputs = keras.Input((12, 12, 3), name="image")
    x = layers.Conv2D(24, 3, name="conv")(x)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.Dropout(0.5, name="drop")(layers.ReLU(name="relu")(x))
    x = layers.Dense(64, name="hidden")(layers.Flatten(name="flat")(x))
    x = layers.Dense(10, name="logits", activation="softmax" if softmax else None)(x)
    model = keras.Model(inputs, x, name="small")
    generator = np.random.default_rng(1)
    for weight in named_weights(model):
        if len(weight.variable.shape) == 1:
            weight.variable.assign(generator.uniform(0.5, 1.5, weight.variable.shape))
    return model


def predict(model, x=IMAGES):
    return np.asarray(model(x, training=False))


def outputs(result, x=IMAGES):
    loaded = tf.saved_model.load(result.directory)
    return loaded.serve(tf.constant(x))


@pytest.fixture(scope="module", params=FLAVORS)
def exported(request, tmp_path_factory):
    """A pruned network and its export; that of Keras 3 is checked in a new process."""
    model, masks = pruned(small_network(request.param))
    directory = tmp_path_factory.mktemp("export") / "served"
    check = request.param == "keras"
    result = export.saved_model(model, directory, masks=masks, samples=IMAGES, check=check)
    return model, masks, result


def test_outputs_are_those_of_the_model(exported):
    model, _, result = exported
    expected = predict(model)
    checked = flavor_of(model).name == "keras"
    assert result.max_error <= ROUNDING if checked else result.max_error is None
    loaded = tf.saved_model.load(result.directory)
    served = loaded.signatures["serving_default"](image=tf.constant(IMAGES))
    assert list(served) == ["logits"]
    np.testing.assert_allclose(served["logits"], expected, atol=ROUNDING)
    for count in (1, 5):
        found = loaded.serve(tf.constant(IMAGES[:count]))["logits"]
        np.testing.assert_allclose(found, expected[:count], atol=ROUNDING)


def test_signatures_are_named_typed_and_free_in_the_batch(exported):
    loaded = tf.saved_model.load(exported[2].directory)
    assert set(loaded.signatures) == {"serving_default", "serve"}
    (given,) = loaded.signatures["serve"].structured_input_signature[1].values()
    assert (given.name, given.dtype, given.shape.as_list()) == (
        "image",
        "float32",
        [None, 12, 12, 3],
    )


def test_session_loader_gives_the_same(exported):
    model, _, result = exported
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], str(result.directory))
        signature = meta.signature_def["serving_default"]
        feed = {signature.inputs["image"].name: IMAGES}
        found = session.run(signature.outputs["logits"].name, feed)
    np.testing.assert_allclose(found, predict(model), atol=ROUNDING)


def test_exports_in_one_process_do_not_mix(exported, tmp_path):
    model, masks, result = exported
    before = snapshot(model)
    rewind(model, {name: value * 0.5 for name, value in before.items()})
    other = export.saved_model(model, tmp_path / "half", masks=masks, check=False)
    halved = predict(model)
    rewind(model, before)
    first, second, third = (
        tf.saved_model.load(d) for d in (result.directory, other.directory, result.directory)
    )
    for loaded, expected in ((first, predict(model)), (second, halved), (third, predict(model))):
        np.testing.assert_allclose(loaded.serve(IMAGES)["logits"], expected, atol=ROUNDING)
    del first
    np.testing.assert_allclose(third.serve(IMAGES)["logits"], predict(model), atol=ROUNDING)


def test_a_signature_outlives_the_loaded_object(exported):
    model, _, result = exported
    serve = tf.saved_model.load(result.directory).signatures["serving_default"]
    found = serve(image=tf.constant(IMAGES))["logits"]
    np.testing.assert_allclose(found, predict(model), atol=ROUNDING)


def test_the_model_saves_as_before_after_an_export(exported, tmp_path):
    model, _, _ = exported
    tf.train.Checkpoint(model=model).write(str(tmp_path / "checkpoint"))
    names = [name for name, _ in tf.train.list_variables(str(tmp_path / "checkpoint"))]
    assert sum("VARIABLE_VALUE" in name for name in names) >= len(named_weights(model))


def test_files_take_what_the_information_takes(exported):
    _, masks, result = exported
    rows = result.metadata["weights"]
    bound = sum(row["bound"] for row in rows)
    variables = result.directory / "variables" / "variables.data-00000-of-00001"
    assert variables.stat().st_size <= 1.1 * bound
    assert result.bytes == directory_bytes(result.directory)
    assert {row["encoding"] for row in rows if row["pruned"]} <= {"bitmask", "gaps"}
    assert {row["name"] for row in rows if row["pruned"]} == set(masks)
    assert not any("optimizer" in file.name for file in result.directory.rglob("*"))


def test_a_loader_builds_no_graph_that_nobody_runs(exported):
    model, masks, result = exported
    saved = SavedModel.FromString((result.directory / "saved_model.pb").read_bytes())
    (meta,) = saved.meta_graphs
    library = meta.graph_def.library.function
    assert not meta.meta_info_def.HasField("stripped_op_list")
    operations = {f.signature.name: [n.op for n in f.node_def] for f in library}
    assert len(operations) == 3  # the network, its signature, the decoder
    assert not any("SaveV2" in ops or "MergeV2Checkpoints" in ops for ops in operations.values())
    (decoder,) = [ops for ops in operations.values() if "DecodeCompressed" in ops]
    assert len(decoder) <= 65 + 4 * len(masks)  # every node costs load time
    (network,) = [ops for ops in operations.values() if "Conv2D" in ops]
    kernels = [w for w in named_weights(model) if len(w.variable.shape) > 1]
    assert network.count("ReadVariableOp") == len(kernels) + 1  # all vectors are one variable
    assert len(list(result.directory.rglob("*"))) == 7 and meta.ByteSize() < 12_000


@halved("flavor, rank", FLAVORS, [2, 3])
def test_layer_normalization_is_served_as_it_is(flavor, rank, tmp_path):
    """TensorFlow fuses it, and took the first vector of the joined ones for gamma."""
    keras = Flavor(flavor).module
    keras.utils.set_random_seed(3)
    inputs = hidden = keras.Input((6, 8) if rank == 3 else (8,))
    for _ in range(2):
        hidden = keras.layers.LayerNormalization()(keras.layers.Dense(8)(hidden))
    model, rng = keras.Model(inputs, keras.layers.Dense(3)(hidden)), np.random.default_rng(1)
    model.set_weights([each + 0.1 * rng.normal(size=each.shape) for each in model.get_weights()])
    model, _ = pruned(model, 0.5)
    x = rng.normal(size=(4, *inputs.shape[1:])).astype(np.float32)
    directory = export.saved_model(model, tmp_path / "served", check=False).directory
    loaded = tf.saved_model.load(str(directory))
    (served,) = loaded.serve(x).values()
    np.testing.assert_allclose(served, model(x), atol=1e-5)


def test_metadata_says_what_it_is(exported):
    _, masks, result = exported
    text = (result.directory / "assets" / "tf_prac.json").read_text()
    metadata = json.loads(text)
    assert metadata["kind"] == "export" and metadata["format"] == "sparse_saved_model"
    assert metadata["sparsity"] == masks.sparsity == pytest.approx(0.9, abs=1e-3)
    assert metadata["versions"]["tensorflow"] == tf.__version__
    assert metadata["signature"]["inputs"]["image"]["shape"] == [None, 12, 12, 3]


def test_round_trip_trains_on_and_masks_hold(exported):
    model, masks, result = exported
    loaded = load_sparse(result.directory)
    assert loaded.masks == masks and flavor_of(loaded) == flavor_of(model)
    for name, value in snapshot(model).items():
        np.testing.assert_array_equal(snapshot(loaded)[name], value)
    np.testing.assert_array_equal(predict(loaded), predict(model))
    losses = Flavor(result.metadata["keras"]).module.losses
    loaded.compile("adam", losses.SparseCategoricalCrossentropy(from_logits=True))
    loaded.fit(IMAGES, np.arange(5) % 10, epochs=2, verbose=0)
    for name, variable in loaded.prunable.items():
        value = to_numpy(variable)
        assert not value[~masks[name]].any() and value[masks[name]].any()
        assert not np.array_equal(value, snapshot(model)[name])


@pytest.mark.parametrize(
    "flavor, storage",
    [("keras", "float16"), ("tf_keras", "bfloat16"), ("keras", "int8"), ("tf_keras", "int8")],
)
def test_rounded_storage_is_smaller_and_close(flavor, storage, tmp_path):
    model, masks = pruned(small_network(flavor))
    exact = export.saved_model(model, tmp_path / "exact", masks=masks, check=False)
    check = (flavor, storage) == ("keras", "int8")  # one new process is enough: the same code
    small = export.saved_model(model, tmp_path / "small", masks=masks, storage=storage, check=check)
    assert small.bytes < exact.bytes
    served = outputs(small)["logits"]
    loaded = load_sparse(small.directory)
    assert loaded.masks == masks
    np.testing.assert_allclose(served, predict(loaded), atol=1e-5)
    largest = np.abs(predict(model)).max()
    np.testing.assert_allclose(served, predict(model), atol=0.03 * largest)
    assert np.abs(served - predict(model)).max() > 0


@pytest.mark.parametrize("flavor", FLAVORS)
def test_layers_without_a_single_weight_left(flavor, tmp_path):
    """The first, the last and two neighboring weights are all zero."""
    keras = Flavor(flavor).module
    widths = (30, 20, 25, 30, 15, 10)
    dense = [keras.layers.Dense(n, bias_initializer="ones") for n in widths]
    model = keras.Sequential([keras.Input((8,)), *dense])
    kernels = [w.variable for w in named_weights(model) if w.role == "kernel"]
    for number, kernel in enumerate(kernels):
        value = to_numpy(kernel)
        keep = (np.abs(value) > np.median(np.abs(value))) & (number in (1, 4))
        kernel.assign(np.where(keep, value, 0))
    x = np.random.default_rng(0).normal(size=(3, 8)).astype(np.float32)
    for storage in ("float32", "int8"):
        result = export.saved_model(model, tmp_path / storage, storage=storage, check=False)
        kept = sum(row["kept"] for row in result.metadata["weights"] if row["pruned"])
        assert load_sparse(result.directory).masks.remaining == kept > 0
        found = next(iter(outputs(result, x).values()))
        tolerance = ROUNDING if storage == "float32" else 0.1
        np.testing.assert_allclose(found, predict(model, x), atol=tolerance)


@pytest.mark.parametrize("flavor", FLAVORS)
def test_preprocessing_and_softmax_are_served(flavor, tmp_path):
    model, _ = pruned(small_network(flavor))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 12, 12, 3)).astype(np.uint8)
    result = export.saved_model(
        model,
        tmp_path / "served",
        preprocess=lambda x: tf.cast(x, tf.float32) / 255,
        inputs=tf.TensorSpec([None, 12, 12, 3], tf.uint8, name="pixels"),
        softmax=True,
        check=False,
    )
    loaded = tf.saved_model.load(result.directory)
    served = loaded.signatures["serving_default"](pixels=tf.constant(pixels))["probabilities"]
    expected = tf.nn.softmax(predict(model, pixels.astype(np.float32) / 255))
    np.testing.assert_allclose(served, expected, atol=ROUNDING)


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("nested", ["list", "dict"])
def test_several_inputs_and_outputs_have_names(flavor, nested, tmp_path):
    keras = Flavor(flavor).module
    left, right = keras.Input((4,), name="left"), keras.Input((3,))
    joined = keras.layers.Concatenate()([left, right])
    hidden = keras.layers.Dense(20, name="hidden")(joined)
    first = keras.layers.Dense(20, name="first")(hidden)
    second = keras.layers.Dense(2)(hidden)
    if nested == "list":
        model = keras.Model([left, right], [first, second])
        names, given = ("left", "inputs_1"), ["first", "dense"]
    else:
        right = keras.Input((3,), name="right")
        joined = keras.layers.Concatenate()([left, right])
        hidden = keras.layers.Dense(20, name="hidden")(joined)
        first = keras.layers.Dense(20, name="first")(hidden)
        second = keras.layers.Dense(2)(hidden)
        model = keras.Model({"left": left, "right": right}, {"x": first, "y": second})
        names, given = ("left", "right"), ["x", "y"]
    model, _ = pruned(model, 0.5)
    x = [np.ones((2, 4), np.float32), np.full((2, 3), 2, np.float32)]
    result = export.saved_model(model, tmp_path / "served", check=False)
    served = tf.saved_model.load(result.directory).signatures["serving_default"](
        **{name: tf.constant(value) for name, value in zip(names, x, strict=True)}
    )
    assert sorted(served) == sorted(given)
    expected = model(x if nested == "list" else dict(zip(names, x, strict=True)))
    for found, value in zip(
        (served[name] for name in given),
        expected if nested == "list" else (expected[name] for name in given),
        strict=True,
    ):
        np.testing.assert_allclose(found, value, atol=ROUNDING)


@pytest.mark.parametrize("flavor", FLAVORS)
def test_recurrent_and_embedding_weights(flavor, tmp_path):
    keras = Flavor(flavor).module
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32", name="tokens"),
            keras.layers.Embedding(50, 16),
            keras.layers.LSTM(12),
            keras.layers.Dense(3),
        ]
    )
    for weight in named_weights(model):
        value = to_numpy(weight.variable)
        if value.ndim > 1:
            weight.variable.assign(
                np.where(np.abs(value) > np.quantile(np.abs(value), 0.8), value, 0)
            )
    result = export.saved_model(model, tmp_path / "served", check=False)
    assert result.metadata["sparsity"] == pytest.approx(0.8, abs=0.01)
    tokens = np.arange(14, dtype=np.int32).reshape(2, 7)
    served = outputs(result, tokens)
    np.testing.assert_allclose(served["dense"], predict(model, tokens), atol=ROUNDING)
    assert load_sparse(result.directory).masks.sparsity == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("flavor", FLAVORS)
def test_negative_zeros_are_pruned(flavor, tmp_path):
    """`kernel * mask` and TFMOT's `strip_pruning` leave -0.0 where a pruned weight was negative."""
    keras = Flavor(flavor).module
    model = keras.Sequential([keras.Input((20,)), keras.layers.Dense(8, name="hidden")])
    kernel = model.layers[-1].kernel
    for rate in (0.05, 0.9):  # stored dense, and as positions
        mask = np.random.default_rng(0).random(kernel.shape) > rate
        kernel.assign(np.asarray(kernel) * mask)
        assert np.signbit(np.asarray(kernel)[~mask]).any()
        for storage in ("float32", "bfloat16"):
            place = tmp_path / f"{storage}_{rate}"
            result = export.saved_model(model, place, storage=storage, check=False)
            weights, masks = read_weights(place, result.metadata)
            np.testing.assert_array_equal(masks["hidden/kernel"], mask)
            if storage == "float32":
                check_weights(place, weights, snapshot(model))


@pytest.mark.parametrize("flavor", FLAVORS)
def test_a_layer_that_counts_its_calls_is_served_as_it_is(flavor, tmp_path):
    """A variable is read before it is assigned, also in a function that is called."""
    keras = Flavor(flavor).module

    class Counter(keras.layers.Layer):
        def build(self, shape):
            self.n = self.add_weight(name="n", shape=(), initializer="zeros", trainable=False)

        def call(self, x):
            count = tf.identity(self.n)
            self.n.assign(self.n + 1.0)
            return 0 * x + count

    layers = [keras.layers.Dense(64), keras.layers.Dense(64), Counter(), Counter()]
    model = keras.Sequential([keras.Input((4,)), *layers])
    for layer in layers[:2]:
        layer.kernel.assign(np.eye(*layer.kernel.shape))
    place = tmp_path / "served"
    export.saved_model(model, place, check=False)
    before = [float(np.asarray(layer.n)) for layer in layers[2:]]
    serve = tf.saved_model.load(place).signatures["serving_default"]
    counts = [float(next(iter(serve(tf.zeros((1, 4))).values()))[0, 0]) for _ in range(200)]
    np.testing.assert_array_equal(counts, before[1] + np.arange(200))
    functions = SavedModel.FromString((place / "saved_model.pb").read_bytes()).meta_graphs[0]
    library = functions.graph_def.library.function
    ordered = [n for f in library for n in f.node_def if n.op == "AssignVariableOp"]
    ordered = [n for n in ordered if any(i.startswith("^") for i in n.input)]
    assert len(ordered) >= 2


@pytest.mark.parametrize("flavor", FLAVORS)
def test_a_ticket_is_exported_with_its_rewind_weights(flavor, tmp_path):
    trained, masks = pruned(small_network(flavor))
    weights = {name: value + 1 for name, value in snapshot(trained).items()}
    ticket = Ticket(masks, weights, round=3, rewind_step=7)
    ticket.save(tmp_path / "ticket")
    before = snapshot(trained)
    result = export.saved_model(
        tmp_path / "ticket", tmp_path / "served", model=trained, check=False
    )
    for name, value in snapshot(trained).items():
        np.testing.assert_array_equal(value, before[name])
    assert result.metadata["content"] == "ticket" and result.metadata["ticket"]["round"] == 3
    loaded = load_sparse(result.directory)
    for name, value in masks.apply(weights).items():
        np.testing.assert_array_equal(snapshot(loaded)[name], value)
    with pytest.raises(ArgumentError, match="model: received None"):
        export.saved_model(ticket, tmp_path / "none")


@pytest.mark.parametrize("flavor", FLAVORS)
def test_a_model_without_zeros_is_exported_dense_and_said_so(flavor, tmp_path):
    model = small_network(flavor)
    with pytest.warns(UserWarning, match="small has neither masks nor zeros: exported dense"):
        result = export.saved_model(model, tmp_path / "served", check=False)
    assert result.metadata["sparsity"] == 0
    served = outputs(result)["logits"]
    np.testing.assert_allclose(served, predict(model), atol=ROUNDING)


@pytest.mark.parametrize("flavor", FLAVORS)
def test_a_dense_export_of_a_sparse_model_on_demand(flavor, tmp_path):
    model, masks = pruned(small_network(flavor))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dense = export.saved_model(model, tmp_path / "dense", sparse=False, check=False)
    sparse = export.saved_model(PracModel(model, masks=masks), tmp_path / "sparse", check=False)
    assert dense.bytes > 2 * sparse.bytes
    served = outputs(dense)["logits"]
    np.testing.assert_allclose(served, predict(model), atol=ROUNDING)
    assert load_sparse(dense.directory).masks == masks


# Bad input.


def files_of(directory):
    return {p: p.read_bytes() for p in pathlib.Path(directory).rglob("*") if p.is_file()}


def test_a_directory_that_exists_is_left_alone(exported, tmp_path):
    model, _, result = exported
    before = files_of(result.directory)
    with pytest.raises(ArgumentError, match="a directory that does not exist yet"):
        export.saved_model(model, result.directory)
    assert files_of(result.directory) == before
    (tmp_path / "notes.txt").write_text("mine")
    for overwrite, error in ((False, ArgumentError), (True, FileError)):
        with pytest.raises(error):
            export.saved_model(model, tmp_path, overwrite=overwrite)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_overwriting_replaces_the_export_whole(exported, tmp_path):
    model, _, _ = exported
    export.saved_model(model, tmp_path / "served", check=False)
    (tmp_path / "served" / "stray").write_text("old")
    export.saved_model(model, tmp_path / "served", check=False, overwrite=True)
    assert not (tmp_path / "served" / "stray").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["served"]


@pytest.mark.parametrize("flavor", FLAVORS)
def test_weights_under_the_mask_are_refused(flavor, tmp_path):
    model = small_network(flavor)
    masks = global_magnitude(prunable_weights(model), rate=0.9)
    count = int((~masks["conv/kernel"]).sum())
    with pytest.raises(MismatchError, match=f"conv/kernel has {count:,} non-zero weights"):
        export.saved_model(model, tmp_path / "served", masks=masks)
    with pytest.raises(MismatchError, match="'nothing/kernel'"):
        export.saved_model(model, tmp_path / "served", masks=Masks({"nothing/kernel": [True]}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("flavor", FLAVORS)
def test_what_cannot_be_served_is_refused_by_name(flavor, tmp_path):
    keras = Flavor(flavor).module
    place = tmp_path / "served"

    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__(name="mine")
            self.dense = keras.layers.Dense(20)

        def call(self, x):
            return self.dense(x)

    model = Subclassed()
    with pytest.raises(ArgumentError, match="a built model"):
        export.saved_model(model, place)
    model(np.ones((1, 6), np.float32))
    rewind(model, {n: np.where(v > 0, v, 0) for n, v in snapshot(model).items()})
    with pytest.raises(ArgumentError, match="inputs: received None; allowed: a tf.TensorSpec"):
        export.saved_model(model, place)
    with pytest.raises(ArgumentError, match="free first dimension"):
        export.saved_model(model, place, inputs=tf.TensorSpec([3, 6]))
    with pytest.raises(ArgumentError, match="known rank"):
        export.saved_model(model, place, inputs=tf.TensorSpec(None))
    fixed = keras.Sequential([keras.Input((6,), batch_size=3), keras.layers.Dense(2)])
    with pytest.raises(ArgumentError, match="free first dimension"):
        export.saved_model(fixed, place, masks={})
    with pytest.raises(ArgumentError, match="samples"):
        export.saved_model(
            model, place, inputs=tf.TensorSpec([None, 6], name="x"), samples=np.ones((2, 5))
        )
    assert not list(tmp_path.iterdir())
    result = export.saved_model(
        model, place, inputs=tf.TensorSpec([None, 6], name="x"), check=False
    )
    unknown = "does not describe the architecture|received the class 'Subclassed'"
    with pytest.raises(TfPracError, match=unknown):
        load_sparse(result.directory)
    again = load_sparse(result.directory, model=model)
    assert again.masks.sparsity == result.metadata["sparsity"]


@pytest.mark.parametrize("flavor", FLAVORS)
def test_a_layer_that_cannot_be_exported_is_named(flavor, tmp_path):
    keras = Flavor(flavor).module

    class Python(keras.layers.Layer):
        def call(self, x):
            return tf.reshape(tf.numpy_function(np.tanh, [x], tf.float32), [-1, 4])

        def compute_output_shape(self, shape):
            return shape

    class Eager(keras.layers.Layer):
        def call(self, x):
            if tf.is_symbolic_tensor(x) and not getattr(self, "lenient", False):
                raise RuntimeError("this layer needs values")
            return x

        def compute_output_shape(self, shape):
            return shape

    for kind, reason in ((Python, "numpy_function"), (Eager, "needs values")):
        layer = kind(name="culprit")
        layer.lenient = True
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), layer])
        layer.lenient = False
        with pytest.raises(ArgumentError, match=f"culprit.*{reason}"):
            export.saved_model(model, tmp_path / "served", masks={})
    assert not list(tmp_path.iterdir())


def test_what_is_no_export_is_refused(exported, tmp_path):
    with pytest.raises(FileError, match="not an export"):
        load_sparse(tmp_path)
    copy = tmp_path / "copy"
    (copy / "assets").mkdir(parents=True)
    text = (exported[2].directory / "assets" / "tf_prac.json").read_text()
    (copy / "assets" / "tf_prac.json").write_text(text)
    with pytest.raises(FileError, match="tf_prac.model.json.gz"):
        load_sparse(copy)
    details = exported[2].directory / "assets" / "tf_prac.model.json.gz"
    (copy / "assets" / details.name).write_bytes(details.read_bytes()[:-20])
    with pytest.raises(FileError, match="damaged, or of another export"):
        load_sparse(copy)
    (copy / "assets" / details.name).write_bytes(details.read_bytes())
    with pytest.raises(FileError, match="variables.index: missing"):
        load_sparse(copy)
    (copy / "assets" / "tf_prac.json").write_text(text[:-40])
    with pytest.raises(FileError, match="damaged"):
        load_sparse(copy)
    (copy / "assets" / "tf_prac.json").write_text(text.replace('"schema":1', '"schema":9'))
    with pytest.raises(FileError, match="newer"):
        load_sparse(copy)


def test_code_in_an_architecture_is_not_run(tmp_path):
    for flavor in FLAVORS:
        keras = Flavor(flavor).module
        model = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x + 1)])
        with pytest.warns(UserWarning, match="exported dense"):
            result = export.saved_model(model, tmp_path / flavor, check=False)
        with pytest.raises(UnsafeFileError, match="'Lambda'; it contains Python code"):
            load_sparse(result.directory)


def test_resnet_of_both_flavors_is_the_same_file(tmp_path):
    """The same weights give the same packed variables, whichever Keras holds them."""
    files = []
    weights = None
    for flavor in FLAVORS:
        model = build_model("resnet20", keras=flavor, input_shape=(32, 32, 3), num_classes=10)
        weights = weights or snapshot(model)
        rewind(model, weights)
        masks = global_magnitude(prunable_weights(model), rate=0.95)
        rewind(model, weights, masks)
        result = export.saved_model(model, tmp_path / flavor, masks=masks, check=False)
        files.append(result.metadata["weights"])
    assert files[0] == files[1]


def flipped(bit):
    """A function that flips one bit of the first kept element of a float32 array."""

    def change(value):
        bits = np.array(value).view(np.uint32).reshape(-1)
        bits[np.flatnonzero(bits)[0]] ^= np.uint32(1 << bit)
        return bits.view(np.float32).reshape(value.shape)

    return change


@pytest.mark.parametrize(
    "flavor, kind, bit",
    [
        ("keras", "saved_model", 0),
        ("tf_keras", "saved_model", 31),
        ("keras", "keras_file", 30),
        pytest.param("tf_keras", "keras_file", 30, marks=pytest.mark.slow),
    ],
)
def test_a_wrong_bit_of_a_weight_is_refused(kind, bit, flavor, tmp_path, monkeypatch):
    """The written weights have another bit: the lowest of the mantissa, sign, or exponent."""
    model, masks = pruned(small_network(flavor))
    name = "conv/kernel"

    def wrong(write):
        def write_wrong(*arguments, **options):
            before = snapshot(model)
            rewind(model, {**before, name: flipped(bit)(before[name])})
            try:
                return write(*arguments, **options)
            finally:
                rewind(model, before)

        return write_wrong

    if kind == "saved_model":
        monkeypatch.setattr(writer, "write", wrong_content(writer.write, name, flipped(bit)))
        message = "stores other values of conv/kernel"
    else:
        monkeypatch.setattr(model, "save", wrong(model.save))
        message = "more than the .* that rounding explains .*without TensorFloat-32"
    with pytest.raises(MismatchError, match=message):
        getattr(export, kind)(model, tmp_path / "e", masks=masks, samples=IMAGES)
    assert not (tmp_path / "e").exists()


def wrong_content(write, name, change):
    """`write` with one stored weight changed."""

    def write_wrong(content, document, directory):
        stored = content.stored[name]
        content.stored[name] = dataclasses.replace(stored, values=change(stored.values))
        group = next(group for group, names in content.groups.items() if name in names)
        content.packed[group] = content._pack(group)
        return write(content, document, directory)

    return write_wrong


def test_rounding_grows_with_sums_depth_and_coarser_layers():
    def rounding(units, dtype):
        keras = Flavor("keras").module
        layers = [keras.layers.Dense(n, dtype=dtype) for n in units]
        return rounding_of(keras.Sequential([keras.Input((50,)), *layers]))

    small = rounding([10], "float32")
    assert 1e-7 < small < rounding([5000, 10], "float32") < 3e-5
    assert small < rounding([10] * 9, "float32")
    assert 1e-2 < rounding([10], "mixed_bfloat16") < rounding([10] * 9, "mixed_bfloat16") < 0.1
    assert rounding([10], "float64") < 1e-13


def test_files_in_between_are_not_logged(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("tensorflow"), "propagate", True)
    with caplog.at_level(logging.INFO, logger="tensorflow"):
        tf.get_logger().info("seen")
        export.saved_model(pruned(small_network("keras"))[0], tmp_path / "served", check=False)
        architecture.export_dense(small_network("keras"), tmp_path / "dense")
        tf.get_logger().info("seen again")
    assert [record.message for record in caplog.records] == ["seen", "seen again"]
