"""Pruned models of every kind through `fit`, saving, another process, `fit` again and `strip`.

    python tests/battery.py first DIRECTORY [CASE ...]
    python tests/battery.py second DIRECTORY [CASE ...]

The first process prunes, fits and saves, the second one loads, fits again and strips. Each prints a
line of JSON for each case: model, kind, optimizer and precision, how many weights its masks prune,
and in how many places the zeros of the weights differ from that. A case that fails has its error.
"""

import importlib
import itertools
import json
import pathlib
import sys
import traceback

import numpy as np

import tf_prac

CONFIG = {
    "layers": ("conv", "dense", "depthwise", "embedding", "recurrent"),
    "prune_last_dense": True,
}
OPTIMIZERS = ("sgd", "adam", "adamw", "ema", "clipnorm")
PRECISIONS = ("float32", "mixed_bfloat16")


def convolutional(keras):
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, use_bias=False)(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.SeparableConv2D(8, 3, activation="relu")(x)
    x = layers.DepthwiseConv2D(3)(x)
    x = layers.Conv2DTranspose(4, 3, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


def shared(keras):
    """Returns a model in a sequential model, with a layer that is called twice."""
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(inputs)
    shared = layers.Conv2D(6, 3, padding="same", activation="relu")
    inner = keras.Model(inputs, layers.add([x, shared(shared(x))]))
    model = keras.Sequential([inner, layers.GlobalAveragePooling2D(), layers.Dense(3)])
    model.build((None, 8, 8, 3))
    return model


def attention(keras):
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    x = layers.Reshape((8, 24))(inputs)
    x = layers.Conv1D(8, 3, padding="same")(x)
    x = layers.MultiHeadAttention(2, 4)(x, x)
    x = layers.LayerNormalization()(x)
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
    x = layers.GRU(4)(x)
    return keras.Model(inputs, layers.Dense(3)(x))


def subclassed(keras):
    @keras.saving.register_keras_serializable("battery")
    class Network(keras.Model):
        def __init__(self, **options):
            super().__init__(**options)
            self.conv = keras.layers.Conv2D(6, 3, activation="relu")
            self.flatten = keras.layers.Flatten()
            self.blocks = [keras.layers.Dense(12, activation="relu"), keras.layers.Dense(3)]

        def call(self, x):
            x = self.flatten(self.conv(x))
            for block in self.blocks:
                x = block(x)
            return x

        def build(self, shape):
            self.conv.build(shape)
            self.blocks[0].build((None, 216))
            self.blocks[1].build((None, 12))
            self.built = True

    model = Network()
    model(np.zeros((1, 8, 8, 3), np.float32))
    return model


MODELS = (convolutional, shared, attention, subclassed)
KINDS = ("keras", "tf_keras", "wrapped")
CASES = {
    "-".join([model.__name__, *others]): (model, *others)
    for model, *others in [
        *itertools.product(MODELS, KINDS, OPTIMIZERS, PRECISIONS),
        *itertools.product([shared], KINDS, ["ema"], ["mixed_float16"]),
    ]
    if not (model is subclassed and others[0] == "wrapped")  # TFMOT cannot wrap one
}


def wrapped(model):
    """Puts TFMOT's wrappers around the layers that TFMOT knows."""
    import tensorflow_model_optimization as tfmot
    import tf_keras

    def clone(layer):
        if isinstance(layer, tf_keras.Model):
            return tf_keras.models.clone_model(layer, clone_function=clone)
        known = isinstance(layer, (tf_keras.layers.Dense, tf_keras.layers.Conv2D))
        return tfmot.sparsity.keras.prune_low_magnitude(layer) if known else layer

    return clone(model)


def make_optimizer(keras, name):
    optimizers = keras.optimizers
    return {
        "sgd": lambda: optimizers.SGD(0.05, momentum=0.9, weight_decay=1e-3),
        "adam": lambda: optimizers.Adam(0.01),
        "adamw": lambda: optimizers.AdamW(0.01, weight_decay=1e-2),
        "ema": lambda: optimizers.Adam(
            0.01, use_ema=True, ema_momentum=0.5, ema_overwrite_frequency=3
        ),
        "clipnorm": lambda: optimizers.SGD(0.05, momentum=0.9, clipnorm=0.1),
    }[name]()


def fit(keras, model, optimizer):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(make_optimizer(keras, optimizer), loss, jit_compile=False)
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(20, 8, 8, 3)).astype(np.float32), generator.integers(0, 3, 20)
    model.fit(x, y, batch_size=4, epochs=1, verbose=0)


def wrong_zeros(variables, masks):
    """Returns at how many elements a mask differs from whether the weight is not 0."""
    return sum(int(np.sum((variables[n].numpy() != 0) != mask)) for n, mask in masks.items())


def first(path, model, kind, optimizer, precision):
    keras = importlib.import_module("keras" if kind == "keras" else "tf_keras")
    keras.mixed_precision.set_global_policy(precision)
    network = model(keras)
    network = wrapped(network) if kind == "wrapped" else network
    pruned = tf_prac.prune(network, sparsity=0.7, pruning=tf_prac.PruningConfig(**CONFIG))
    masks = pruned.masks
    fit(keras, pruned, optimizer)
    pruned.save(path)
    moved = masks.hamming(pruned.masks)
    return masks, moved + wrong_zeros(pruned.prunable, masks)


def second(path, model, kind, optimizer, precision):
    keras = importlib.import_module("keras" if kind == "keras" else "tf_keras")
    keras.mixed_precision.set_global_policy(precision)
    if model is subclassed:
        model(keras)  # registers its class
    pruned = tf_prac.load_model(path)
    masks = pruned.masks
    fit(keras, pruned, optimizer)
    moved = masks.hamming(pruned.masks)
    config = tf_prac.PruningConfig(**CONFIG)
    stripped = tf_prac.prunable_weights(tf_prac.strip(pruned), config)
    return masks, moved + wrong_zeros(stripped, masks)


def main(phase, directory, *names):
    run = {"first": first, "second": second}[phase]
    for name in names or CASES:
        path = str(pathlib.Path(directory) / f"{name}.keras")
        try:
            masks, wrong = run(path, *CASES[name])
            row = {"size": masks.size, "pruned": masks.size - masks.remaining, "wrong": wrong}
            row["masks"] = masks.digest()
        except Exception:
            row = {"error": traceback.format_exc()[-1500:]}
        print(json.dumps({"case": name, **row}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
