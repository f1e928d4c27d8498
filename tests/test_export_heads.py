"""Probabilities of every kind of output in an export, and exports of text models."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import tensorflow as tf

from tf_prac import export, prune, snapshot, weight_report
from tf_prac.errors import ArgumentError, MismatchError
from tf_prac.export import serving, vectors
from tf_prac.export.fresh_process import reason, run_keras
from tf_prac.export.serving import outputs_of, serve
from tf_prac.export.verify import example_inputs
from tf_prac.keras_api import FLAVORS

both = pytest.mark.parametrize("flavor", FLAVORS)
X = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)


def sigmoid(values):
    return 1 / (1 + np.exp(-np.asarray(values)))


def softmax(values):
    exponents = np.exp(np.asarray(values))
    return exponents / exponents.sum(-1, keepdims=True)


@both
def test_each_head_is_served_with_its_own_probability(flavor):
    keras = importlib.import_module(flavor)
    inputs = keras.Input((5,))
    heads = {"one": 1, "several": 4, "classes": 3}
    outputs = {n: keras.layers.Dense(units, name=n)(inputs) for n, units in heads.items()}
    losses = {
        "one": keras.losses.BinaryCrossentropy(from_logits=True),
        "several": "binary_crossentropy",
        "classes": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    }
    expected = {"one": sigmoid, "several": sigmoid, "classes": softmax}
    for nested in (outputs, list(outputs.values())):
        model = keras.Model(inputs, nested)
        served = serve(model, softmax=True, loss=losses)
        logits = model(X)
        for name, values in outputs_of(served, {next(iter(served.inputs)): X}).items():
            index = list(heads).index(name)
            own = logits[name] if isinstance(logits, dict) else logits[index]
            np.testing.assert_allclose(values, expected[name](own), atol=1e-5)
    single = keras.Model(inputs, outputs["one"])
    served = serve(single, softmax=True)
    found = outputs_of(served, {next(iter(served.inputs)): X})
    np.testing.assert_allclose(found["probabilities"], sigmoid(single(X)), atol=1e-5)
    assert np.ptp(found["probabilities"]) > 0.01


@both
def test_the_check_compares_with_the_keras_model_itself(flavor, monkeypatch, tmp_path):
    keras = importlib.import_module(flavor)
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4), keras.layers.Dense(1)])
    monkeypatch.setitem(serving.GRAPH, "sigmoid", tf.nn.softmax)  # 1.0 for every sample
    with pytest.raises(MismatchError, match="probabilities: the served function differs from the"):
        export.saved_model(prune(model, sparsity=0.5), tmp_path / "export", softmax=True)
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize("wrong", ["order", "training", "softmax"])
def test_a_wrong_graph_is_refused(wrong, monkeypatch, tmp_path):
    """Vectors in another order, BatchNorm in training mode, or probabilities of another kind."""
    keras = importlib.import_module("keras")
    layers = [keras.Input((5,)), keras.layers.Dense(4), keras.layers.BatchNormalization()]
    model = keras.Sequential([*layers, keras.layers.Dense(4)])
    for number, weight in enumerate(w for w in model.weights if len(w.shape) == 1):
        weight.assign(np.full(weight.shape, 1.0 + number))
    message = "the served function differs from the Keras model"
    if wrong == "order":
        reads = vectors._reads

        def swapped(*arguments):
            names = reads(*arguments)
            return dict(
                zip(names, [*list(names.values())[1:], *list(names.values())[:1]], strict=True)
            )

        monkeypatch.setattr(vectors, "_reads", swapped)
        message = "outputs .* of the export differ from the model's"
    elif wrong == "training":
        call = type(model).__call__

        def trained(self, x, training=False):
            return call(self, x, training=tf.executing_eagerly() is False)

        monkeypatch.setattr(type(model), "__call__", trained)
    else:
        monkeypatch.setitem(serving.GRAPH, "softmax", tf.sigmoid)
    with pytest.raises(MismatchError, match=message):
        options = {"softmax": wrong == "softmax", "samples": X}
        export.saved_model(prune(model, sparsity=0.5), tmp_path / "export", **options)
    assert not (tmp_path / "export").exists()


@both
def test_probabilities_are_not_made_probabilities_again(flavor, tmp_path):
    keras = importlib.import_module(flavor)
    for units, activation in ((1, "sigmoid"), (3, "softmax")):
        layers = [keras.Input((5,)), keras.layers.Dense(units, activation=activation)]
        with pytest.raises(
            ArgumentError, match=f"False for a model whose output is a {activation}"
        ):
            export.saved_model(keras.Sequential(layers), tmp_path / "e", softmax=True, sparse=False)


TEXTS = np.array(["good film", "bad film", "very good", "very bad"])


@both
def test_text_models_are_pruned_and_exported(flavor, tmp_path):
    keras = importlib.import_module(flavor)
    layers = keras.layers
    words = layers.TextVectorization(max_tokens=20, output_sequence_length=4)
    words.adapt(tf.constant(TEXTS))
    network = keras.Sequential([
        keras.Input((1,), dtype="string"), words, layers.Embedding(20, 8),
        layers.GlobalAveragePooling1D(), layers.Dense(16, activation="relu"), layers.Dense(2),
    ])  # fmt: skip
    network(tf.constant(TEXTS[:, None]))
    assert sum(info.prunable for info in weight_report(network)) == 1
    assert all(value.dtype.kind in "fi" for value in snapshot(network).values())
    pruned = prune(network, sparsity=0.5)
    check = flavor == "keras"
    written = export.saved_model(pruned, tmp_path / "random", check=check)  # on its vocabulary
    assert written.max_error < 1e-5 if check else written.max_error is None
    with pytest.raises(ArgumentError, match="samples: received .*of shape"):
        export.saved_model(pruned, tmp_path / "wrong", samples=X)
    unknown = serve(network).inputs
    with pytest.raises(ArgumentError, match="samples of the text .*no vocabulary.*check=False"):
        example_inputs(unknown)


@both
@pytest.mark.parametrize(
    ("structure", "names"),
    [
        (lambda x, y, z: {"a": [x, y], "b": z}, ["a_0", "a_1", "b"]),
        (lambda x, y, z: {0: x, 1: [y, z]}, ["0", "1_0", "1_1"]),
        (lambda x, y, z: {1: x, 0: y}, ["1", "0"]),
        (lambda x, y, z: {"a": {"b": x, "c": (y, z)}}, ["a_b", "a_c_0", "a_c_1"]),
    ],
)
def test_nested_outputs_have_names_of_their_own(structure, names, flavor):
    keras = importlib.import_module(flavor)
    inputs = keras.Input((5,), name="x")
    outputs = structure(*(keras.layers.Dense(units)(inputs) for units in (3, 3, 2)))
    served = serve(keras.Model(inputs, outputs))
    assert sorted(served.outputs) == sorted(names)
    outputs_of(served, {"x": X})  # compares with the Keras model


@both
def test_outputs_with_one_name_are_refused(flavor):
    keras = importlib.import_module(flavor)
    inputs = keras.Input((5,))
    x, y, z = (keras.layers.Dense(2)(inputs) for _ in range(3))
    with pytest.raises(ArgumentError, match="outputs whose names differ as texts"):
        serve(keras.Model(inputs, {"a": [x, y], "a_0": z}))


SERVED_NAMES = {"my input": "my_input", "größe": "gr__e", "self": "input_self", "1st": "input_1st"}
SERVED_NAMES |= {"input:0": "input_0", "class": "input_class", "a.b-c": "a_b_c", "_x": "input_x"}
SERVED_NAMES |= {"my_input": "my_input_1", "other": "other"}


@both
def test_inputs_have_names_that_can_be_served(flavor, tmp_path):
    keras = importlib.import_module(flavor)
    inputs = {name: keras.Input((5,), name=name) for name in SERVED_NAMES}
    total = keras.layers.Concatenate()(list(inputs.values()))
    outputs = keras.layers.Dense(2)(total)
    samples = {name: X + i for i, name in enumerate(SERVED_NAMES.values())}
    for given in (list(inputs.values()), inputs):
        model = keras.Model(given, outputs)
        served = serve(model)
        assert list(served.inputs) == list(SERVED_NAMES.values())
        outputs_of(served, samples)
    place = tmp_path / "served"
    result = export.saved_model(model, place, masks={}, check=False)
    signature = tf.saved_model.load(place).signatures["serving_default"]
    names = set(signature.structured_input_signature[1])
    assert names == set(result.metadata["signature"]["inputs"]) == set(SERVED_NAMES.values())
    spec = tf.TensorSpec([None, 5], name="my input")
    with pytest.raises(ArgumentError, match="^inputs: received 'my input'; allowed: names of let"):
        serve(model, inputs=spec)


@both
def test_a_keras_file_with_named_inputs_is_run_by_name(flavor, tmp_path):
    keras = importlib.import_module(flavor)
    inputs = {"z": keras.Input((5,), name="z"), "a": keras.Input((3,), name="a")}
    x = [keras.layers.Dense(2)(each) for each in inputs.values()]
    model = keras.Model(inputs, {1: keras.layers.Subtract()(x), 0: [x[0]]})
    export.keras_file(model, tmp_path / "export", masks={}, check=False)
    samples = {"z": X, "a": X[:, :3]}
    outputs = run_keras(flavor, str(tmp_path / "export" / "model.keras"), samples)
    for name, value in outputs_of(serve(model), samples).items():
        np.testing.assert_allclose(outputs[name], value, atol=1e-5)


def test_the_reason_of_a_failure_is_its_first_line():
    text = "Exception encountered when calling Functional.call().\n\n\x1b[1mNo input.\x1b[0m\nAt: x"
    assert reason(ValueError(text)) == "No input." and reason(KeyError()) == "KeyError"
