"""Finds a winning ticket of a text classifier with attention, on PrAC sets.

    python examples/text_prac.py

The texts are the sentences of Python's own documentation strings, and the classes the modules they
are from. The model takes strings: it has a TextVectorization layer.
"""

import importlib
import inspect
import re

import numpy as np
import tensorflow as tf
from absl import app, flags

from tf_prac import PruningConfig, TicketSearch, TrainingRecipe
from tf_prac.errors import TfPracError
from tf_prac.keras_api import Flavor

_KERAS = flags.DEFINE_string("keras", "keras", "Flavor: keras or tf_keras.")
_EPOCHS = flags.DEFINE_integer("epochs", 12, "Epochs of the dense network.")
_ROUNDS = flags.DEFINE_integer("rounds", 2, "Rounds of training and pruning.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "runs/text_prac", "Directory of the run.")

MODULES = ("argparse", "logging", "decimal", "email.message", "pathlib", "random", "threading")
WORDS, LENGTH = 1500, 16


def sentences():
    """Returns distinct sentences, str [n], and the numbers of their modules, int64 [n]."""
    found = {}
    for number, name in enumerate(MODULES):
        module = importlib.import_module(name)
        objects = [module, *(c for _, c in inspect.getmembers(module, inspect.isclass))]
        objects += [m for each in objects[1:] for m in vars(each).values()]
        for each in objects:
            for text in re.split(r"[.:]\s+|\n\n", inspect.getdoc(each) or ""):
                if len(text.split()) >= 5:
                    found.setdefault(" ".join(text.split()), number)
    order = np.random.default_rng(0).permutation(len(found))
    return np.array(list(found))[order], np.array(list(found.values()))[order]


def main(_) -> None:
    """Runs the search; prints accuracies and the module of a sentence."""
    keras = Flavor(_KERAS.value).module
    texts, labels = sentences()
    texts, held_out = texts[:, None], len(texts) // 5
    words = keras.layers.TextVectorization(max_tokens=WORDS, output_sequence_length=LENGTH)
    words.adapt(texts[held_out:])
    vocabulary = words.get_vocabulary()

    def make_model():
        layers = keras.layers
        inputs = keras.Input((1,), dtype="string")
        x = layers.TextVectorization(
            max_tokens=WORDS, output_sequence_length=LENGTH, vocabulary=vocabulary
        )(inputs)
        x = layers.Embedding(WORDS, 32)(x)
        x = layers.add([x, layers.MultiHeadAttention(2, 16)(x, x)])
        x = layers.GlobalAveragePooling1D()(x)
        x = layers.Dense(64, activation="relu")(x)
        model = keras.Model(inputs, layers.Dense(len(MODULES))(x))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.005), loss, metrics=["accuracy"])
        return model

    search = TicketSearch(
        make_model,
        TrainingRecipe(epochs=_EPOCHS.value, batch_size=32),
        PruningConfig(rounds=_ROUNDS.value, layers=("dense", "embedding")),
        directory=_OUTPUT_DIR.value,
    )
    train = texts[held_out:], labels[held_out:]
    result = search.run(train, test=(texts[:held_out], labels[:held_out]))
    print(f"{len(texts)} sentences of {len(MODULES)} modules")
    print(result)
    predicted = np.argmax(result.model(tf.constant(texts[:1])), -1)[0]
    print(f"{str(texts[0, 0])!r}: {MODULES[predicted]}, correct: {MODULES[labels[0]]}")


if __name__ == "__main__":
    try:
        app.run(main)
    except TfPracError as error:
        raise SystemExit(f"error: {error}") from None
