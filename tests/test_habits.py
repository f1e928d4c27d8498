"""Masks survive whatever Keras does with weights: every habit, kind of model and flavor.

After each habit, the masks are those of the weights that the model now has, and the zeros of the
weights equal the masks to the element; after one more training step they still do.
"""

from __future__ import annotations

import copy
import importlib
import pickle

import numpy as np
import pytest
import tensorflow as tf

import tf_prac
from tf_prac import Masks, PracModel, Ticket, prunable_weights, prune, random_mask, snapshot, strip
from tf_prac.keras_api import FLAVORS

KINDS = ("pruned", "own class", "PracModel", "PracModel of pruned", "ticket")
SOME = ("pruned", "PracModel")
"""The kinds that are tested with every habit in a quick run, each with one flavor."""
X = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
Y = np.arange(8) % 3


def mlp(keras):
    layers = [keras.layers.InputLayer((5,)), keras.layers.Dense(6, activation="relu")]
    return keras.Sequential([*layers, keras.layers.Dense(4), keras.layers.Dense(3)])


def own_class(keras):
    """Returns a built model of a user-defined class that Keras can load."""
    model = _own(keras)()
    model(X[:1])
    return model


CLASSES: dict = {}


def _own(keras):
    if keras.__name__ in CLASSES:
        return CLASSES[keras.__name__]

    @keras.saving.register_keras_serializable("habits")
    class Net(keras.Model):
        def __init__(self, **options):
            super().__init__(**options)
            self.first, self.second = keras.layers.Dense(6), keras.layers.Dense(4)
            self.last = keras.layers.Dense(3)

        def build(self, shape):
            for layer, width in ((self.first, 5), (self.second, 6), (self.last, 4)):
                with tf.name_scope(f"from_{width}"):  # tf_keras needs different names
                    layer.build((None, width))
            self.built = True

        def call(self, x, training=None):
            return self.last(self.second(self.first(x)))

        def get_config(self):
            return {}

    CLASSES[keras.__name__] = Net
    return Net


def plain(kind, keras):
    return own_class(keras) if kind == "own class" else mlp(keras)


def make(kind, keras):
    """Returns a new model of a kind, compiled, with dense masks and new weights."""
    network = plain(kind, keras)
    if kind == "ticket":
        model = Ticket(Masks.ones_like(prunable_weights(network)), snapshot(network), 0, 0)
        model = model.apply(network)
    elif kind.startswith("PracModel"):
        model = PracModel(prune(network) if "pruned" in kind else network)
    else:
        model = prune(network)
    return compiled(keras, model)


def compiled(keras, model, optimizer=None):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.SGD(0.1), loss, run_eagerly=True)
    return model


class Bench:
    """A model that all habits of its kind use, and what they need."""

    def __init__(self, kind, flavor):
        self.kind, self.keras = kind, importlib.import_module(flavor)
        self.flavor = flavor
        self.model = self.make()
        self.dense = self.model.masks
        self.wholly = snapshot(self._network(self.model))

    def make(self):
        return make(self.kind, self.keras)

    @staticmethod
    def _network(model):
        return getattr(model, "network", model)

    def masks(self, seed=0, rate=0.5):
        return random_mask(self.dense, rate, seed=seed)

    def prepare(self, path):
        self.path = path
        self.keras.utils.set_random_seed(1)
        tf_prac.rewind(self._network(self.model), self.wholly)
        self.model.set_masks(self.masks())
        return self

    def fit(self, model=None, callbacks=(), epochs=1):
        model = model or self.model
        model.fit(X, Y, batch_size=4, epochs=epochs, verbose=0, callbacks=list(callbacks))
        return model


def callback(keras, **hooks):
    """Returns a Keras callback with these hooks, functions of (callback, epoch, logs)."""
    return type("Hook", (keras.callbacks.Callback,), hooks)()


# Each habit returns the model to check and the masks that it must have.


def set_weights(b):
    before = b.model.get_weights()
    b.fit()
    b.model.set_masks(b.masks(seed=1))
    b.model.set_weights(before)
    return b.model, b.masks()


def set_weights_of_a_plain_model(b):
    values = plain(b.kind, b.keras).get_weights()
    assert len(values) < len(b.model.get_weights())
    b.model.set_weights(values)
    return b.model, b.masks()


def weights_written_into_layers(b):
    for variable in b.model.prunable.values():
        variable.assign(np.ones(variable.shape))
    b.model.evaluate(X, Y, verbose=0)
    return b.model, b.masks()


def early_stopping(b):
    """The best epoch is the first; its masks, not those of the last epoch, belong to it."""

    def score(self, epoch, logs=None):
        logs["score"] = -epoch
        if epoch > 0:
            self.model.set_masks(b.masks(seed=1))

    stop = b.keras.callbacks.EarlyStopping(
        "score", mode="max", patience=1, restore_best_weights=True
    )
    b.fit(callbacks=[callback(b.keras, on_epoch_end=score), stop], epochs=4)
    return b.model, b.masks()


def _checkpoint(b, name, **options):
    path = str(b.path / name)
    b.fit(callbacks=[b.keras.callbacks.ModelCheckpoint(path, **options)])
    return path


def model_checkpoint(b):
    path = _checkpoint(b, "model.keras")
    return tf_prac.load_model(path), b.masks()


def model_checkpoint_of_weights(b):
    path = _checkpoint(b, "model.weights.h5", save_weights_only=True)
    model = b.make()
    model.load_weights(path)
    return model, b.masks()


def save_and_load_with_keras(b):
    b.model.save(b.path / "model.keras")
    return b.keras.models.load_model(b.path / "model.keras"), b.masks()


def load_weights_of_a_whole_model(b):
    b.model.save(b.path / "model.keras")
    model = b.make()
    model.load_weights(b.path / "model.keras")
    return model, b.masks()


def load_weights_of_a_plain_model(b):
    plain(b.kind, b.keras).save_weights(b.path / "plain.weights.h5")
    b.model.load_weights(b.path / "plain.weights.h5")
    return b.model, b.masks()


def backup_and_restore(b):
    def kill(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt

    def backup():
        return b.keras.callbacks.BackupAndRestore(str(b.path / "backup"))

    killed = b.make()
    killed.set_masks(b.masks())
    with pytest.raises(KeyboardInterrupt):
        b.fit(killed, [backup(), callback(b.keras, on_epoch_begin=kill)], epochs=2)
    return b.fit(b.make(), [backup()], epochs=2), b.masks()


def from_config(b):
    model = type(b.model).from_config(b.model.get_config())
    model.set_weights(b.model.get_weights())
    return model, b.masks()


def pickled(b):
    return pickle.loads(pickle.dumps(b.model)), b.masks()


def copied(b):
    return copy.copy(b.model), b.masks()


def deep_copied(b):
    return copy.deepcopy(b.model), b.masks()


def tensorflow_checkpoint(b):
    path = tf.train.Checkpoint(model=b.model).save(str(b.path / "checkpoint"))
    model = b.make()
    tf.train.Checkpoint(model=model).restore(path)
    return model, b.masks()


def moving_averages(b):
    ema = b.keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    model = compiled(b.keras, b.make(), ema)
    model.set_masks(b.masks())
    return b.fit(model, epochs=2), b.masks()


def swapped_moving_averages(b):
    if b.flavor == "tf_keras":
        pytest.skip("tf_keras has no SwapEMAWeights")
    ema = b.keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5)
    model = compiled(b.keras, b.make(), ema)
    model.set_masks(b.masks())
    return b.fit(model, [b.keras.callbacks.SwapEMAWeights(swap_on_epoch=True)], 2), b.masks()


def single_batches(b):
    b.model.train_on_batch(X, Y)
    b.model.test_on_batch(X, Y)
    b.model.predict_on_batch(X)
    return b.model, b.masks()


def legacy_h5_weights(b):
    if b.flavor == "keras":
        pytest.skip("Keras 3 has no such format")
    path = _checkpoint(b, "model.h5", save_weights_only=True)
    model = b.make()
    model.load_weights(path)
    return model, b.masks()


def tensorflow_weights(b):
    if b.flavor == "keras":
        pytest.skip("Keras 3 has no such format")
    path = _checkpoint(b, "weights", save_weights_only=True)
    model = b.make()
    model.load_weights(path)
    return model, b.masks()


def saved_model(b):
    if b.flavor == "keras":
        pytest.skip("Keras 3 has no such format")
    b.model.fit(X, Y, verbose=0)
    b.model.save(b.path / "directory")
    return tf_prac.load_model(b.path / "directory"), b.masks()


HABITS = (
    set_weights,
    set_weights_of_a_plain_model,
    weights_written_into_layers,
    early_stopping,
    model_checkpoint,
    model_checkpoint_of_weights,
    save_and_load_with_keras,
    load_weights_of_a_whole_model,
    load_weights_of_a_plain_model,
    backup_and_restore,
    from_config,
    pickled,
    copied,
    deep_copied,
    tensorflow_checkpoint,
    moving_averages,
    swapped_moving_averages,
    single_batches,
    legacy_h5_weights,
    tensorflow_weights,
    saved_model,
)
BENCHES: dict = {}


def is_quick(flavor, kind, habit):
    """Each habit with both kinds of `SOME` and with both flavors."""
    if kind not in SOME or habit is saved_model:
        return False
    return (FLAVORS.index(flavor) + SOME.index(kind) + HABITS.index(habit)) % 2 == 0


CASES = [
    pytest.param(
        flavor,
        kind,
        habit,
        id=f"{flavor}-{kind}-{habit.__name__}",
        marks=() if is_quick(flavor, kind, habit) else pytest.mark.slow,
    )
    for flavor in FLAVORS
    for kind in KINDS
    for habit in HABITS
]


def bench(kind, flavor, path):
    if (kind, flavor) not in BENCHES:
        BENCHES[kind, flavor] = Bench(kind, flavor)
    return BENCHES[kind, flavor].prepare(path)


def assert_masked(model, masks):
    assert model.masks == masks
    for name, mask in masks.items():
        np.testing.assert_array_equal(model.prunable[name].numpy() != 0, mask)


@pytest.mark.parametrize(("flavor", "kind", "habit"), CASES)
def test_zeros_equal_the_masks_after(flavor, kind, habit, tmp_path):
    b = bench(kind, flavor, tmp_path)
    model, masks = habit(b)
    assert_masked(model, masks)
    evaluated = model.predict(X, verbose=0)
    np.testing.assert_array_equal(strip(model).predict(X, verbose=0), evaluated)
    if model is not b.model:
        compiled(b.keras, model)
    model.train_on_batch(X, Y)
    assert_masked(model, masks)
