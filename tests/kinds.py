"""Models as users bring them, through each command, on small real data.

    python tests/kinds.py [--keras=keras] [--keras=tf_keras] [KIND ...]

prints the table of docs/models.md: each kind of model, and whether each command works on it or why
it refuses. An error that is not one of tf_prac's is a fault.

The data are scikit-learn's sets, crops of MNIST and CIFAR-10 (TF_PRAC_TEST_DATA has their
directory), and the text of scikit-learn's descriptions of its sets.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
import importlib
import os
import pathlib
import re
import tempfile
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from sklearn import datasets

import tf_prac
from tf_prac import ForgettingLogger, PruningConfig, Targets, TicketSearch, TrainingRecipe, export
from tf_prac.analysis import read_run_data, write_report
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import FLAVORS
from tf_prac.storage.run_directory import RunDirectory
from tf_prac.tasks import Regression, Sparse

N = 96
DEFAULT_DATA = pathlib.Path(__file__).resolve().parents[2] / "shared" / "tfds"
VOID = 255


# Data.


def digits():
    x, y = datasets.load_digits(return_X_y=True)
    return (x[:N] / 16).astype(np.float32), y[:N]


def digit_images():
    x, y = digits()
    return x.reshape(N, 8, 8, 1), y


def digit_rows():
    x, y = digits()
    return x.reshape(N, 8, 8), y


@functools.cache
def crops(name, size):
    """Returns uint8 crops from the middle of N images, and their classes."""
    data_dir = os.environ.get("TF_PRAC_TEST_DATA", DEFAULT_DATA)
    samples = tf_prac.load_dataset(name, data_dir=data_dir, limit_train=N).train
    x, y = samples.inputs(np.arange(N)), samples.labels
    start = (x.shape[1] - size) // 2
    return x[:, start : start + size, start : start + size], y.astype(np.int64)


def mnist():
    x, y = crops("mnist", 20)
    return (x / 255).astype(np.float32), y


def cifar10():
    x, y = crops("cifar10", 32)
    return (x / 255).astype(np.float32), y


def small_cifar10():
    x, y = crops("cifar10", 16)
    return (x / 255).astype(np.float32), y


def cifar10_bytes():
    return crops("cifar10", 16)


def sentences():
    """Returns N sentences, and the number of the data set that each describes."""
    sets = (datasets.load_iris, datasets.load_wine, datasets.load_breast_cancer)
    words = [load().DESCR.split() for load in sets]
    lines = [(" ".join(w[i : i + 8]), n) for n, w in enumerate(words) for i in range(0, 256, 8)]
    texts, labels = zip(*lines, strict=True)
    return np.array(texts)[:N, None], np.array(labels)[:N]


def diabetes():
    x, y = datasets.load_diabetes(return_X_y=True)
    return x[:N].astype(np.float32), (y[:N] / 100).astype(np.float32)


def cancer():
    x, y = datasets.load_breast_cancer(return_X_y=True)
    return (x[:N] / x.max(0)).astype(np.float32), y[:N]


def bright_quarters():
    x, _ = digit_images()
    quarters = x.reshape(N, 2, 4, 2, 4).mean((2, 4)).reshape(N, 4)
    return x, (quarters > np.median(quarters, 0)).astype(np.float32)


def two_inputs():
    x, y = digits()
    return {"image": x, "dark": x.mean(1, keepdims=True)}, y


def two_outputs():
    x, y = digits()
    return x, {"digit": y, "even": (y % 2).astype(np.float32)}


def pairs():
    x, y = digits()
    return {"first": x, "second": x[::-1].copy()}, (y == y[::-1]).astype(np.float32)


def strokes():
    x, _ = digit_images()
    labels = (x[..., 0] > 0.5).astype(np.int64)
    labels[:, 0] = VOID
    return x, labels


def images_themselves():
    x, _ = digits()
    return x, x


# Models.


def compiled(keras, model, loss=None, optimizer=None):
    loss = loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.Adam(0.003), loss)
    return model


def mlp(keras):
    layers = keras.layers
    hidden = [layers.Dense(32, activation="relu"), layers.Dense(16, activation="relu")]
    return compiled(keras, keras.Sequential([keras.Input((64,)), *hidden, layers.Dense(10)]))


def cnn(keras):
    layers = keras.layers
    inputs = keras.Input((20, 20, 1))
    x = layers.MaxPooling2D()(layers.Conv2D(8, 3, activation="relu")(inputs))
    x = layers.MaxPooling2D()(layers.Conv2D(16, 3, activation="relu")(x))
    x = layers.Dropout(0.2)(layers.Flatten()(x))
    return compiled(keras, keras.Model(inputs, layers.Dense(10)(x)))


def residual(keras):
    layers = keras.layers
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(inputs)
    for _ in range(2):
        y = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.add([x, layers.Conv2D(8, 3, padding="same", use_bias=False)(y)])
    x = layers.GlobalAveragePooling2D()(layers.BatchNormalization()(x))
    return compiled(keras, keras.Model(inputs, layers.Dense(10)(x)))


def transfer(keras):
    base = keras.applications.MobileNetV2(
        input_shape=(32, 32, 3), alpha=0.35, include_top=False, weights=None, pooling="avg"
    )
    base.trainable = False
    layers = keras.layers
    head = [layers.Dense(32, activation="relu"), layers.Dense(10)]
    return compiled(keras, keras.Sequential([keras.Input((32, 32, 3)), base, *head]))


def separable(keras):
    layers = keras.layers
    inputs = keras.Input((16, 16, 3))
    x = layers.SeparableConv2D(8, 3, activation="relu")(inputs)
    x = layers.DepthwiseConv2D(3)(x)
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(16, 1)(x)))
    return compiled(keras, keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x))))


def lstm(keras):
    layers = keras.layers
    return compiled(
        keras, keras.Sequential([keras.Input((8, 8)), layers.LSTM(12), layers.Dense(10)])
    )


def gru(keras):
    layers = keras.layers
    inputs = keras.Input((8, 8))
    x = layers.Bidirectional(layers.GRU(8, return_sequences=True))(inputs)
    x = layers.Dense(16, activation="relu")(layers.GRU(8)(x))
    return compiled(keras, keras.Model(inputs, layers.Dense(10)(x)))


def transformer(keras):
    layers = keras.layers
    inputs = keras.Input((8, 8))
    x = layers.Dense(16)(inputs)
    x = layers.LayerNormalization()(layers.add([x, layers.MultiHeadAttention(2, 8)(x, x)]))
    y = layers.Dense(16)(layers.Dense(32, activation="gelu")(x))
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(layers.add([x, y])))
    return compiled(keras, keras.Model(inputs, layers.Dense(10)(x)))


def text(keras):
    layers = keras.layers
    counts = collections.Counter(" ".join(sentences()[0][:, 0]).lower().split())
    words = sorted({re.sub(r"\W", "", word) for word, _ in counts.most_common(300)} - {""})
    inputs = keras.Input((1,), dtype="string")
    x = layers.TextVectorization(output_sequence_length=12, vocabulary=words)(inputs)
    x = layers.Embedding(len(words) + 2, 8, mask_zero=True)(x)
    x = layers.Dense(16, activation="relu")(layers.GlobalAveragePooling1D()(x))
    return compiled(keras, keras.Model(inputs, layers.Dense(3)(x)))


def subclassed(keras):
    @keras.saving.register_keras_serializable("kinds")
    class Network(keras.Model):
        def __init__(self, **options):
            super().__init__(**options)
            self.hidden = [keras.layers.Dense(width, activation="relu") for width in (32, 16)]
            self.logits = keras.layers.Dense(10)

        def call(self, inputs, training=None):
            for layer in self.hidden:
                inputs = layer(inputs)
            return self.logits(inputs)

        def build(self, shape):
            super().build(shape)
            if not self.built or not self.weights:
                self(np.zeros((1, *shape[1:]), np.float32))

    network = Network()
    network(np.zeros((1, 64), np.float32))
    return compiled(keras, network)


def nested(keras):
    layers = keras.layers
    inner = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(8, 3, activation="relu")])
    inputs = keras.Input((8, 8, 1))
    middle = keras.Model(inputs, layers.Flatten()(inner(inputs)))
    outputs = [layers.Dense(16, activation="relu"), layers.Dense(10)]
    return compiled(keras, keras.Sequential([keras.Input((8, 8, 1)), middle, *outputs]))


def dictionary(keras):
    layers = keras.layers
    inputs = {"image": keras.Input((64,), name="image"), "dark": keras.Input((1,), name="dark")}
    x = layers.Concatenate()([layers.Dense(16, activation="relu")(inputs["image"]), inputs["dark"]])
    x = layers.Dense(16, activation="relu")(x)
    return compiled(keras, keras.Model(inputs, layers.Dense(10)(x)))


def outputs(keras):
    layers = keras.layers
    inputs = keras.Input((64,))
    x = layers.Dense(24, activation="relu")(inputs)
    digit, even = layers.Dense(10, name="digit")(x), layers.Dense(1, name="even")(x)
    losses = {
        "digit": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "even": keras.losses.BinaryCrossentropy(from_logits=True),
    }
    return compiled(keras, keras.Model(inputs, [digit, even]), losses)


def unet(keras):
    layers, options = keras.layers, {"padding": "same", "activation": "relu"}
    inputs = keras.Input((8, 8, 1))
    wide = layers.Conv2D(8, 3, **options)(inputs)
    deep = layers.Conv2D(16, 3, **options)(layers.MaxPooling2D()(wide))
    x = layers.Conv2DTranspose(8, 2, strides=2, **options)(deep)
    x = layers.Conv2D(8, 3, **options)(layers.Concatenate()([wide, x]))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=VOID)
    return compiled(keras, keras.Model(inputs, layers.Conv2D(2, 1)(x)), loss)


def autoencoder(keras):
    layers = keras.layers
    encoder = keras.Sequential([keras.Input((64,)), layers.Dense(16, activation="relu")])
    decoder = keras.Sequential([keras.Input((16,)), layers.Dense(64)])
    return compiled(keras, keras.Sequential([keras.Input((64,)), encoder, decoder]), "mse")


def regression(keras):
    layers = keras.layers
    hidden = [layers.Normalization(mean=0.0, variance=0.002), layers.Dense(16, activation="relu")]
    model = keras.Sequential([keras.Input((10,)), *hidden, layers.Dense(1)])
    return compiled(keras, model, "mse")


def binary(keras):
    layers = keras.layers
    hidden = layers.Dense(16, activation="relu")
    model = keras.Sequential([keras.Input((30,)), hidden, layers.Dense(1, activation="sigmoid")])
    return compiled(keras, model, "binary_crossentropy")


def multi_label(keras):
    layers = keras.layers
    convolution = layers.Conv2D(8, 3, activation="relu")
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), convolution, layers.Flatten(), layers.Dense(4)]
    )
    return compiled(keras, model, keras.losses.BinaryCrossentropy(from_logits=True))


def shared(keras):
    layers = keras.layers
    tower = layers.Dense(16, activation="relu")
    inputs = {
        "first": keras.Input((64,), name="first"),
        "second": keras.Input((64,), name="second"),
    }
    x = layers.Concatenate()([tower(inputs["first"]), tower(inputs["second"])])
    x = layers.Dense(1, activation="sigmoid")(layers.Dense(8, activation="relu")(x))
    return compiled(keras, keras.Model(inputs, x), "binary_crossentropy")


def augmented(keras):
    layers = keras.layers
    inputs = keras.Input((16, 16, 3))
    x = layers.Rescaling(1 / 255)(layers.RandomFlip("horizontal")(inputs))
    x = layers.Conv2D(8, 3, activation="relu")(layers.RandomTranslation(0.1, 0.1)(x))
    return compiled(keras, keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x))))


def own_loss(keras):
    def smoothed(y_true, y_pred):
        loss = keras.losses.sparse_categorical_crossentropy
        return 0.9 * loss(y_true, y_pred, from_logits=True)

    rate = keras.optimizers.schedules.CosineDecay(0.05, 20)
    return compiled(keras, mlp(keras), smoothed, keras.optimizers.SGD(rate, momentum=0.9))


def own_layer(keras):
    @keras.saving.register_keras_serializable("kinds")
    class Gated(keras.layers.Layer):
        def build(self, shape):
            self.value, self.gate = keras.layers.Dense(24), keras.layers.Dense(24)
            self.value.build(shape), self.gate.build(shape)
            super().build(shape)

        def call(self, inputs):
            return self.value(inputs) * self.gate(inputs)

    layers = keras.layers
    return compiled(keras, keras.Sequential([keras.Input((64,)), Gated(), layers.Dense(10)]))


# Kinds.


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of model.

    Attributes:
        about: what the table calls it.
        make: returns a new compiled model, from the module of a Keras.
        data: returns the samples (x, y).
        layers: the groups of layers to prune.
        task: what the search needs to know about labels and outputs, beyond the loss.
    """

    about: str
    make: Callable[[Any], Any]
    data: Callable[[], tuple[Any, Any]]
    layers: tuple[str, ...] = ("conv", "dense")
    task: Any = None


RECURRENT = ("dense", "recurrent")
KINDS = {
    "mlp": Kind("Sequential, dense layers", mlp, digits),
    "cnn": Kind("functional CNN, Dropout", cnn, mnist),
    "residual": Kind("residual CNN, BatchNormalization", residual, small_cifar10),
    "transfer": Kind("frozen MobileNetV2, new head", transfer, cifar10),
    "separable": Kind(
        "separable and depthwise CNN", separable, small_cifar10, ("conv", "dense", "depthwise")
    ),
    "lstm": Kind("LSTM", lstm, digit_rows, RECURRENT),
    "gru": Kind("bidirectional GRU, two layers", gru, digit_rows, RECURRENT),
    "transformer": Kind("transformer, MultiHeadAttention", transformer, digit_rows),
    "text": Kind("TextVectorization, Embedding", text, sentences, ("dense", "embedding")),
    "subclassed": Kind("subclass of `Model`", subclassed, digits),
    "nested": Kind("models in models", nested, digit_images),
    "dictionary": Kind("several inputs, a dictionary", dictionary, two_inputs),
    "outputs": Kind("several outputs", outputs, two_outputs),
    "unet": Kind(
        "segmentation, U-Net, `ignore_class`",
        unet,
        strokes,
        task=Sparse(from_logits=True, ignore_class=VOID, fraction=0.8),
    ),
    "autoencoder": Kind("autoencoder", autoencoder, images_themselves, task=Regression(bound=0.3)),
    "regression": Kind("regression, Normalization", regression, diabetes),
    "binary": Kind("one unit with a sigmoid", binary, cancer),
    "multi_label": Kind("multi-label", multi_label, bright_quarters),
    "shared": Kind("shared layer (siamese)", shared, pairs),
    "augmented": Kind("Rescaling, RandomFlip, uint8 images", augmented, cifar10_bytes),
    "own_loss": Kind("custom loss, learning-rate schedule", own_loss, digits),
    "own_layer": Kind("custom layer class", own_layer, digits),
}
NEEDS_DATA = ("cnn", "residual", "transfer", "separable", "augmented")


# Commands.


def run_prune(kind, keras, directory):
    """Prunes, fits, saves and loads; the zeros are those of the masks each time."""
    x, y = kind.data()
    model = kind.make(keras)
    loss, optimizer = model.loss, model.optimizer
    pruned = tf_prac.prune(model, sparsity=0.5, layers=kind.layers)
    pruned.compile(type(optimizer).from_config(optimizer.get_config()), loss)
    history = pruned.fit(as_fit_takes_it(x), y, batch_size=32, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    check_zeros(pruned)
    pruned.save(directory / "pruned.keras")
    loaded = tf_prac.load_model(directory / "pruned.keras", compile=False)
    check_zeros(loaded)
    assert loaded.masks == pruned.masks
    predicted = pruned.predict(as_fit_takes_it(x), verbose=0)
    for other in (loaded, tf_prac.strip(pruned)):
        pairs = zip(
            flat(other.predict(as_fit_takes_it(x), verbose=0)), flat(predicted), strict=True
        )
        assert all(same(*pair) for pair in pairs)


def run_forgetting(kind, keras, directory):
    """Logs forgetting in a `fit` of the compiled model, and inside the step of a `PracModel`."""
    x, y = kind.data()
    model = kind.make(keras)
    loss = model.loss
    targets = Targets() if kind.task is None else Targets(kind=kind.task)
    logger = ForgettingLogger((x, y), targets=targets)
    model.fit(as_fit_takes_it(x), y, batch_size=32, epochs=2, verbose=0, callbacks=[logger])
    assert logger.stats.seen.all()
    recording = tf_prac.PracModel(kind.make(keras), num_samples=N, targets=targets)
    recording.compile("sgd", loss)
    with_ids = tf_prac.with_sample_ids(tf.data.Dataset.from_tensor_slices((x, y))).batch(32)
    recording.fit(with_ids, epochs=2, verbose=0, callbacks=[ForgettingLogger()])
    assert recording.forgetting.stats.seen.all()


def run_search(kind, keras, directory):
    """Finds a ticket; the model of the result is a plain Keras model with the ticket's zeros."""
    x, y = kind.data()
    search = TicketSearch(
        lambda: kind.make(keras),
        TrainingRecipe(epochs=2, batch_size=32, validation_split=0.25),
        PruningConfig(rounds=1, rewind="1it", layers=kind.layers),
        directory=directory / "run",
        task=kind.task,
        verbose=False,
    )
    result = search.run((x, y), test=(x, y))
    masks = result.tickets[-1].masks
    assert 0.19 < masks.sparsity < 0.21
    weights = tf_prac.snapshot(result.model)
    assert all(not weights[name][~masks[name]].any() for name in masks)
    assert "dense" in repr(result)


def run_export(kind, keras, directory):
    """Exports a pruned model; plain TensorFlow loads it and computes the same outputs.

    The check in a new process is left to other tests, as it takes most of the time.
    """
    x, _ = kind.data()
    pruned = tf_prac.prune(kind.make(keras), sparsity=0.5, layers=kind.layers)
    done = export.saved_model(pruned, directory / "export", check=False)
    assert done.metadata["sparsity"] > 0.4
    loaded = tf.saved_model.load(directory / "export")
    signature = loaded.signatures["serving_default"]
    inputs = tf.nest.map_structure(tf.constant, x)
    specs = signature.structured_input_signature[1]
    named = inputs if isinstance(x, dict) else dict.fromkeys(specs, inputs)
    served = signature(**{name: as_served(named[name], spec) for name, spec in specs.items()})
    expected = {name: np.asarray(v) for name, v in served.items()}
    actual = flat(pruned(inputs, training=False))
    assert len(expected) == len(actual)
    for output in actual:
        assert any(same(output, value) for value in expected.values())


def run_report(kind, keras, directory):
    """Writes the report of the search, which `run_search` left in the same directory."""
    data = read_run_data(RunDirectory(directory / "run"), kind.about)
    write_report(directory / "report.html", [data])
    page = (directory / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page and "nan" not in page.lower().replace("finance", "")


COMMANDS = {
    "prune": run_prune,
    "ForgettingLogger": run_forgetting,
    "TicketSearch": run_search,
    "export": run_export,
    "report": run_report,
}


def as_served(values, spec):
    """Returns values with the dtype of a served input; Keras's `fit` casts them too."""
    return values if spec.dtype == values.dtype else tf.cast(values, spec.dtype)


def as_fit_takes_it(x):
    """Returns strings as a tensor: Keras 3 takes no NumPy array of them."""
    return tf.constant(x) if isinstance(x, np.ndarray) and x.dtype.kind == "U" else x


def same(first, second):
    """Returns whether two arrays have the same shape, and values up to rounding."""
    first, second = np.asarray(first), np.asarray(second)
    return first.shape == second.shape and np.allclose(first, second, atol=1e-5)


def flat(outputs):
    """Returns the arrays of one or several outputs as a list."""
    if isinstance(outputs, dict):
        return [outputs[name] for name in sorted(outputs)]
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def check_zeros(model):
    """Asserts that pruned weights, and only these, are 0."""
    assert model.masks.sparsity > 0.4
    for name, variable in model.prunable.items():
        np.testing.assert_array_equal(np.asarray(variable) != 0, model.masks[name], name)


def outcome(name, command, flavor, directory):
    """Runs a command on a kind of model; returns "" or the message with which it refuses."""
    keras = importlib.import_module(flavor)
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "prune: .* kernels of frozen layers stay dense")
        try:
            COMMANDS[command](KINDS[name], keras, directory)
        except ArgumentError as error:
            return str(error)
    return ""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keras", action="append", choices=FLAVORS)
    parser.add_argument("--command", action="append", choices=COMMANDS)
    parser.add_argument("kinds", nargs="*")
    options = parser.parse_args()
    commands = options.command or list(COMMANDS)
    print("| model |", " | ".join(commands), "|")
    print("|---" * (1 + len(commands)) + "|")
    notes: list[str] = []
    for name in options.kinds or KINDS:
        cells = []
        with tempfile.TemporaryDirectory() as directory:
            for command in commands:
                results = {}
                for flavor in options.keras or FLAVORS:
                    place = pathlib.Path(directory) / flavor
                    place.mkdir(exist_ok=True)
                    try:
                        results[flavor] = outcome(name, command, flavor, place)
                    except Exception as error:  # a fault, which the table shows
                        traceback.print_exc()
                        results[flavor] = f"FAULT {type(error).__name__}"
                cells.append(cell(results, notes))
        print(f"| {KINDS[name].about} |", " | ".join(cells), "|", flush=True)
    print()
    for number, note in enumerate(notes, 1):
        print(f"{number}. {note}")


def cell(results, notes):
    """Returns the text of a cell: works, or the numbers of notes with the refusals."""
    if not any(results.values()):
        return "works"
    parts = []
    for message in results.values():
        if message and message not in notes:
            notes.append(message)
        number = notes.index(message) + 1 if message else 0
        parts.append("works" if not message else f"refuses ({number})")
    return (
        parts[0]
        if len(set(parts)) == 1
        else ", ".join(f"{flavor}: {part}" for flavor, part in zip(results, parts, strict=True))
    )


if __name__ == "__main__":
    main()
