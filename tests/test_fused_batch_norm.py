"""Fused batch normalization: the results of Keras, without a change to the layers."""

import importlib

import numpy as np
import precision
import pytest
import tensorflow as tf

from tf_prac import PracModel
from tf_prac.keras_api import FLAVORS
from tf_prac.training.fused_batch_norm import FusedBatchNorm


def model_of(shape=(5, 4, 3), flavor="keras", **options):
    keras = importlib.import_module(flavor)
    layer = keras.layers.BatchNormalization(momentum=0.8, **options)
    inputs = keras.Input(shape)
    hidden = keras.layers.Conv2D(3, 1)(inputs) if len(shape) == 3 else inputs
    return keras.Model(inputs, layer(hidden)), layer


def step(model, layer, images):
    """Outputs, gradients and moving averages of a training step."""
    with tf.GradientTape() as tape:
        outputs = model(images, training=True)
        loss = tf.reduce_sum(tf.cast(outputs, tf.float32) ** 3)
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    moving = [layer.moving_mean, layer.moving_variance]
    return [outputs, *gradients, *(tf.convert_to_tensor(m) for m in moving)]


def operations(function, *arguments):
    graph = tf.function(function).get_concrete_function(*arguments).graph
    return {operation.type for operation in graph.get_operations()}


@pytest.mark.parametrize(
    "options", [{}, {"center": False}, {"scale": False}, {"epsilon": 1e-5}, {"axis": 3}], ids=str
)
@pytest.mark.parametrize("batch", [1, 6])
def test_computes_what_keras_computes(options, batch):
    images = np.random.default_rng(0).normal(2, 3, (batch, 5, 4, 3)).astype("f4")
    model, layer = model_of(**options)
    start = model.get_weights()
    expected = step(model, layer, images)
    model.set_weights(start)
    with FusedBatchNorm(model)():
        assert "call" in vars(layer)
        actual = step(model, layer, images)
    for ours, theirs in zip(actual, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-4)
    assert "call" not in vars(layer)


def test_averages_take_the_biased_variance():
    model, layer = model_of()
    model.layers[1].set_weights([np.eye(3, dtype="f4")[None, None], np.zeros(3, "f4")])
    images = np.random.default_rng(1).normal(size=(2, 5, 4, 3)).astype("f4")
    with FusedBatchNorm(model)():
        model(images, training=True)
    np.testing.assert_allclose(layer.moving_variance, 0.8 + 0.2 * images.var((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(
        layer.moving_mean, 0.2 * images.mean((0, 1, 2)), atol=precision.rounding(1e-6)
    )


def test_half_precision_stays_within_its_rounding():
    keras = importlib.import_module("keras")
    images = np.random.default_rng(2).normal(size=(8, 5, 4, 3)).astype("f4")
    inputs = keras.Input((5, 4, 3))
    layer = keras.layers.BatchNormalization(dtype="mixed_bfloat16")
    model = keras.Model(inputs, layer(inputs))
    expected = model(images, training=True)
    with FusedBatchNorm(model)():
        actual = model(images, training=True)
    assert actual.dtype == expected.dtype == tf.bfloat16
    np.testing.assert_allclose(
        tf.cast(actual, tf.float32), tf.cast(expected, tf.float32), rtol=2e-2, atol=2e-2
    )


def frozen(layer):
    layer.trainable = False


@pytest.mark.parametrize(
    "shape, options, change",
    [
        ((5, 4, 3), {"axis": 1}, None),
        ((5, 4, 3), {"synchronized": True}, None),
        ((5, 4, 3), {"dtype": "float64"}, None),
        ((5, 4, 3), {}, frozen),
        ((5,), {}, None),
        ((7, 5), {}, None),
    ],
    ids=["channels first", "synchronized", "float64", "frozen", "dense", "sequence"],
)
def test_other_layers_are_not_fused(shape, options, change):
    model, layer = model_of(shape, **options)
    if change:
        change(layer)
    images = tf.ones((2, *shape))
    with FusedBatchNorm(model)():
        assert "FusedBatchNormV3" not in operations(lambda x: model(x, training=True), images)


def test_evaluation_is_not_fused():
    model, _ = model_of()
    with FusedBatchNorm(model)():
        assert "FusedBatchNormV3" not in operations(lambda x: model(x), tf.ones((2, 5, 4, 3)))


def test_threads_of_replicas_may_enter_at_the_same_time():
    model, layer = model_of()
    fused = FusedBatchNorm(model)
    with fused():
        with fused():
            pass
        assert "call" in vars(layer)
    assert "call" not in vars(layer)


@pytest.mark.parametrize("flavor", FLAVORS)
def test_the_training_step_of_a_prac_model_is_fused_and_its_layers_are_not_changed(flavor):
    keras = importlib.import_module(flavor)
    inputs = keras.Input((5, 4, 3))
    hidden = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3)(inputs))
    network = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(hidden)))
    model = PracModel(network)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batch = (tf.ones((2, 5, 4, 3)), tf.zeros(2, tf.int64))
    model.evaluate(*batch, verbose=0)
    assert "FusedBatchNormV3" in operations(lambda: model.train_step(batch))
    assert not [layer for layer in network.layers if flavor == "keras" and "call" in vars(layer)]
    again = type(network).from_config(network.get_config())
    assert [type(layer) for layer in again.layers] == [type(layer) for layer in network.layers]
