"""The fused update of SGD: the bits of Keras, without a change to the optimizer."""

import importlib

import numpy as np
import pytest
import tensorflow as tf

from tf_prac import PracModel
from tf_prac.keras_api import FLAVORS, Flavor, make_optimizer
from tf_prac.training.fused_sgd import FusedSGD

OPTION = {"momentum": 0.9}
FUSED = {"ResourceApplyKerasMomentum", "ResourceApplyMomentum"}


both = pytest.mark.parametrize("flavor", FLAVORS)


def model_of(flavor, optimizer, dtype="float32", embedding=False):
    keras = importlib.import_module(flavor)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,), dtype="int32" if embedding else dtype)
    hidden = inputs
    if embedding:
        hidden = keras.layers.Flatten()(keras.layers.Embedding(9, 3)(inputs))
    outputs = keras.layers.Dense(4, dtype=dtype)(hidden)
    model = keras.Model(inputs, outputs)
    model.compile(optimizer, "mse", jit_compile=False)
    optimizer.build(model.trainable_variables)
    return model


def batch_of(model):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 9, (8, 5)).astype(tf.as_dtype(model.inputs[0].dtype).name)
    return tf.constant(x), tf.constant(rng.normal(size=(8, 4)), tf.as_dtype(model.outputs[0].dtype))


def types(model):
    batch = batch_of(model)
    with FusedSGD(model)():
        graph = tf.function(lambda: model.train_step(batch)).get_concrete_function().graph
    return {operation.type for operation in graph.get_operations()}


def trained(model, fused):
    batch = batch_of(model)

    @tf.function(autograph=False)
    def step():
        with FusedSGD(model)() if fused else tf.name_scope("plain"):
            model.train_step(batch)

    for _ in range(5):
        step()
    return [variable.numpy() for variable in (*model.variables, *model.optimizer.variables)]


@pytest.mark.parametrize(
    "options",
    [
        OPTION,
        {**OPTION, "nesterov": True},
        {**OPTION, "clipnorm": 0.1},
        {**OPTION, "weight_decay": 0.1},
        {**OPTION, "use_ema": True},
        {**OPTION, "l2": 0.1},
        {**OPTION, "momentum_form": "pytorch"},
        {**OPTION, "momentum_form": "pytorch", "l2": 0.1},
        {**OPTION, "embedding": True},
    ],
    ids=str,
)
@both
def test_computes_what_keras_computes(options, flavor):
    def model():
        arguments = dict(options)
        network = {key: arguments.pop(key) for key in ("dtype", "embedding") if key in arguments}
        if {"l2", "momentum_form"} & arguments.keys():
            arguments["weight_decay"] = arguments.pop("l2", 0.0)
            return model_of(flavor, make_optimizer(Flavor(flavor), "sgd", **arguments))
        keras = importlib.import_module(flavor)
        return model_of(flavor, keras.optimizers.SGD(0.01, **arguments), **network)

    assert types(model()) & FUSED
    for ours, theirs in zip(trained(model(), True), trained(model(), False), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def subclass(keras):
    return type("Own", (keras.optimizers.SGD,), {})(0.01, momentum=0.9)


@pytest.mark.parametrize(
    "optimizer, dtype",
    [
        (lambda keras: keras.optimizers.SGD(0.01), "float32"),
        (lambda keras: keras.optimizers.Adam(0.01), "float32"),
        (subclass, "float32"),
        (lambda keras: keras.optimizers.SGD(0.01, momentum=0.9), "float64"),
    ],
    ids=["no momentum", "Adam", "subclass", "float64"],
)
@both
def test_other_updates_are_not_fused(optimizer, dtype, flavor):
    keras = importlib.import_module(flavor)
    assert not types(model_of(flavor, optimizer(keras), dtype)) & FUSED


@both
def test_the_training_step_of_a_prac_model_is_fused_and_its_optimizer_is_not_changed(flavor):
    keras = importlib.import_module(flavor)
    network = keras.Sequential([keras.Input((5,)), keras.layers.Dense(4), keras.layers.Dense(4)])
    model = PracModel(network)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse", jit_compile=False)
    model.optimizer.build(network.trainable_variables)
    before = model.optimizer.get_config()
    batch = (tf.ones((2, 5)), tf.zeros((2, 4)))
    graph = tf.function(lambda: model.train_step(batch)).get_concrete_function().graph
    assert FUSED & {operation.type for operation in graph.get_operations()}
    assert "update_step" not in vars(model.optimizer)
    assert model.optimizer.get_config() == before
