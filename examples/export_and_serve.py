"""Finds a ticket, writes it as a small SavedModel, and serves it with plain TensorFlow.

python examples/export_and_serve.py
"""

import pathlib

import tensorflow as tf
from absl import app, flags, logging
from sklearn.datasets import load_digits

import tf_prac
from tf_prac import PruningConfig, TicketSearch, TrainingRecipe, prune
from tf_prac.errors import TfPracError
from tf_prac.keras_api import Flavor

_KERAS = flags.DEFINE_string("keras", "keras", "Flavor: keras or tf_keras.")
_EPOCHS = flags.DEFINE_integer("epochs", 20, "Epochs of the dense network.")
_ROUNDS = flags.DEFINE_integer("rounds", 4, "Rounds of training and pruning.")
_CHECK = flags.DEFINE_bool("check", True, "Compare the outputs in a process without tf_prac.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "runs/served", "Directory of run and export.")


def main(_) -> None:
    """Searches on handwritten digits, trains the ticket with `fit`, exports it and predicts."""
    logging.set_verbosity(logging.WARNING)  # TensorFlow logs each step of writing a SavedModel
    keras = Flavor(_KERAS.value).module
    output = pathlib.Path(_OUTPUT_DIR.value)
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    train, test = (x[:1500], y[:1500]), (x[1500:], y[1500:])

    def make_model():
        layers = keras.layers
        hidden = [layers.Dense(units, activation="relu") for units in (300, 100)]
        return keras.Sequential([layers.InputLayer((64,)), *hidden, layers.Dense(10)])

    search = TicketSearch(
        make_model,
        TrainingRecipe(epochs=_EPOCHS.value),
        PruningConfig(rounds=_ROUNDS.value, prune_rate=0.5),
        directory=output / "run",
        retrain="none",
        verbose=False,
    )
    ticket = search.run(train).tickets[-1]

    model = prune(make_model(), ticket=ticket)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(*train, batch_size=64, epochs=_EPOCHS.value, verbose=0)

    sizes = {}
    for name, sparse in (("dense", False), ("sparse", True)):
        path = output / name / "1"
        tf_prac.export.saved_model(
            model, path, sparse=sparse, softmax=True, check=_CHECK.value, overwrite=True
        )
        sizes[name] = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    served = tf.saved_model.load(str(output / "sparse" / "1"))
    probabilities = served.serve(tf.constant(test[0]))["probabilities"].numpy()
    accuracy = (probabilities.argmax(-1) == test[1]).mean()
    print(f"served ticket  {accuracy:.2%} on the test set, {ticket.sparsity:.1%} sparsity")
    print(f"on disk        {sizes['sparse']:,} bytes, {sizes['dense']:,} if dense")


if __name__ == "__main__":
    try:
        app.run(main)
    except TfPracError as error:
        raise SystemExit(f"error: {error}") from None
