"""Finds a winning ticket of a network that predicts several labels, on PrAC sets.

    python examples/multi_label_prac.py

Each image has three of scikit-learn's handwritten digits next to each other; its labels are which
of the ten digits occur.
"""

import numpy as np
from absl import app, flags
from sklearn.datasets import load_digits

from tf_prac import PruningConfig, TicketSearch, TrainingRecipe
from tf_prac.errors import TfPracError
from tf_prac.keras_api import Flavor

_KERAS = flags.DEFINE_string("keras", "keras", "Flavor: keras or tf_keras.")
_SAMPLES = flags.DEFINE_integer("samples", 3000, "Number of images.")
_EPOCHS = flags.DEFINE_integer("epochs", 15, "Epochs of the dense network.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Rounds of training and pruning.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "runs/multi_label_prac", "Directory of the run.")


def triples(count):
    """Returns images, float32 [count, 8, 24, 1], and which digits occur, float32 [count, 10]."""
    digits = load_digits()
    chosen = np.random.default_rng(0).integers(len(digits.target), size=(count, 3))
    images = np.concatenate(digits.images[chosen].transpose(1, 0, 2, 3), axis=-1) / 16
    labels = np.zeros((count, 10), np.float32)
    for column in digits.target[chosen].T:
        labels[np.arange(count), column] = 1
    return images[..., None].astype(np.float32), labels


def main(_) -> None:
    """Runs the search; prints the accuracy of labels and the digits of an image."""
    keras = Flavor(_KERAS.value).module
    images, labels = triples(_SAMPLES.value)
    held_out = len(images) // 5

    def make_model():
        layers = keras.layers
        model = keras.Sequential(
            [
                keras.Input((8, 24, 1)),
                layers.Conv2D(16, 3, padding="same", activation="relu"),
                layers.MaxPooling2D(),
                layers.Flatten(),
                layers.Dense(128, activation="relu"),
                layers.Dense(10),
            ]
        )
        # The loss implies the task: ten labels, all of which have to be predicted correctly.
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(0.002), loss)
        return model

    search = TicketSearch(
        make_model,
        TrainingRecipe(epochs=_EPOCHS.value, batch_size=64),
        PruningConfig(rounds=_ROUNDS.value),
        directory=_OUTPUT_DIR.value,
    )
    train = images[held_out:], labels[held_out:]
    result = search.run(train, test=(images[:held_out], labels[:held_out]))
    print(result)
    found = np.flatnonzero(result.model.predict(images[:1], verbose=0)[0] > 0)
    print(f"digits of the first image: {found}, correct: {np.flatnonzero(labels[0])}")


if __name__ == "__main__":
    try:
        app.run(main)
    except TfPracError as error:
        raise SystemExit(f"error: {error}") from None
