"""Logs forgetting events in your own `fit`, then trains on the forgotten samples.

    python examples/forgetting_in_your_fit.py

Two things differ from plain Keras: the data set has sample ids, and the model is wrapped.
"""

import tensorflow as tf
from absl import app, flags
from sklearn.datasets import load_digits

from tf_prac import ForgettingLogger, PracModel, PracSet, with_sample_ids
from tf_prac.errors import TfPracError
from tf_prac.keras_api import Flavor

_KERAS = flags.DEFINE_string("keras", "keras", "Flavor: keras or tf_keras.")
_EPOCHS = flags.DEFINE_integer("epochs", 10, "Epochs on all samples.")


def main(_) -> None:
    """Trains a small network on handwritten digits, twice."""
    keras = Flavor(_KERAS.value).module
    x, y = load_digits(return_X_y=True)
    dataset = with_sample_ids(tf.data.Dataset.from_tensor_slices(((x / 16).astype("float32"), y)))

    network = keras.Sequential(
        [
            keras.layers.InputLayer((64,)),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    model = PracModel(network, num_samples=len(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])

    logger = ForgettingLogger()
    batches = dataset.shuffle(len(x), seed=0).batch(32)
    history = model.fit(
        batches, epochs=_EPOCHS.value, shuffle=False, verbose=0, callbacks=[logger]
    ).history
    print(f"accuracy {history['accuracy'][-1]:.2%}")
    print(f"unforgettable {history['unforgettable'][-1]:.1%} of the samples")

    hard = PracSet(logger.stats.critical_for_training(), [], len(x))
    print(f"forgotten or never learned: {len(hard)} of {len(x)}")
    model.fit(hard.filter(dataset).batch(32), epochs=1, shuffle=False, verbose=0)


if __name__ == "__main__":
    try:
        app.run(main)
    except TfPracError as error:
        raise SystemExit(f"error: {error}") from None
