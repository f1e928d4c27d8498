"""Finds a winning ticket of a small segmentation network, on PrAC sets.

    python examples/segmentation_prac.py

The images are canvases with two of scikit-learn's handwritten digits. Each pixel is background, a
digit below 5, or a digit from 5. Pixels at the edge of a digit are void: neither the loss nor the
search judges them.
"""

import numpy as np
from absl import app, flags
from sklearn.datasets import load_digits

from tf_prac import PracConfig, PruningConfig, TicketSearch, TrainingRecipe
from tf_prac.errors import TfPracError
from tf_prac.keras_api import Flavor
from tf_prac.tasks import Sparse

_KERAS = flags.DEFINE_string("keras", "keras", "Flavor: keras or tf_keras.")
_SAMPLES = flags.DEFINE_integer("samples", 800, "Number of canvases.")
_EPOCHS = flags.DEFINE_integer("epochs", 8, "Epochs of the dense network.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Rounds of training and pruning.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "runs/segmentation_prac", "Directory of the run.")

VOID = 255


def canvases(count):
    """Returns images, float32 [count, 16, 16, 1], and classes of pixels, int64 [count, 16, 16]."""
    digits, random = load_digits(), np.random.default_rng(0)
    images = np.zeros((count, 16, 16, 1), np.float32)
    labels = np.zeros((count, 16, 16), np.int64)
    for image, label in zip(images, labels, strict=True):
        for left in (0, 8):
            number, top = random.integers(len(digits.target)), random.integers(9)
            digit = digits.images[number] / 16
            image[top : top + 8, left : left + 8, 0] = digit
            classes = np.where(digit > 0.5, 1 + (digits.target[number] >= 5), 0)
            classes[(digit > 0.1) & (digit <= 0.5)] = VOID
            label[top : top + 8, left : left + 8] = classes
    return images, labels


def main(_) -> None:
    """Runs the search; prints the accuracy of pixels and the saved steps."""
    keras = Flavor(_KERAS.value).module
    images, labels = canvases(_SAMPLES.value)
    held_out = len(images) // 5

    def make_model():
        layers, options = keras.layers, {"padding": "same", "activation": "relu"}
        model = keras.Sequential(
            [
                keras.Input((16, 16, 1)),
                layers.Conv2D(16, 3, **options),
                layers.Conv2D(16, 3, strides=2, **options),
                layers.Conv2D(16, 3, **options),
                layers.UpSampling2D(),
                layers.Conv2D(16, 3, **options),
                layers.Conv2D(3, 1, name="classes"),
            ]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=VOID)
        model.compile(keras.optimizers.Adam(0.003), loss)
        return model

    search = TicketSearch(
        make_model,
        TrainingRecipe(epochs=_EPOCHS.value, batch_size=32),
        PruningConfig(rounds=_ROUNDS.value, ignore=("classes",)),
        PracConfig(early_stop_eps=0.07),
        task=Sparse(from_logits=True, ignore_class=VOID, fraction=0.9),  # of the pixels of an image
        directory=_OUTPUT_DIR.value,
    )
    train = images[held_out:], labels[held_out:]
    result = search.run(train, test=(images[:held_out], labels[:held_out]))
    print(result)
    predicted = np.argmax(result.model.predict(images[:1], verbose=0), -1)
    for row, truth in zip(predicted[0], labels[0], strict=True):
        print(
            " ".join(".:#"[each] for each in row),
            "  ",
            " ".join(" " if each == VOID else ".:#"[each] for each in truth),
        )


if __name__ == "__main__":
    try:
        app.run(main)
    except TfPracError as error:
        raise SystemExit(f"error: {error}") from None
