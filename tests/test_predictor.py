"""`Predictor`: samples on the device or streamed give the same predictions, bit for bit."""

from __future__ import annotations

import importlib
import itertools

import numpy as np
import pytest
import tensorflow as tf

from tf_prac import Masks, PruningConfig, prunable_weights, random_mask
from tf_prac.data.pipeline import evaluation_batches
from tf_prac.data.source import ArraySamples
from tf_prac.data.splits import Split
from tf_prac.keras_api import FLAVORS
from tf_prac.tasks import MultiLabel, Outputs, Regression, Sparse
from tf_prac.training import batch_map, inference
from tf_prac.training.batch_map import BatchMap
from tf_prac.training.distribution import Distribution
from tf_prac.training.gradients import GradientNorms
from tf_prac.training.inference import Predictor
from tf_prac.training.placement import DataPlacement

both = pytest.mark.parametrize("flavor", FLAVORS)
COUNT = 47
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (COUNT, 6, 6, 1), np.uint8)
IDS = RNG.permutation(COUNT)[:41]
CLASSES, WEIGHTS = np.arange(COUNT) % 3, RNG.random(COUNT).astype(np.float32)
MAPS = RNG.integers(-1, 3, (COUNT, 6, 6))
CASES = {
    "classes": (Sparse(from_logits=True), CLASSES, None),
    "weights": (Sparse(from_logits=True), CLASSES, WEIGHTS),
    "positions": (Sparse(from_logits=True, ignore_class=-1), MAPS, None),
    "regression": (Regression(bound=0.5), RNG.normal(size=(COUNT, 3)).astype(np.float32), None),
    "labels": (MultiLabel(from_logits=True), RNG.integers(0, 2, (COUNT, 3)), None),
}


def network(flavor, positions):
    keras = importlib.import_module(flavor)
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((6, 6, 1))
    if positions:
        return keras.Model(inputs, keras.layers.Conv2D(3, 3, padding="same")(x))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Flatten()(x)))


def results(predictor, split):
    decisions = predictor.decisions(split)
    scores = [predictor.scores(split, "el2n"), predictor.scores(split, "loss")]
    return [decisions.values, decisions.judged, predictor.measure(split), *scores]


QUICK = [("keras", "classes"), ("tf_keras", "positions")]
EVERY = [
    pair if pair in QUICK else pytest.param(*pair, marks=pytest.mark.slow)
    for pair in itertools.product(FLAVORS, CASES)
]


@pytest.mark.parametrize("flavor, case", EVERY)
def test_predictions_do_not_depend_on_the_placement(flavor, case, monkeypatch):
    monkeypatch.setattr(inference, "EVALUATION_BATCH", 8)
    task, labels, weights = CASES[case]
    samples = ArraySamples(IMAGES, labels, mean=[0.4], std=[0.2], weights=weights)
    model, split = network(flavor, case == "positions"), Split(samples, IDS)
    distribution, expected = Distribution(), None
    for placement, call_bytes in (("stream", 1), ("device", 2**20)):  # one batch a call, and all
        monkeypatch.setattr(batch_map, "CALL_BYTES", call_bytes)
        place = DataPlacement(distribution, placement)
        place.jit_compile = placement == "device"  # XLA compiles training only
        actual = results(Predictor(model, distribution, task, place), split)
        assert len(actual[0]) == len(IDS)
        expected = expected or actual
        for one, other in zip(expected, actual, strict=True):
            assert one is other is None or np.array_equal(one, other)
    outputs = model(samples.inputs(IDS) / np.float32(255 * 0.2) - np.float32(2)).numpy()
    if case == "classes":
        assert np.array_equal(expected[0], outputs.argmax(-1))
        assert expected[2] == np.mean(outputs.argmax(-1) == CLASSES[IDS])


@both
def test_gradient_norms_do_not_depend_on_the_placement(flavor, monkeypatch):
    samples = ArraySamples(IMAGES, CLASSES, mean=[0.4], std=[0.2], weights=WEIGHTS)
    model, split, distribution = network(flavor, False), Split(samples, IDS), Distribution()
    pruning, task = PruningConfig(prune_last_dense=True), Sparse(from_logits=True)
    prunable = prunable_weights(model, pruning)
    norms = GradientNorms(model, prunable, lambda *y: tf.reduce_mean(task.losses(*y)))
    norms.batch_size = 8
    norms.set_masks(random_mask(Masks.ones_like(prunable), 0.5, seed=0))
    batches = evaluation_batches(samples, IDS, batch_size=8)
    of_batch = tf.function(norms.of_batch)
    expected = np.concatenate([of_batch(x["inputs"], *y).numpy() for x, *y in batches])
    for placement, call_bytes in (("stream", 1), ("device", 2**20)):  # one batch a call, and all
        monkeypatch.setattr(batch_map, "CALL_BYTES", call_bytes)
        predictor = Predictor(model, None, task, DataPlacement(distribution, placement))
        np.testing.assert_array_equal(predictor.gradient_norms(split, norms), expected)
    assert len(expected) == len(IDS) and (expected > 0).all()


def test_long_calls_do_not_grow(monkeypatch):
    """A call cannot be interrupted."""
    samples, clock = ArraySamples(IMAGES, CLASSES), iter(range(0, 1000, 2))
    placement = DataPlacement(Distribution(), "device")
    mapped = BatchMap(Distribution(), lambda x, y: x["sample_id"])
    batches = placement.evaluation(Split(samples, IDS), 2)
    monkeypatch.setattr(batch_map.time, "perf_counter", lambda: next(clock))
    sizes = [len(ids) // 2 for ids in mapped(batches, 20)]
    assert sizes == [1, 8, 8, 3]


def test_a_pass_reads_the_host_in_two_calls(monkeypatch):
    """One of a batch, to know the size of the results, and one of all others."""
    monkeypatch.setattr(inference, "EVALUATION_BATCH", 8)
    samples = ArraySamples(IMAGES, CLASSES)
    placement = DataPlacement(Distribution(), "device")
    predictor = Predictor(network("keras", False), None, None, placement)
    predictor.decisions(Split(samples, IDS))
    (mapped,) = predictor._maps.values()
    ((kind, loop),) = mapped._loops.items()
    steps: list[int] = []
    mapped._loops[kind] = lambda call: steps.append(int(call.steps)) or loop(call)
    predictor.decisions(Split(samples, IDS))
    predictor.decisions(Split(samples, IDS[:5]))
    assert steps == [1, 5, 1]
    assert loop.experimental_get_tracing_count() == 1


@pytest.mark.slow
@both
def test_several_outputs(flavor, monkeypatch):
    monkeypatch.setattr(inference, "EVALUATION_BATCH", 8)
    keras = importlib.import_module(flavor)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 1))
    x = keras.layers.Flatten()(inputs)
    model = keras.Model(inputs, {n: keras.layers.Dense(3, name=n)(x) for n in ("a", "b")})
    task = Outputs(tasks={"a": Sparse(from_logits=True), "b": Sparse(from_logits=True)})
    samples = ArraySamples(IMAGES, {"a": CLASSES, "b": CLASSES[::-1].copy()})
    split, actual = Split(samples, IDS), []
    for placement in ("stream", "device"):
        predictor = Predictor(model, None, task, DataPlacement(Distribution(), placement))
        actual.append((predictor.decisions(split).values, predictor.scores(split, "el2n")))
    for name in ("a", "b"):
        np.testing.assert_array_equal(actual[0][0][name], actual[1][0][name])
    np.testing.assert_array_equal(actual[0][1], actual[1][1])
    assert tf.nest.map_structure(len, actual[0][0]) == {"a": len(IDS), "b": len(IDS)}
