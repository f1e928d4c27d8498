"""The callbacks in a user's own `fit`, against a slow reference that goes sample by sample.

    python tests/callback_battery.py CASE [CASE ...]

A case is FLAVOR-KIND-LOGITS-STEPS_PER_EXECUTION-OUTPUTS-STRATEGY, such as
keras-multi_label-logits-3-two-mirrored. Each is checked in this process, which has two devices.
"""

from __future__ import annotations

import csv
import functools
import importlib
import itertools
import math
import os
import pathlib
import sys
import tempfile

import numpy as np
import precision
import tensorflow as tf

from tf_prac import (
    ForgettingLogger,
    ForgettingStats,
    MaskDistance,
    Masks,
    PracModel,
    RewindCheckpoint,
    SampleScores,
    SparsityLogger,
    Targets,
    global_magnitude,
    prunable_weights,
    random_mask,
    snapshot,
    with_sample_ids,
)

FLAVORS = ("keras", "tf_keras")
KINDS = ("sparse", "one_hot", "binary", "multi_label")
CASES = [
    "-".join(parts)
    for parts in itertools.product(
        FLAVORS, KINDS, ("logits", "probabilities"), "13", ("one", "two"), ("single", "mirrored")
    )
    # Keras 3 itself cannot: `fit` of any model with steps_per_execution under MirroredStrategy.
    if (parts[0], parts[3], parts[5]) != ("keras", "3", "mirrored")
]
SAMPLES, BATCH, EPOCHS, K = 44, 8, 4, 6
LOSSES = {
    "sparse": "SparseCategoricalCrossentropy",
    "one_hot": "CategoricalCrossentropy",
    "binary": "BinaryCrossentropy",
    "multi_label": "BinaryCrossentropy",
}
ACTIVATIONS = {"sparse": "softmax", "one_hot": "softmax"}
NAMES = ("mask_distance", "sparsity", "forgetting_events", "unforgettable", "never_learned", "el2n")


@functools.cache  # TensorFlow's collectives on CPUs allow one strategy in a process
def two_devices():
    return tf.distribute.MirroredStrategy([f"{precision.kind()}:{n}" for n in range(2)])


def data(kind):
    """Blobs of three classes in an order at random, and targets of a kind."""
    generator = np.random.default_rng(3)
    classes = generator.integers(0, 3, SAMPLES)
    x = generator.normal(size=(SAMPLES, 6)) + 0.7 * np.eye(3, 6)[classes]
    y = {
        "sparse": classes,
        "one_hot": np.eye(3)[classes],
        "binary": (classes == 1)[:, None],
        "multi_label": np.stack([classes == 0, classes < 2], 1),
    }[kind]
    return x.astype(np.float32), y.astype(np.int64 if kind == "sparse" else np.float32)


def make_network(flavor, kind, logits, outputs):
    keras = importlib.import_module(flavor)
    keras.utils.set_random_seed(1)
    units = {"sparse": 3, "one_hot": 3, "binary": 1, "multi_label": 2}[kind]
    activation = None if logits else ACTIVATIONS.get(kind, "sigmoid")
    inputs = keras.Input((6,))
    hidden = keras.layers.Dense(10, activation="relu")(inputs)
    main = keras.layers.Dense(units, activation=activation, name="main")(hidden)
    if outputs == "one":
        return keras.Model(inputs, main)
    return keras.Model(inputs, {"side": keras.layers.Dense(1, name="side")(hidden), "main": main})


def compiled(model, flavor, kind, logits, outputs, steps=1):
    keras = importlib.import_module(flavor)
    loss = getattr(keras.losses, LOSSES[kind])(from_logits=logits)
    losses = loss if outputs == "one" else {"main": loss, "side": "mse"}
    model.compile(keras.optimizers.SGD(0.3), losses, steps_per_execution=steps, jit_compile=False)
    return model


def probabilities(predictions, kind, logits):
    """Of one sample, in float64 and without TensorFlow."""
    z = np.asarray(predictions, np.float64)
    if not logits:
        return z
    if kind in ("sparse", "one_hot"):
        return np.exp(z - z.max()) / np.exp(z - z.max()).sum()
    return np.array([1 / (1 + math.exp(-value)) for value in z])


def is_right(p, y, kind):
    if kind == "sparse":
        return list(p).index(max(p)) == int(y)
    if kind == "one_hot":
        return list(p).index(max(p)) == list(y).index(1)
    return all((value > 0.5) == (wanted == 1) for value, wanted in zip(p, y, strict=True))


def el2n(p, y, kind):
    if kind == "sparse":
        y = np.eye(3)[int(y)]
    squares = [(a - b) ** 2 for a, b in zip(p, y, strict=True)]
    factor = 1 if kind in ("sparse", "one_hot") else 2  # both classes have equal errors
    return math.sqrt(factor * sum(squares))


def batches(kind, outputs, order):
    x, y = data(kind)
    for start in range(0, SAMPLES, BATCH):
        ids = order[start : start + BATCH]
        target = y[ids] if outputs == "one" else {"main": y[ids], "side": x[ids, :1]}
        yield ids, x[ids], target, np.linspace(0, 2, SAMPLES, dtype=np.float32)[ids]


def reference(case, masks):
    """Trains a plain model batch by batch, and looks at each sample by itself."""
    flavor, kind, logits, _, outputs, _ = case.split("-")
    logits = logits == "logits"
    x, y = data(kind)
    model = compiled(make_network(flavor, kind, logits, outputs), flavor, kind, logits, outputs)
    prunable = prunable_weights(model)
    stats, rows, steps, tentative, w_k, scores = ForgettingStats(SAMPLES), [], 0, None, None, None

    def hold():
        for name, variable in prunable.items():
            variable.assign(variable.numpy() * masks[name])

    def answers(inputs):
        predicted = model(inputs, training=False)
        predicted = (predicted if outputs == "one" else predicted["main"]).numpy()
        return [probabilities(row, kind, logits) for row in predicted]

    hold()
    order = np.random.default_rng(5).permutation(SAMPLES)
    for _ in range(EPOCHS):
        for ids, inputs, targets, weight in batches(kind, outputs, order):
            for sample, p in zip(ids, answers(inputs), strict=True):
                # The loss ignores the first sample, whose weight is 0: it is not judged.
                stats.update(np.array([sample]), [not sample or is_right(p, y[sample], kind)])
            weights = weight if outputs == "one" else {"main": weight, "side": weight}
            model.train_on_batch(inputs, targets, sample_weight=weights)
            hold()
            steps += 1
            if steps == K:
                w_k = snapshot(model)
        values = {name: v.numpy() for name, v in prunable.items()}
        previous, tentative = tentative, global_magnitude(values, masks, 0.3)
        moved = math.inf if previous is None else tentative.hamming(previous) / masks.remaining
        zeros = sum(int((value == 0).sum()) for value in values.values())
        scores = [el2n(p, y[i], kind) if i else 0.0 for i, p in enumerate(answers(x))]
        rows.append(
            {
                "mask_distance": moved,
                "sparsity": zeros / sum(v.size for v in values.values()),
                "forgetting_events": int(stats.events.sum()),
                "unforgettable": stats.unforgettable.mean(),
                "never_learned": stats.never_learned.mean(),
                "el2n": float(np.mean(scores)),
            }
        )
    return stats, rows, w_k, np.array(scores), snapshot(model)


def check(case):
    """Trains with every callback at once, and compares with the reference."""
    flavor, kind, logits, steps, outputs, strategy = case.split("-")
    logits = logits == "logits"
    keras = importlib.import_module(flavor)
    mirrored = strategy == "mirrored"
    strategy = two_devices() if mirrored else None
    with strategy.scope() if strategy else tf.device(f"{precision.kind()}:0"):
        network = make_network(flavor, kind, logits, outputs)
        masks = random_mask(Masks.ones_like(prunable_weights(network)), 0.4, seed=2)
        model = PracModel(
            network,
            masks=masks,
            num_samples=SAMPLES,
            targets=None if outputs == "one" else Targets(output="main"),
        )
        compiled(model, flavor, kind, logits, outputs, int(steps))
    stats, rows, w_k, scores, last = reference(case, masks)

    x, y = data(kind)
    targets = y if outputs == "one" else {"main": y, "side": x[:, :1]}
    weight = np.linspace(0, 2, SAMPLES, dtype=np.float32)
    weights = weight if outputs == "one" else {"main": weight, "side": weight}
    samples = with_sample_ids(tf.data.Dataset.from_tensor_slices((x, targets, weights)))
    order = np.random.default_rng(5).permutation(SAMPLES)
    shuffled = tf.data.Dataset.from_tensor_slices(
        ({"inputs": x[order], "sample_id": order},)
        + tuple(tf.nest.map_structure(lambda part: part[order], (targets, weights)))
    )
    with tempfile.TemporaryDirectory() as directory:
        log = pathlib.Path(directory, "log.csv")
        logger, early = ForgettingLogger(), RewindCheckpoint(f"{K}it")
        sample_scores = SampleScores(
            samples, targets=None if outputs == "one" else Targets(output="main")
        )
        callbacks = [MaskDistance(0.3), SparsityLogger(), logger, sample_scores, early]
        callbacks += [
            keras.callbacks.CSVLogger(str(log)),
            keras.callbacks.ModelCheckpoint(  # comes last, and needs a value that ours add
                os.path.join(directory, "{epoch}-{sparsity:.2f}.weights.h5"),
                monitor="mask_distance",
                mode="min",
                save_best_only=True,
                save_weights_only=True,
            ),
        ]
        history = model.fit(
            shuffled.batch(BATCH), epochs=EPOCHS, shuffle=False, verbose=0, callbacks=callbacks
        ).history
        written = list(csv.DictReader(log.read_text().splitlines()))
        saved = list(pathlib.Path(directory).glob(f"*-{rows[0]['sparsity']:.2f}.weights*"))
    np.testing.assert_array_equal(logger.stats.table, stats.table)
    for name in NAMES:
        expected = [row[name] for row in rows]
        np.testing.assert_allclose(history[name], expected, atol=1e-5, err_msg=name)
        np.testing.assert_allclose([float(row[name]) for row in written], expected, atol=1e-5)
    np.testing.assert_allclose(sample_scores.values, scores, atol=1e-4)
    assert sample_scores.ids.tolist() == list(range(SAMPLES))
    assert sample_scores.samples == EPOCHS * SAMPLES
    assert early.step == K and history["rewind_step"][-1] == K and saved
    for name, value in w_k.items():
        np.testing.assert_allclose(early.weights[name], value, atol=1e-5, err_msg=name)
    for name, value in snapshot(network).items():
        np.testing.assert_allclose(value, last[name], atol=1e-4, err_msg=name)
    assert stats.events.sum() > 0, "a reference that forgets nothing shows nothing"


def main(cases):
    precision.prepare()
    precision.devices(2)
    for case in cases:
        check(case)
        print("ok", case, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or CASES)
