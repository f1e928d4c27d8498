"""Random networks with dead and constant parts, for the tests of `shrink`."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

import tf_prac
from tf_prac.config import LAYER_GROUPS

STEPS = (
    *("conv", "conv", "conv_valid", "conv_1x1", "grouped", "depthwise", "separable", "transposed"),
    *("batch_norm", "batch_norm", "relu", "sigmoid", "leaky", "prelu", "pool", "average", "pad"),
    *("dropout", "residual", "residual", "concatenate", "maximum", "excite", "shared", "nested"),
    *("layer_norm", "attention", "reshape"),
)
CONFIG = tf_prac.PruningConfig(layers=LAYER_GROUPS, prune_last_dense=True)


@st.composite
def plans(draw):
    """A plan of a network: the seed of its weights, its steps and how it ends."""
    steps = draw(st.lists(st.sampled_from(STEPS), min_size=1, max_size=9))
    end = draw(st.sampled_from(("global", "flatten", "recurrent", "two_heads")))
    dead = draw(st.sampled_from((0.3, 0.6, 0.9, 1.0)))
    return draw(st.integers(0, 2**16)), tuple(steps), end, dead


def build(keras, plan):
    """Returns the network of a plan, and its masks, with whole channels pruned."""
    seed, steps, end, dead = plan
    generator = np.random.default_rng(seed)
    keras.utils.set_random_seed(seed)
    model = _network(keras, steps, end, generator)
    return model, prune_parts(model, generator, dead)


def prune_parts(model, generator, dead):
    """Prunes random weights, inputs and outputs; sets biases and statistics to random values."""
    masks = {}
    for name, variable in tf_prac.prunable_weights(model, CONFIG).items():
        mask = generator.random(variable.shape) < 0.7
        for axis in range(len(variable.shape)):
            kept = generator.random(variable.shape[axis]) >= dead * (axis >= mask.ndim - 2)
            mask &= kept.reshape([-1 if a == axis else 1 for a in range(mask.ndim)])
        masks[name] = mask
    weights = {}
    for name, value in tf_prac.snapshot(model).items():
        if value.ndim == 1 and value.dtype.kind == "f":
            value = generator.uniform(0.5, 1.5, value.shape)
            if "variance" not in name:
                value = value * generator.choice([-1, 0, 1], value.shape)
        weights[name] = np.asarray(value, np.float32)
    masks = tf_prac.Masks(masks)
    tf_prac.rewind(model, weights, masks)
    return masks


def _network(keras, steps, end, generator):
    layers = keras.layers
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    for step in steps:
        x = _step(keras, step, x, int(generator.integers(3, 6)))
    if end == "recurrent":
        x = layers.Reshape((-1, x.shape[-1]))(x)
        x = layers.GRU(3)(x)
        return keras.Model(inputs, layers.Dense(2)(x))
    x = layers.Flatten()(x) if end == "flatten" else layers.GlobalAveragePooling2D()(x)
    x = layers.Dense(5, activation="tanh")(x)
    heads = layers.Dense(2)(x), layers.Dense(3, activation="softmax")(x)
    return keras.Model(inputs, list(heads) if end == "two_heads" else heads[0])


def _step(keras, step, x, filters):
    layers = keras.layers
    channels = x.shape[-1]
    size = min(x.shape[1:3])
    if step in ("conv_valid", "pool", "average", "transposed") and not 3 <= size <= 8:
        return x
    if step == "pad" and size > 8:
        return x
    one = {
        "conv": lambda: layers.Conv2D(filters, 3, padding="same", use_bias=False),
        "conv_valid": lambda: layers.Conv2D(filters, 2, activation="relu"),
        "conv_1x1": lambda: layers.Conv2D(filters, 1, padding="same"),
        "depthwise": lambda: layers.DepthwiseConv2D(3, padding="same"),
        "separable": lambda: layers.SeparableConv2D(filters, 2, depth_multiplier=2, padding="same"),
        "transposed": lambda: layers.Conv2DTranspose(filters, 2),
        "batch_norm": lambda: layers.BatchNormalization(),
        "relu": lambda: layers.ReLU(),
        "sigmoid": lambda: layers.Activation("sigmoid"),
        "leaky": lambda: layers.LeakyReLU(),
        "prelu": lambda: layers.PReLU(shared_axes=[1, 2]),
        "pool": lambda: layers.MaxPooling2D(2, padding="same"),
        "average": lambda: layers.AveragePooling2D(2),
        "pad": lambda: layers.ZeroPadding2D(1),
        "dropout": lambda: layers.Dropout(0.3),
        "layer_norm": lambda: layers.LayerNormalization(),
    }
    if step in one:
        return one[step]()(x)
    if step == "grouped":
        x = layers.Conv2D(4, 1)(x)
        return layers.Conv2D(6, 3, groups=2, padding="same")(x)
    if step in ("residual", "maximum"):
        y = layers.Conv2D(channels, 3, padding="same")(x)
        y = layers.BatchNormalization()(y)
        return (layers.Add() if step == "residual" else layers.Maximum())([x, y])
    if step == "concatenate":
        y = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        return layers.Concatenate()([x, y])
    if step == "excite":
        y = layers.GlobalAveragePooling2D(keepdims=True)(x)
        return layers.Multiply()([x, layers.Conv2D(channels, 1, activation="sigmoid")(y)])
    if step == "shared":
        shared = layers.Conv2D(channels, 3, padding="same", activation="relu")
        return shared(shared(x))
    if step == "nested":
        inside = keras.Input(x.shape[1:])
        y = layers.Conv2D(filters, 1)(layers.ReLU()(inside))
        return keras.Model(inside, layers.BatchNormalization()(y))(x)
    if step == "attention":
        y = layers.Reshape((-1, channels))(x)
        y = layers.MultiHeadAttention(3, 2)(y, y)
        return layers.Reshape(x.shape[1:])(y)
    assert step == "reshape"
    return layers.Reshape((x.shape[1], 1, x.shape[2] * channels))(x) if channels < 8 else x
