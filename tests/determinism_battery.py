"""Searches, `prune` and callbacks with op determinism, twice, with equal bits.

    python tests/determinism_battery.py [CASE ...] [FLAVOR]

TensorFlow then refuses operations without a deterministic implementation on the device, and random
operations without a seed. Prints a line for each case, with the error if it fails.
"""

from __future__ import annotations

import importlib
import itertools
import pathlib
import sys
import tempfile
import traceback

import numpy as np
import tensorflow as tf

from tf_prac import (
    ForgettingLogger,
    MaskDistance,
    PolynomialDecay,
    PracConfig,
    PracModel,
    PruningConfig,
    RewindCheckpoint,
    SampleScores,
    SparsityLogger,
    TicketSearch,
    TrainingRecipe,
    prune,
    snapshot,
    with_sample_ids,
)
from tf_prac.data.source import ArraySamples
from tf_prac.data.stream import StreamSamples
from tf_prac.keras_api import seed_everything

FLAVORS = ("keras", "tf_keras")
COUNT = 48
X = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 3)).astype(np.uint8)
Y = np.arange(COUNT) % 3


def convolutional(flavor, pooling="MaxPooling2D"):
    keras = importlib.import_module(flavor)
    layers = keras.layers
    inputs = keras.Input((8, 8, 3))
    x = layers.GaussianNoise(0.1)(inputs)
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(x)
    x = layers.BatchNormalization()(layers.DepthwiseConv2D(3, padding="same")(x))
    x = layers.SpatialDropout2D(0.2)(getattr(layers, pooling)(2)(x))
    x = layers.Dense(12, activation="relu")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(3)(layers.Dropout(0.3)(x)))


def text(flavor):
    keras = importlib.import_module(flavor)
    layers = keras.layers
    inputs = keras.Input((6,), dtype="int32")
    x = layers.LSTM(5, dropout=0.2, return_sequences=True)(layers.Embedding(20, 4)(inputs))
    x = layers.MultiHeadAttention(1, 4, dropout=0.1)(x, x)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


def samples(kind):
    if kind == "arrays":
        return ArraySamples(X, Y)
    dataset = tf.data.Dataset.from_tensor_slices((X, Y))
    return StreamSamples(dataset, num_classes=3, memory_limit_bytes=0, buffer_size=16)


def search(flavor, kind="arrays", pooling="MaxPooling2D", **options):
    names = {"criterion", "score_steps", "score_samples"}
    pruning = {name: options.pop(name) for name in list(options) if name in names}
    prac = {name: options.pop(name) for name in list(options) if name != "jit_compile"}
    if pruning and pruning["criterion"] != "taylor":  # such rounds do not train
        prac = {"use_cet": False, "use_cep": False}
    with tempfile.TemporaryDirectory() as directory:
        result = TicketSearch(
            lambda: convolutional(flavor, pooling),
            TrainingRecipe(epochs=2, batch_size=10, augment="crop_flip", **options),
            PruningConfig(rounds=2, rewind="2it", layers=("conv", "dense"), **pruning),
            PracConfig(**prac),
            directory=pathlib.Path(directory) / "run",
            deterministic=True,
            retrain="none",
            verbose=False,
        ).run(samples(kind))
        ticket = result.tickets[-1]
        return {**ticket.weights, **{f"mask/{n}": mask for n, mask in ticket.masks.items()}}


def fit(flavor, model_fn, wrap, *callbacks):
    keras = importlib.import_module(flavor)
    seed_everything(0)
    network = model_fn(flavor)
    integers = model_fn is text
    x = X.reshape(COUNT, -1)[:, :6] % 20 if integers else X / np.float32(255)
    data = with_sample_ids(
        tf.data.Dataset.from_tensor_slices(
            (x.astype(tf.as_dtype(network.input.dtype).as_numpy_dtype), Y)
        )
    )
    model = wrap(network)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=["accuracy"])
    batches = data.shuffle(COUNT, seed=1).batch(10)
    if not isinstance(model, PracModel):
        batches = batches.map(lambda x, y: (x["inputs"], y))
    model.fit(batches, epochs=2, verbose=0, callbacks=[make(data) for make in callbacks])
    return snapshot(network)


EVERY = {"layers": ("conv", "dense", "depthwise", "embedding", "recurrent")}


def prac(network):
    return PracModel(network, num_samples=COUNT, pruning=PruningConfig(**EVERY))


def pruned(network):
    return prune(network, sparsity=0.5, pruning=PruningConfig(**EVERY))


def gradual(network):
    schedule = PolynomialDecay(0.1, 0.5, begin_step=0, end_step=8, frequency=2)
    return prune(network, schedule=schedule, pruning=PruningConfig(**EVERY))


CALLBACKS = (
    lambda data: ForgettingLogger(data),
    lambda data: SampleScores(data, "el2n"),
    lambda data: SampleScores(data, "grand"),
    lambda data: MaskDistance(0.3),
    lambda data: RewindCheckpoint("3it"),
    lambda data: SparsityLogger(),
)
CASES = {
    "search arrays": search,
    "search streams": lambda flavor: search(flavor, "streams"),
    "search snip": lambda flavor: search(flavor, criterion="snip", score_samples=2),
    "search grasp": lambda flavor: search(flavor, criterion="grasp", score_samples=2),
    "search synflow": lambda flavor: search(flavor, criterion="synflow", score_steps=3),
    "search taylor": lambda flavor: search(flavor, criterion="taylor", score_samples=2),
    "search grand": lambda flavor: search(flavor, selector="grand", subset_size=0.5),
    "search el2n": lambda flavor: search(flavor, selector="el2n", subset_size=0.5),
    # XLA has no deterministic gradient of max pooling.
    "search jit": lambda flavor: search(flavor, pooling="AveragePooling2D", jit_compile=True),
    "PracModel callbacks": lambda flavor: fit(flavor, convolutional, prac, *CALLBACKS),
    "PracModel text": lambda flavor: fit(flavor, text, prac),
    "prune": lambda flavor: fit(flavor, convolutional, pruned, *CALLBACKS[:3]),
    "prune gradual": lambda flavor: fit(flavor, text, gradual),
}
SHORT = ("search arrays", "search streams", "PracModel callbacks", "prune gradual")


def check(case, flavor):
    first, second = CASES[case](flavor), CASES[case](flavor)
    assert list(first) == list(second)
    differing = [n for n, value in first.items() if value.tobytes() != second[n].tobytes()]
    assert not differing, f"other bits when repeated: {differing}"
    return first


def main(cases):
    tf.config.experimental.enable_op_determinism()
    failed = 0
    flavors = [name for name in FLAVORS if name in cases] or FLAVORS
    cases = [name for name in cases if name not in FLAVORS] or CASES
    for case, flavor in itertools.product(cases, flavors):
        try:
            check(case, flavor)
            print("ok", case, flavor, flush=True)
        except Exception:
            failed += 1
            print("failed", case, flavor, traceback.format_exc(), flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
