"""The fraction of MNIST's training samples that is never forgotten, against the published 91.7%.

    python benchmarks/unforgettable.py --data_dir=DATA --network=convolutional
    python benchmarks/unforgettable.py --data_dir=DATA --network=lenet300

Toneva et al. 2019, "An Empirical Study of Example Forgetting during Deep Neural Network Learning",
Section 4: all 60,000 samples, two convolutions of 5 x 5 (10 and 20 channels), a dense layer of 50,
SGD with learning rate 0.01, momentum 0.5, no dropout and batches of 64, for 200 epochs. According
to the authors' code and its README, the published fraction counts the samples that are forgotten in
none of five trainings with different seeds. So the fraction over all --seeds is reported too.
"""

import json

import keras
import numpy as np
from absl import app, flags

from tf_prac import ForgettingLogger, PracModel, build_model, load_dataset
from tf_prac.data.pipeline import training_batches

NETWORKS = ("convolutional", "convolutional_dropout", "lenet300")

_DATA = flags.DEFINE_string("data_dir", None, "Directory of TensorFlow Datasets with MNIST.")
_NETWORK = flags.DEFINE_enum("network", "convolutional", NETWORKS, "Name of the network.")
_EPOCHS = flags.DEFINE_integer("epochs", 25, "Passes over the data.")
_SEEDS = flags.DEFINE_list("seeds", "0,1,2,3,4", "Seeds of initial weights and data order.")


def make_network(samples):
    """Builds the network of the flag."""
    if _NETWORK.value == "lenet300":
        return build_model(
            "lenet300", keras="keras", input_shape=samples.input_shape, num_classes=10
        )
    layers = keras.layers
    dropout = _NETWORK.value == "convolutional_dropout"
    return keras.Sequential(
        [
            keras.Input(samples.input_shape),
            layers.Conv2D(10, 5),
            layers.MaxPooling2D(),
            layers.ReLU(),
            layers.Conv2D(20, 5),
            *([layers.SpatialDropout2D(0.5)] if dropout else []),
            layers.MaxPooling2D(),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(50, activation="relu"),
            *([layers.Dropout(0.5)] if dropout else []),
            layers.Dense(10),
        ]
    )


def main(_) -> None:
    """Trains with each seed; prints a JSON line for each epoch and for all seeds so far."""
    samples = load_dataset("mnist", data_dir=_DATA.value).train
    unforgettable = np.ones(len(samples), bool)
    for number, seed in enumerate(map(int, _SEEDS.value)):
        unforgettable &= train(samples, seed).unforgettable
        together = {"seeds_together": number + 1, "unforgettable": float(unforgettable.mean())}
        print(json.dumps({"network": _NETWORK.value, **together}), flush=True)


def train(samples, seed):
    """Trains with one seed and returns the forgetting statistics."""
    keras.utils.set_random_seed(seed)
    model = PracModel(make_network(samples), num_samples=len(samples))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.01, momentum=0.5), loss, metrics=["accuracy"])
    steps = -(-len(samples) // 64)
    batches = training_batches(
        samples, np.arange(len(samples)), batch_size=64, seed=(seed,), steps=None
    )

    class Print(keras.callbacks.Callback):
        """Prints the logs of `ForgettingLogger`."""

        def on_epoch_end(self, epoch, logs=None):
            """Prints one line."""
            names = ("accuracy", "unforgettable", "never_learned", "forgetting_events")
            metrics = {name: round(float(logs[name]), 5) for name in names}
            row = {"network": _NETWORK.value, "seed": seed, "epoch": epoch + 1, **metrics}
            print(json.dumps(row), flush=True)

    model.fit(
        batches,
        epochs=_EPOCHS.value,
        steps_per_epoch=steps,
        verbose=0,
        callbacks=[ForgettingLogger(), Print()],
    )
    return model.forgetting.stats


if __name__ == "__main__":
    app.run(main)
