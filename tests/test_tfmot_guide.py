"""The steps of TFMOT's public pruning guide, with a ticket in place of its schedule."""

import gzip
import importlib

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_model_optimization as tfmot

import tf_prac
from tf_prac import PruningConfig, Ticket, prunable_weights, prune, snapshot, strip
from tf_prac.pruning.criteria import PruneRule
from tf_prac.pruning.masks import Masks

CONFIG = PruningConfig(prune_last_dense=True)


def guide_network(keras):
    """The network of "Pruning in Keras example"."""
    layers = keras.layers
    inputs = keras.Input((28, 28))
    x = layers.Reshape((28, 28, 1))(inputs)
    x = layers.Conv2D(12, 3, activation="relu")(x)
    x = layers.MaxPooling2D(2)(x)
    return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)))


def ticket_for(model, config=CONFIG, sparsity=0.8):
    weights = {n: v.numpy() for n, v in prunable_weights(model, config).items()}
    masks = PruneRule(sparsity=sparsity)(weights, Masks.ones_like(weights))
    return Ticket(masks, snapshot(model), round=8, rewind_step=0)


def trained(model, shape=(28, 28)):
    keras = importlib.import_module("tf_keras")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    generator = np.random.default_rng(0)
    x, y = generator.random((64, *shape)).astype(np.float32), generator.integers(0, 10, 64)
    model.fit(x, y, batch_size=16, epochs=1, verbose=0)  # no UpdatePruningStep
    return model


def zeros_are(variables, masks):
    return all(np.array_equal(variables[n].numpy() != 0, masks[n]) for n in masks)


@pytest.mark.filterwarnings("ignore")  # of the converter
def test_prune_the_whole_model_strip_convert_and_compress():
    keras = importlib.import_module("tf_keras")
    ticket = ticket_for(guide_network(importlib.import_module("keras")))
    model_for_pruning = trained(prune(guide_network(keras), ticket=ticket))
    assert zeros_are(model_for_pruning.prunable, ticket.masks)
    model_for_export = tfmot.sparsity.keras.strip_pruning(model_for_pruning)
    assert zeros_are(prunable_weights(model_for_export, CONFIG), ticket.masks)
    sizes = []
    for model in (guide_network(keras), model_for_export):
        tflite = tf.lite.TFLiteConverter.from_keras_model(model).convert()
        sizes.append(len(gzip.compress(tflite)))
    assert sizes[1] < sizes[0] / 2.5
    x = np.random.default_rng(1).random((1, 28, 28)).astype(np.float32)
    interpreter = tf.lite.Interpreter(model_content=tflite)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    found = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(found, model_for_export(x).numpy(), atol=1e-4)


def test_prune_some_layers():
    """The guide's `clone_model` with `prune_low_magnitude` around the dense layers only."""
    keras = importlib.import_module("tf_keras")

    def apply_pruning_to_dense(layer):
        if isinstance(layer, keras.layers.Dense):
            return tfmot.sparsity.keras.prune_low_magnitude(layer)
        return layer

    base = guide_network(keras)
    wrapped = keras.models.clone_model(base, clone_function=apply_pruning_to_dense)
    assert list(prunable_weights(wrapped)) == ["dense/kernel"]
    ticket = ticket_for(wrapped)
    model = trained(prune(wrapped, ticket=ticket))
    assert list(model.masks) == ["dense/kernel"]
    plain = strip(model)
    assert zeros_are(prunable_weights(plain, CONFIG), ticket.masks)
    assert np.all(prunable_weights(plain, CONFIG)["conv2d/kernel"].numpy())


def test_a_custom_layer_says_what_is_pruned():
    """The guide's `MyDenseLayer`, which prunes its bias; and its twin for Keras 3."""
    models = {}
    for flavor in ("keras", "tf_keras"):
        keras = importlib.import_module(flavor)
        base = (tfmot.sparsity.keras.PrunableLayer,) if flavor == "tf_keras" else ()

        class MyDenseLayer(keras.layers.Dense, *base):
            def get_prunable_weights(self):
                return [self.kernel, self.bias]

        inputs = keras.Input((20,))
        outputs = keras.layers.Dense(10)(MyDenseLayer(16, bias_initializer="ones")(inputs))
        models[flavor] = keras.Model(inputs, outputs)
    ticket = ticket_for(models["keras"], PruningConfig())
    assert [name.rpartition("/")[2] for name in ticket.masks] == ["kernel", "bias"]
    model = trained(prune(models["tf_keras"], ticket=ticket), shape=(20,))
    assert zeros_are(model.prunable, ticket.masks)
    assert zeros_are(prunable_weights(tfmot.sparsity.keras.strip_pruning(model)), ticket.masks)


def test_a_layer_that_nobody_knows_is_skipped_and_said_so():
    """TFMOT refuses the whole model for it."""
    keras = importlib.import_module("tf_keras")

    class Unknown(keras.layers.Layer):
        def build(self, shape):
            self.table = self.add_weight(shape=(shape[-1], 20), name="table")

        def call(self, x):
            return tf.matmul(x, self.table)

    inputs = keras.Input((20,))
    hidden = keras.layers.Dense(16)(Unknown()(inputs))
    network = keras.Model(inputs, keras.layers.Dense(10)(hidden))
    with pytest.raises(ValueError, match="Please initialize `Prune` with a supported layer"):
        tfmot.sparsity.keras.prune_low_magnitude(network)
    model = trained(prune(network, sparsity=0.5), shape=(20,))
    assert list(model.masks) == ["dense/kernel"]
    (info,) = [i for i in tf_prac.weight_report(network) if i.name == "unknown/table"]
    assert info.reason.startswith("no pruning rule for layers of class")
