"""Gradient criteria and norms against finite differences and formulas, in float64."""

from __future__ import annotations

import importlib
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from halved import halved

from tf_prac import Masks, prunable_weights, rewind, snapshot
from tf_prac.data.source import ArraySamples
from tf_prac.data.splits import Split
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import FLAVORS
from tf_prac.pruning import gradient_criteria
from tf_prac.pruning.criteria import CRITERIA
from tf_prac.pruning.gradient_criteria import ScoringInputs
from tf_prac.search.scoring import few_of_each_class
from tf_prac.tasks.classification import Sparse, as_logits
from tf_prac.training import gradients
from tf_prac.training.gradients import GradientNorms
from tf_prac.training.inference import Predictor

both = pytest.mark.parametrize("flavor", FLAVORS)
RANDOM = np.random.default_rng(0)
INPUTS = RANDOM.normal(size=(12, 4, 4, 1))
LABELS = RANDOM.integers(0, 3, 12)


def network(flavor, last="linear", dtype="float64"):
    """A small convolutional network with smooth activations, built by seed 1."""
    keras = importlib.import_module(flavor)
    keras.utils.set_random_seed(1)
    layers, options = keras.layers, {"dtype": dtype}
    model = keras.Sequential(
        [
            layers.Input((4, 4, 1), dtype=dtype),
            layers.Conv2D(2, 3, activation="tanh", **options),
            layers.Flatten(**options),
            layers.Dense(4, activation="tanh", **options),
            layers.Dense(3, activation=last, **options),
        ]
    )
    return model


def inputs_of(model, last="linear", batches=None, weights=()):
    if batches is None:
        parts = zip(np.split(INPUTS, 2), np.split(LABELS, 2), strict=True)
        batches = [(tf.constant(x), tf.constant(y)) for x, y in parts]
    from_logits = last == "linear"
    task = Sparse(from_logits=from_logits)

    def loss(labels, outputs, temperature, weight=None):
        return tf.reduce_mean(task.weighted_losses(labels, outputs, weight, temperature))

    return ScoringInputs(model, prunable_weights(model), batches, from_logits, loss, weights)


def half_pruned(model):
    masks = {name: np.ones(v.shape, bool) for name, v in prunable_weights(model).items()}
    next(iter(masks.values()))[::2] = False
    return Masks(masks)


def reference_loss(model, last, temperature):
    """Mean cross-entropy by NumPy."""
    outputs = np.asarray(model(INPUTS, training=False))
    logits = (np.log(outputs) if last == "softmax" else outputs) / temperature
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    return -logs[np.arange(len(LABELS)), LABELS].mean()


def differences(variable, function, step=1e-5):
    """Central differences of a function of no arguments, for each element of a variable."""
    start = np.array(variable.numpy())
    found = []
    for place in np.ndindex(start.shape):
        ends = []
        for sign in (1, -1):
            moved = start.copy()
            moved[place] += sign * step
            variable.assign(moved)
            ends.append(function())
        found.append((ends[0] - ends[1]) / (2 * step))
    variable.assign(start)
    return np.array(found).reshape(*start.shape, *np.shape(found[0]))


@halved("flavor, last", FLAVORS, ["linear", "softmax"])
def test_snip_is_the_weight_times_the_difference_of_the_loss(flavor, last):
    model = network(flavor, last)
    rewind(model, snapshot(model), half_pruned(model))
    scores = gradient_criteria.snip(inputs_of(model, last))
    for name, variable in prunable_weights(model).items():
        slope = differences(variable, lambda: reference_loss(model, last, 1))
        expected = np.abs(variable.numpy() * slope)
        np.testing.assert_allclose(scores[name], expected, rtol=1e-5, atol=1e-9)
        assert expected.max() > 1e-4


@halved("flavor, temperature", FLAVORS, [1.0, 200.0])
def test_grasp_is_the_weight_times_hessian_times_gradient(flavor, temperature):
    """With H g as half the gradient of the squared gradient norm, by differences."""
    model = network(flavor)
    rewind(model, snapshot(model), half_pruned(model))
    variables = list(prunable_weights(model).values())

    def half_squared_norm():
        with tf.GradientTape() as tape:
            logits = model(tf.constant(INPUTS), training=False) / temperature
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(LABELS, logits)
            loss = tf.reduce_mean(losses)
        return sum(0.5 * np.square(g.numpy()).sum() for g in tape.gradient(loss, variables))

    scores = gradient_criteria.grasp(inputs_of(model), temperature)
    for name, variable in prunable_weights(model).items():
        expected = variable.numpy() * differences(variable, half_squared_norm)
        scale = np.abs(expected).max()
        assert scale > 0
        np.testing.assert_allclose(scores[name], expected, rtol=1e-4, atol=1e-6 * scale)
    assert gradient_criteria.GRASP_TEMPERATURE == 200


@both
def test_synflow_is_the_sum_over_paths(flavor):
    """Of a network of dense layers: |w1| times the paths into and out of each weight."""
    keras = importlib.import_module(flavor)
    keras.utils.set_random_seed(3)
    dense = keras.layers.Dense
    model = keras.Sequential(
        [keras.layers.Input((5,)), dense(4, activation="relu"), dense(3, activation="relu")]
        + [dense(2)]
    )
    masks = half_pruned(model)
    rewind(model, snapshot(model), masks)
    first, second, last = (np.abs(layer.kernel.numpy()) for layer in model.layers[-3:])
    into = np.ones(5) @ first
    out = second @ last @ np.ones(2)
    scores = gradient_criteria.synflow(inputs_of(model, batches=[(tf.ones([1, 5]), tf.ones([1]))]))
    names = list(masks)
    np.testing.assert_allclose(scores[names[0]], first * out[None], rtol=1e-5)
    expected = second * into[:, None] * (last @ np.ones(2))[None]
    np.testing.assert_allclose(scores[names[1]], expected, rtol=1e-5)
    # Synaptic flow is conserved: each layer's scores sum to the same R.
    assert scores[names[0]].sum() == pytest.approx(scores[names[1]].sum(), rel=1e-5)


@both
def test_synflow_of_a_deep_network_stays_within_float32(flavor):
    """Thirty layers of 64 x 64 ones: R is 64 ** 31, beyond float32, and all scores are equal."""
    keras = importlib.import_module(flavor)
    layers = [keras.layers.Dense(64, use_bias=False) for _ in range(30)]
    model = keras.Sequential([keras.layers.Input((64,)), *layers])
    for weight in model.weights:
        weight.assign(tf.ones(weight.shape))
    scores = gradient_criteria.synflow(inputs_of(model, batches=[(tf.ones([1, 64]), tf.ones([1]))]))
    assert len(scores) == 29
    for score in scores.values():
        np.testing.assert_allclose(score, 64.0**29 * 2.0**-160, rtol=1e-3)


@both
def test_synflow_refuses_probabilities(flavor):
    model = network(flavor, "softmax")
    with pytest.raises(ArgumentError, match="criterion: .*probabilities.*without the last softmax"):
        gradient_criteria.synflow(inputs_of(model, "softmax"))


@halved("flavor, last", FLAVORS, ["linear", "softmax"])
def test_grand_is_the_norm_of_each_samples_own_gradient(flavor, last):
    model = network(flavor, last, dtype="float32")
    masks = half_pruned(model)
    rewind(model, snapshot(model), masks)
    samples = ArraySamples(INPUTS.astype(np.float32), LABELS)
    norms = GradientNorms(
        model, prunable_weights(model), Sparse(from_logits=last == "linear").losses
    )
    ids = np.array([0, 3, 4, 7, 11])
    predictor, split = Predictor(model), Split(samples, ids)
    norms.set_masks(masks)
    found = predictor.gradient_norms(split, norms)
    names = {id(v): name for name, v in prunable_weights(model).items()}
    for place, number in enumerate(ids):
        with tf.GradientTape() as tape:
            outputs = model(INPUTS[number : number + 1].astype(np.float32))
            logits = as_logits(outputs) if last == "softmax" else outputs
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(LABELS[[number]], logits)
        squares = 0.0
        for variable, gradient in zip(
            model.trainable_variables,
            tape.gradient(loss, model.trainable_variables),
            strict=True,
        ):
            kept = masks[names[id(variable)]] if id(variable) in names else 1.0
            squares += np.square(gradient.numpy() * kept).sum()
        assert found[place] == pytest.approx(np.sqrt(squares), rel=1e-4)
    norms.set_masks(Masks.ones_like(snapshot_of(model)))
    dense = predictor.gradient_norms(split, norms)
    assert (dense >= found - 1e-6).all() and (dense > found).any()


@both
@pytest.mark.parametrize("rank", [2, 3])
def test_grand_of_samples_that_are_multiplied_by_one_matrix(flavor, rank):
    """TensorFlow 2.21 crashes on CPUs if it multiplies [samples, 1, rows, columns] by a matrix."""
    keras = importlib.import_module(flavor)

    class Product(keras.layers.Layer):
        def build(self, shape):
            ones = (1,) * (rank - 2)
            self.kernel = self.add_weight(shape=(*ones, 6, 5), name="kernel")

        def call(self, inputs):
            return tf.matmul(inputs, tf.convert_to_tensor(self.kernel))

    model = keras.Sequential([keras.Input((6, 6)), Product()])
    norms = GradientNorms(model, {}, lambda _, outputs: tf.reduce_sum(outputs**2) / 2)
    x = RANDOM.normal(size=(20, 6, 6)).astype(np.float32)
    split = Split(ArraySamples(x, np.zeros(20, np.int64)), np.arange(20))
    found = Predictor(model).gradient_norms(split, norms)
    kernel = model.get_weights()[0].reshape(6, 5)
    expected = [np.linalg.norm(each.T @ each @ kernel) for each in x]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@both
def test_grand_is_scored_one_by_one_on_cpus_only(flavor, monkeypatch):
    """The error of TensorFlow is in its kernels for CPUs; the network is traced once."""
    keras = importlib.import_module(flavor)
    traces = []

    class Counted(keras.layers.Layer):
        def call(self, inputs):
            traces.append(1)
            return tf.matmul(inputs, tf.ones((5, 5)))

    model = keras.Sequential([keras.Input((6, 6)), keras.layers.Dense(5), Counted()])
    norms = GradientNorms(model, {}, lambda _, outputs: tf.reduce_sum(outputs**2) / 2)

    def operations():
        traces.clear()
        spec = [tf.TensorSpec([None, 6, 6]), tf.TensorSpec([None])]
        function = tf.function(norms.of_batch, input_signature=spec, autograph=False)
        graph = function.get_concrete_function().graph
        return {op.type for op in graph.get_operations()}, len(traces)

    on_cpu, _ = operations()
    assert "StatelessWhile" in on_cpu or "While" in on_cpu
    monkeypatch.setattr(gradients, "_is_on_cpu", lambda variables: False)
    elsewhere, count = operations()
    assert not {"StatelessWhile", "While"} & elsewhere and count == 1


def test_where_gradients_are_computed():
    variable = tf.Variable([1.0])
    assert gradients._is_on_cpu([variable]) and gradients._is_on_cpu([])
    on_gpu = SimpleNamespace(device="/job:localhost/replica:0/task:0/device:GPU:0")
    is_on_cpu = []

    @tf.function(autograph=False)
    def traced():
        is_on_cpu.append(gradients._is_on_cpu([on_gpu]))
        with tf.device("/device:CPU:0"):
            is_on_cpu.append(gradients._is_on_cpu([on_gpu]))

    traced.get_concrete_function()
    assert is_on_cpu == [False, True]


def snapshot_of(model):
    return {name: np.asarray(v) for name, v in prunable_weights(model).items()}


def test_a_few_samples_of_each_class_without_validation():
    labels = np.array([0] * 5 + [1] * 20 + [2])
    samples = ArraySamples(np.zeros((26, 2), np.float32), labels)
    ids = np.arange(1, 26)
    chosen = few_of_each_class(Split(samples, ids), labels[ids], 4, seed=3)
    assert np.bincount(labels[chosen]).tolist() == [4, 4, 1]
    assert set(chosen) <= set(ids) and (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(
        chosen, few_of_each_class(Split(samples, ids), labels[ids], 4, seed=3)
    )


def test_every_criterion_that_needs_the_network_has_its_function():
    for name, criterion in CRITERIA.items():
        assert criterion.needs_network == hasattr(gradient_criteria, name)


def normalized_network(flavor, last):
    """A network with Dropout and BatchNorm, whose moving statistics are not those of the data."""
    keras = importlib.import_module(flavor)
    keras.utils.set_random_seed(2)
    layers, options = keras.layers, {"dtype": "float64"}
    return keras.Sequential(
        [
            layers.Input((4, 4, 1), dtype="float64"),
            layers.Conv2D(2, 3, **options),
            layers.BatchNormalization(moving_mean_initializer="ones", **options),
            layers.Activation("tanh", **options),
            layers.Flatten(**options),
            layers.Dropout(0.5, **options),
            layers.Dense(4, activation="tanh", **options),
            layers.Dense(3, activation=last, **options),
        ]
    )


@halved("flavor, last", FLAVORS, ["linear", "softmax"])
def test_taylor_is_the_weight_times_the_difference_of_the_loss_at_inference(flavor, last):
    model = normalized_network(flavor, last)
    rewind(model, snapshot(model), half_pruned(model))
    before = snapshot(model)
    scores = gradient_criteria.taylor(inputs_of(model, last))
    for name, variable in prunable_weights(model).items():
        slope = differences(variable, lambda: reference_loss(model, last, 1))
        expected = np.abs(variable.numpy() * slope)
        np.testing.assert_allclose(scores[name], expected, rtol=1e-4, atol=1e-9)
        assert expected.max() > 1e-4
    for name, value in snapshot(model).items():
        np.testing.assert_array_equal(value, before[name], name)


@both
def test_synflow_ignores_the_moving_means_of_batch_normalization(flavor):
    """They may be negative or positive, and are subtracted: the shift is 0 instead."""
    scores = []
    for value in (0.0, -3.0, 3.0):
        keras = importlib.import_module(flavor)
        keras.utils.set_random_seed(4)
        dense, norm = keras.layers.Dense, keras.layers.BatchNormalization
        model = keras.Sequential(
            [keras.Input((5,)), dense(4), norm(name="norm"), keras.layers.ReLU(), dense(3)]
            + [dense(2)]
        )
        mean = model.get_layer("norm").moving_mean
        mean.assign(tf.fill([4], value))
        batches = [(tf.ones([1, 5]), tf.ones([1]))]
        scores.append(gradient_criteria.synflow(inputs_of(model, batches=batches)))
    for name, expected in scores[0].items():
        assert expected.min() > 0
        np.testing.assert_array_equal(scores[1][name], expected)
        np.testing.assert_array_equal(scores[2][name], expected)


def unscorable(keras, cause):
    """A network in which all scores are 0, of a cause."""
    layers = keras.layers
    first = {
        "rescaling": lambda: [layers.Rescaling(1 / 127.5, offset=-1)],
        "normalization": lambda: [layers.Normalization(mean=125.0, variance=3600.0)],
        "zeros": list,
    }[cause]()
    return keras.Sequential(
        [keras.Input((5,)), *first, layers.Dense(4, "relu"), layers.Dense(4, "relu")]
        + [layers.Dense(3, kernel_initializer="zeros" if cause == "zeros" else "glorot_uniform")]
    )


@both
@pytest.mark.parametrize("bias", [0.0, 0.1])
@pytest.mark.parametrize("cause", ["rescaling", "normalization"])
def test_synflow_refuses_a_network_that_makes_ones_negative(flavor, cause, bias):
    """Also with biases, which let later layers flow: the first would be pruned entirely."""
    model = unscorable(importlib.import_module(flavor), cause)
    for layer in model.layers[-3:]:
        layer.bias.assign(tf.fill(layer.bias.shape, bias))
    inputs = inputs_of(model, batches=[(tf.ones([1, 5]), tf.ones([1]))])
    with pytest.raises(ArgumentError, match="criterion: .*inputs of 1.*Rescaling.*before the mod"):
        gradient_criteria.synflow(inputs)


@both
@pytest.mark.parametrize("name", ["snip", "grasp", "taylor", "synflow"])
def test_scores_that_are_all_0_are_refused(flavor, name):
    model = unscorable(importlib.import_module(flavor), "zeros")
    batches = [(tf.ones([2, 5]), tf.constant([0, 1]))]
    with pytest.raises(ArgumentError, match=f"criterion: received '{name}'.*do(es)? not depend"):
        getattr(gradient_criteria, name)(inputs_of(model, batches=batches))


@both
@pytest.mark.parametrize("name", ["snip", "grasp", "taylor"])
def test_sample_weights_multiply_the_loss(flavor, name):
    """A weight of 2 is the sample twice, of 0 the sample left out; all have the same mean."""
    model = network(flavor)
    score = getattr(gradient_criteria, name)
    parts = tf.constant(INPUTS[:6]), tf.constant(LABELS[:6])
    weights = tf.constant([2.0, 1, 0, 0, 3, 0], tf.float64)
    found = score(inputs_of(model, batches=[parts], weights=[weights]))
    expected = score(
        inputs_of(model, batches=[[tf.repeat(p, [2, 1, 0, 0, 3, 0], 0) for p in parts]])
    )
    for key, value in expected.items():
        assert np.any(value)
        np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-12)
