"""Probabilities of every kind of output in an export, and exports of text models."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import tensorflow as tf

from tf_prac import export, prune, snapshot, weight_report
from tf_prac.errors import ArgumentError, MismatchError
from tf_prac.export import serving, vectors
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
