"""What each worker does in `test_workers.py`, a process each: `two_workers.py DIR [norm]`."""

import contextlib
import importlib
import json
import pathlib
import sys
from unittest import mock

import numpy as np
import tensorflow as tf
from two_devices import COUNT, network, samples

from tf_prac import ForgettingLogger, PracModel, TicketSearch, TrainingRecipe, with_sample_ids
from tf_prac.config import PruningConfig
from tf_prac.data.source import ArraySamples
from tf_prac.errors import ArgumentError, MismatchError
from tf_prac.keras_api import FLAVORS
from tf_prac.training.distribution import ReplicaVariable
from tf_prac.training.strategies import make_distribution

EPOCHS, ROUNDS = 2, 2


def search(flavor, directory, strategy, seed=0, rounds=ROUNDS, **options):
    return TicketSearch(
        lambda: network(flavor, **options),
        TrainingRecipe(epochs=EPOCHS, batch_size=18, learning_rate=0.01),
        PruningConfig(rounds=rounds, prune_rate=0.3, rewind="3it"),
        directory=directory,
        deterministic=True,
        retrain="none",
        seed=seed,
        strategy=strategy,
        verbose=False,
    )


def refused(distribution, directory):
    """Returns the errors of a search when worker 1 differs from the chief, by what differs."""
    odd, data = distribution.worker == 1, samples()
    labels = data.labels.copy()
    labels[7] = (labels[7] + odd) % 3
    version = mock.patch("tf_prac.search.summary._version", lambda name: f"{name} {int(odd)}")
    errors = {}
    for what, seed, train, changed in (
        ("configuration", int(odd), data, contextlib.nullcontext()),
        ("data set", 0, ArraySamples(data._images.numpy(), labels), contextlib.nullcontext()),
        ("version", 0, data, version),
    ):
        with changed:
            try:
                search("keras", directory / "refused", distribution, seed).run(train)
            except MismatchError as error:
                errors[what] = str(error)
    return errors


def own_fit(flavor, distribution):
    """How often Keras's own `fit` presented the samples, the fewest and the most; or why not."""
    data, keras = samples(), importlib.import_module(flavor)
    rows = tf.data.Dataset.from_tensor_slices((data._images.numpy(), data.labels))
    with distribution.strategy.scope():
        model = PracModel(network(flavor), num_samples=COUNT)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(optimizer=keras.optimizers.SGD(0.1), loss=loss, jit_compile=False)
    logger = ForgettingLogger()
    batches = with_sample_ids(rows).shuffle(COUNT, seed=0).batch(18)
    try:
        model.fit(batches, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=[logger])
    except ArgumentError as error:
        return str(error)
    presented = logger.stats.presentations
    return [int(presented.min()), int(presented.max())]


def replica_values(distribution):
    """Values that were set in each replica, read again, and the value in this worker."""
    sum_of_replicas = {
        "synchronization": tf.VariableSynchronization.ON_READ,
        "aggregation": tf.VariableAggregation.SUM,
    }
    with distribution.strategy.scope():
        variable = tf.Variable([0.0, 0.0], trainable=False, **sum_of_replicas)
    values = ReplicaVariable(variable, distribution)
    values.assign(np.float32([[0.1, index] for index in range(distribution.replicas)]))
    (own,) = distribution.strategy.experimental_local_results(variable)
    return {"all": values.numpy().tolist(), "own": own.numpy().tolist()}


def main(directory, *also):
    distribution = make_distribution("multi_worker")
    place = pathlib.Path(directory) / f"worker_{distribution.worker}"
    found = {"refused": refused(distribution, place)}
    # Every worker keeps its files, to be compared.
    with mock.patch(
        "tf_prac.search.ticket_search.worker_directory",
        lambda _, path: contextlib.nullcontext(path),
    ):
        search("keras", place / "keras", distribution, rounds=1).run(samples())  # continued below
        for flavor in FLAVORS:
            search(flavor, place / flavor, distribution).run(samples())
        if "norm" in also:
            search("keras", place / "norm", distribution, rounds=1, norm=True).run(samples())
    for flavor in FLAVORS:
        found[flavor] = own_fit(flavor, distribution)
    found["replicas"] = replica_values(distribution)
    (place / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
