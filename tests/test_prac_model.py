"""`PracModel`, its recorder and the callbacks, over both flavors."""

import importlib

import numpy as np
import precision
import pytest
import tensorflow as tf
from halved import halved

from tf_prac import (
    ForgettingLogger,
    ForgettingRecorder,
    ForgettingStats,
    MaskDistance,
    Masks,
    PracModel,
    PruningConfig,
    prunable_weights,
    random_mask,
    with_sample_ids,
)
from tf_prac.errors import ArgumentError, MismatchError
from tf_prac.keras_api import FLAVORS, Flavor, make_optimizer
from tf_prac.training.callbacks.callback import Callback
from tf_prac.training.masked_weights import attach_masks, get_masks, get_prunable, set_masks

both = pytest.mark.parametrize("flavor", FLAVORS)
OPTIMIZERS = {
    "sgd": {"momentum": 0.9, "weight_decay": 1e-3},
    "adam": {},
    "adamw": {"weight_decay": 1e-2},
    "rmsprop": {"momentum": 0.9},
    "nadam": {"weight_decay": 1e-2},
}


def small_network(flavor):
    keras = importlib.import_module(flavor)
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(8, activation="relu")(inputs)
    hidden = keras.layers.BatchNormalization()(hidden)
    hidden = keras.layers.Dense(5, activation="relu")(hidden)
    return keras.Model(inputs, keras.layers.Dense(3)(hidden))


def blobs(count=50, seed=0):
    generator = np.random.default_rng(seed)
    y = generator.integers(0, 3, count)
    x = generator.normal(size=(count, 6)) + 1.5 * np.eye(3, 6)[y]
    return x.astype(np.float32), y


def compiled(model, flavor, optimizer="sgd", **options):
    keras = importlib.import_module(flavor)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    arguments = {"learning_rate": 0.05, **OPTIMIZERS[optimizer]}
    options = {"metrics": ["accuracy"], "jit_compile": False, **options}
    optimizer = make_optimizer(Flavor(flavor), optimizer, **arguments)
    model.compile(optimizer=optimizer, loss=loss, **options)
    return model


@halved("flavor, optimizer, steps_per_execution", FLAVORS, tuple(OPTIMIZERS), (1, 4))
def test_pruned_weights_are_exactly_zero_after_fit(flavor, optimizer, steps_per_execution):
    network = small_network(flavor)
    masks = random_mask(Masks.ones_like(prunable_weights(network)), 0.6, seed=3)
    model = PracModel(network, masks=masks)
    compiled(model, flavor, optimizer, steps_per_execution=steps_per_execution)
    before = {name: v.numpy() for name, v in model.prunable.items()}
    x, y = blobs()
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    for name, variable in model.prunable.items():
        after = variable.numpy()
        np.testing.assert_array_equal(after != 0, masks[name] & (after != 0))
        assert np.count_nonzero(after) == np.count_nonzero(masks[name])
        assert np.all(after[masks[name]] != before[name][masks[name]])


class CorrectByEpoch(Callback):
    """Keeps a copy of the recorded statistics of each epoch."""

    def __init__(self):
        self.tables = []

    def on_epoch_end(self, epoch, logs=None):
        self.tables.append(self.model.forgetting.stats.table.copy())


@halved("flavor, steps_per_execution", FLAVORS, (1, 3))
def test_recorded_forgetting_equals_a_step_by_step_reference(flavor, steps_per_execution):
    x, y = blobs(45)
    ids = np.array([7 * i % 45 for i in range(30)])  # 15 samples are never presented
    network = small_network(flavor)
    model = PracModel(network, num_samples=45)
    compiled(model, flavor, steps_per_execution=steps_per_execution)
    batches = (
        tf.data.Dataset.from_tensor_slices(({"inputs": x[ids], "sample_id": ids}, y[ids]))
        .batch(7)
        .cache()
    )
    start = [w.numpy() for w in network.weights]
    model.fit(batches, epochs=6, shuffle=False, verbose=0)

    reference_network = small_network(flavor)
    reference = ForgettingStats(45)
    plain = compiled(PracModel(reference_network), flavor)
    for weight, value in zip(reference_network.weights, start, strict=True):
        weight.assign(value)
    for _ in range(6):
        for batch, labels in batches:
            logits = reference_network(batch["inputs"], training=True).numpy()
            reference.update(batch["sample_id"].numpy(), logits.argmax(-1) == labels.numpy())
            # The forward pass above updates the statistics of BatchNorm, and training updates them
            # again. A training pass does not read them.
            plain.train_on_batch(batch["inputs"], labels)
    np.testing.assert_array_equal(model.forgetting.stats.table, reference.table)
    assert reference.events.sum() > 0
    assert not model.forgetting.stats.seen[np.setdiff1d(np.arange(45), ids)].any()


@both
def test_evaluation_and_prediction_record_nothing(flavor):
    x, y = blobs()
    model = compiled(PracModel(small_network(flavor), num_samples=50), flavor)
    batches = with_sample_ids(tf.data.Dataset.from_tensor_slices((x, y))).batch(10)
    model.evaluate(batches, verbose=0)
    assert model.predict(batches, verbose=0).shape == (50, 3)
    assert model.predict(x, verbose=0).shape == (50, 3)
    assert not model.forgetting.stats.table.any()
    model.fit(batches, shuffle=False, validation_data=batches, epochs=2, verbose=0)
    assert (model.forgetting.stats.presentations == 2).all()


@both
def test_masks_and_data_change_without_retracing(flavor):
    x, y = blobs()
    model = compiled(PracModel(small_network(flavor), num_samples=50), flavor)
    dataset = with_sample_ids(tf.data.Dataset.from_tensor_slices((x, y)))
    model.fit(dataset.batch(8), shuffle=False, epochs=1, verbose=0)
    traces = model.traces
    for seed in range(3):
        model.set_masks(random_mask(Masks.ones_like(model.prunable), 0.5, seed=seed))
        model.fit(dataset.take(20 + seed).batch(8), shuffle=False, epochs=2, verbose=0)
    assert model.traces == traces


@both
def test_a_wrapped_model_trains_like_the_plain_one(flavor):
    x, y = blobs()
    plain, network = small_network(flavor), small_network(flavor)
    for a, b in zip(plain.weights, network.weights, strict=True):
        b.assign(a)
    model = PracModel(network, num_samples=50)
    dataset = tf.data.Dataset.from_tensor_slices((x, y))
    compiled(plain, flavor).fit(dataset.batch(8), shuffle=False, epochs=3, verbose=0)
    compiled(model, flavor).fit(
        with_sample_ids(dataset).batch(8), shuffle=False, epochs=3, verbose=0
    )
    for a, b in zip(plain.weights, network.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@both
def test_logger_adds_forgetting_to_the_logs_and_resets_with_each_fit(flavor):
    x, y = blobs()
    model = compiled(PracModel(small_network(flavor), num_samples=50), flavor)
    batches = with_sample_ids(tf.data.Dataset.from_tensor_slices((x, y))).batch(8)
    logger = ForgettingLogger()
    for _ in range(2):
        history = model.fit(batches, shuffle=False, epochs=3, verbose=0, callbacks=[logger]).history
        assert (logger.stats.presentations == 3).all()
        assert history["forgetting_events"][-1] == logger.stats.events.sum()
        assert history["never_learned"][-1] == np.mean(logger.stats.never_learned)
        assert history["unforgettable"][-1] == np.mean(logger.stats.unforgettable)


@both
def test_mask_distance_is_in_the_logs_and_can_stop(flavor):
    x, y = blobs()
    model = compiled(PracModel(small_network(flavor)), flavor)
    watch = MaskDistance(0.3)
    history = model.fit(x, y, epochs=4, verbose=0, callbacks=[watch]).history
    assert history["mask_distance"] == pytest.approx([np.inf, *watch.distances])
    assert len(watch.distances) == 3 and not watch.stopped
    assert watch.tentative.remaining == round(model.masks.remaining * 0.7)

    stop = MaskDistance(0.3, eps=0.6 + 1e-6, window=1)  # a distance is at most twice the rate
    stop_at_once = model.fit(x, y, epochs=4, verbose=0, callbacks=[stop])
    assert not stop.stopped and len(stop_at_once.history["loss"]) == 4  # never armed
    model.optimizer.learning_rate = 0.0
    frozen = MaskDistance(0.3, eps=1e-9, window=2)
    frozen.set_model(model)
    frozen.on_train_begin()
    frozen._stop_rule.armed = True
    stops = []
    for epoch in range(4):
        frozen.on_epoch_end(epoch, {})
        stops.append(frozen.stopped)
    assert stops == [False, False, True, True]


@both
def test_masks_of_any_model_are_read_attached_and_set(flavor):
    network = small_network(flavor)
    weights = prunable_weights(network)
    dense, masks = Masks.ones_like(weights), random_mask(Masks.ones_like(weights), 0.5, seed=1)
    set_masks(network, masks)  # a model without masks is not changed
    assert get_masks(network) == dense and get_prunable(network).keys() == weights.keys()
    assert all(variable.numpy().all() for variable in weights.values())

    model = PracModel(network)
    assert attach_masks(model) is model.masked_weights
    first = next(iter(masks))
    set_masks(model, Masks({first: masks[first]}))
    assert get_masks(model) == model.masks == Masks({**dense, first: masks[first]})
    assert get_prunable(model) is model.prunable
    assert np.array_equal(weights[first].numpy() != 0, masks[first])

    only_first = attach_masks(model, variables={first: weights[first]})
    assert only_first is not model.masked_weights and only_first.masks == Masks.ones_like(
        only_first.variables
    )


def test_the_recorder_ignores_padding():
    recorder = ForgettingRecorder(3)
    recorder.record([1, -1], [True, True], padded=True)
    assert recorder.stats.seen.tolist() == [False, True, False]
    recorder.record([3], [True])
    with pytest.raises(ArgumentError, match="num_samples: received 3"):
        recorder.check()


@both
def test_finite_steps_names_the_first_bad_step(flavor):
    x, y = blobs(40)
    sample_weight = np.ones(40, np.float32)
    sample_weight[25] = np.nan
    model = compiled(PracModel(small_network(flavor)), flavor, steps_per_execution=2)
    model.fit(x, y, sample_weight=sample_weight, batch_size=10, shuffle=False, verbose=0)
    assert model.finite_steps == 2
    model.reset_finite_steps()
    assert model.finite_steps == 0


@both
def test_invalid_arguments_are_errors(flavor):
    keras = importlib.import_module(flavor)
    network = small_network(flavor)
    with pytest.raises(ArgumentError, match="model: received .*object.*; allowed: a model built"):
        PracModel(object())
    only_last = keras.Sequential([keras.layers.InputLayer((4,)), keras.layers.Dense(3)])
    with pytest.raises(ArgumentError, match="the last dense layer"):
        PracModel(only_last)
    assert len(PracModel(only_last, pruning=PruningConfig(prune_last_dense=True)).prunable) == 1
    with pytest.raises(MismatchError, match="masks: "):
        PracModel(network, masks=Masks({"dense/kernel": np.ones((2, 2))}))
    x, y = blobs()
    model = compiled(PracModel(network, num_samples=50), flavor)
    with pytest.raises(ArgumentError, match="with_sample_ids"):
        model.fit(iter([(x, y)]), verbose=0)
    plain = compiled(small_network(flavor), flavor)
    with pytest.raises(ArgumentError, match="Wrap yours: PracModel"):
        plain.fit(x, y, verbose=0, callbacks=[ForgettingLogger()])


@both
def test_sample_weights_of_padded_batches_count_samples_in_metrics_and_others_are_left(flavor):
    """The loss is weighted as Keras does it; metrics of padded batches count each sample once."""
    x, y = blobs(16)
    weight = np.where(np.arange(16) < 12, 16 / 12, 0).astype(np.float32)
    plain = small_network(flavor)
    expected = compiled(plain, flavor, weighted_metrics=["accuracy"], metrics=None)
    expected = expected.evaluate(x, y, sample_weight=weight, verbose=0, return_dict=True)
    unpadded = plain.evaluate(x[:12], y[:12], verbose=0, return_dict=True)
    batch = tf.data.Dataset.from_tensors(({"inputs": x, "sample_id": np.arange(16)}, y, weight))
    for padded in (False, True):
        model = PracModel(plain)
        model.padded_batches = padded
        compiled(model, flavor, weighted_metrics=["accuracy"], metrics=None)
        found = model.evaluate(batch, verbose=0, return_dict=True)
        assert found["loss"] == pytest.approx(expected["loss"], rel=precision.rounding(1e-6))
        assert found["accuracy"] == pytest.approx(
            expected["accuracy"], rel=precision.rounding(1e-6)
        )
        assert found["loss"] == pytest.approx(unpadded["loss"], rel=1e-5)
        weights = [v for metric in model.metrics for v in metric.variables if "count" in v.name]
        assert float(np.array(weights[-1])) == pytest.approx(12 if padded else 16)
