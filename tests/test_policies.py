"""Policies: ours chooses what TFMOT's chooses, in both flavors."""

import importlib

import pytest
import tensorflow_model_optimization as tfmot

from tf_prac import (
    PruneForLatencyOnXNNPack,
    PruningConfig,
    prunable_weights,
    prune,
    weight_report,
)
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import FLAVORS

both = pytest.mark.parametrize("flavor", FLAVORS)
TFMOTS = tfmot.sparsity.keras.PruneForLatencyOnXNNPack


def mobile(keras, *, strides=2, activation="relu", same=False, inner=False):
    """A small network of the kind that XNNPACK runs sparse, and ways to spoil it."""
    layers = keras.layers
    inputs = keras.Input((16, 16, 3))
    x = layers.ZeroPadding2D(1)(inputs)
    x = layers.Conv2D(8, 3, strides=strides, padding="same" if same else "valid")(x)
    x = layers.BatchNormalization()(x)
    x = start = layers.Activation(activation)(x)
    x = layers.ZeroPadding2D(1)(x)
    x = layers.DepthwiseConv2D(3, padding="valid")(x)
    x = layers.ReLU(6.0)(x)
    x = layers.Conv2D(8, 1)(x)
    x = layers.Add()([x, start])
    if inner:
        x = keras.Sequential([layers.Conv2D(8, 1), layers.ReLU()])(x)
    x = layers.Conv2D(16, 1, name="last")(x)
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    return keras.Model(inputs, layers.Conv2D(3, 1)(x))


SPOILT = [
    {"strides": 1},
    {"same": True},
    {"activation": "softmax"},
]


def tfmots_choice(model):
    wrapped = tfmot.sparsity.keras.prune_low_magnitude(model, pruning_policy=TFMOTS())
    return list(prunable_weights(wrapped))


@pytest.mark.parametrize("options", [{}, {"inner": True}])
def test_the_choice_is_that_of_tfmot_in_both_flavors(options):
    choices = {}
    for flavor in FLAVORS:
        model = mobile(importlib.import_module(flavor), **options)
        choices[flavor] = list(prunable_weights(model, policy=PruneForLatencyOnXNNPack()))
        assert list(prunable_weights(model, PruningConfig(policy="xnnpack"))) == choices[flavor]
    assert choices["keras"] == choices["tf_keras"]
    assert len(choices["keras"]) == (4 if options else 3)
    if not options:  # TFMOT cannot ask a layer of an inner sequential model for its producers
        assert tfmots_choice(mobile(importlib.import_module("tf_keras"))) == choices["keras"]


@both
def test_a_network_that_xnnpack_cannot_run_sparse_is_refused(flavor):
    keras = importlib.import_module(flavor)
    for options in SPOILT:
        with pytest.raises(ArgumentError, match="policy: received '?PruneForLatencyOnXNNPack"):
            weight_report(mobile(keras, **options), policy=PruneForLatencyOnXNNPack())
        if flavor == "tf_keras":
            with pytest.raises(ValueError):
                TFMOTS().ensure_model_supports_pruning(mobile(keras, **options))
    dense = keras.Sequential([keras.layers.InputLayer((3,)), keras.layers.Dense(2)])
    with pytest.raises(ArgumentError, match="models with 3x3 Conv2D of 3 channels"):
        prune(dense, sparsity=0.5, policy=PruneForLatencyOnXNNPack())


def test_tfmots_policies_work_for_tf_keras_and_are_refused_for_keras_3():
    model = prune(mobile(importlib.import_module("tf_keras")), sparsity=0.5, policy=TFMOTS())
    assert list(model.masks)[-2:] == ["last/kernel", "conv2d_2/kernel"]
    with pytest.raises(
        ArgumentError, match="TFMOT supports only tf_keras; use tf_prac.Prune"
    ) as error:
        prune(mobile(importlib.import_module("keras")), sparsity=0.5, policy=TFMOTS())
    assert "keras (Keras 3)" in str(error.value)
    assert "tensorflow_model_optimization" in str(error.value)
    spoilt = mobile(importlib.import_module("tf_keras"), strides=1)
    with pytest.raises(ArgumentError, match="one that supports the model.*Could not find"):
        prune(spoilt, sparsity=0.5, policy=TFMOTS())


@both
def test_a_policy_of_ones_own(flavor):
    class OnlyLast:
        def allow_pruning(self, layer):
            return layer.name == "last"

        def ensure_model_supports_pruning(self, model):
            pass

    model = mobile(importlib.import_module(flavor))
    assert list(prune(model, sparsity=0.5, policy=OnlyLast()).masks) == ["last/kernel"]
    with pytest.raises(ArgumentError, match="policy: received 'xnnpack'"):
        prune(model, sparsity=0.5, policy="xnnpack")
