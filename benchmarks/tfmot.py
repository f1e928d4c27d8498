"""`fit` of a pruned tf_keras model: TFMOT's wrappers by themselves, and both ways of tf_prac.

    python benchmarks/tfmot.py --dataset=mnist --data_dir=DATA --model=lenet300

The same network, optimizer, batches and sparsity in five ways: plain, wrapped by TFMOT with a
constant sparsity (computed anew every 100 steps, its default) and its callback, pruned by
`tf_prac.prune`, and as a `PracModel`, which records forgetting besides; this one also in the loop
of the search. They train an epoch in turn, over and over; with `--devices=2`, under
`MirroredStrategy`. Prints the median seconds of an epoch, the ratio to TFMOT of the same turn, and
the fraction of zeros; `--output` writes them as JSON.
"""

from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
from absl import app, flags
from networks import compiled, network_for, tracked
from turns import rows, table, take_turns, write

import tf_prac
from tf_prac.data.pipeline import training_batches
from tf_prac.keras_api import Flavour, build_metrics
from tf_prac.training.distribution import make_distribution
from tf_prac.training.loop import StepLoop

_DATASET = flags.DEFINE_string("dataset", "digits", "Name of the data set.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where it is.")
_LIMIT_TRAIN = flags.DEFINE_integer("limit_train", None, "Use the first n samples.")
_MODEL = flags.DEFINE_string("model", "lenet300", "Name of the network.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "Samples per step.")
_STEPS_PER_EXECUTION = flags.DEFINE_integer("steps_per_execution", 1, "Of each `fit`.")
_SPARSITY = flags.DEFINE_float("sparsity", 0.8, "Fraction pruned of each wrapped layer.")
_DEVICES = flags.DEFINE_integer("devices", 1, "Logical CPU devices.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Turns after one to warm up.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")


def wrapped(model):
    """Wraps the layers that `prune` would prune, as TFMOT's guide does."""
    keras = Flavour("tf_keras").module
    schedule = tfmot.sparsity.keras.ConstantSparsity(_SPARSITY.value, 1)  # from the first step on
    pruned = {id(variable) for variable in tf_prac.prunable_weights(model).values()}

    def clone(layer):
        chosen = any(id(weight) in pruned for weight in layer.weights)
        wrap = tfmot.sparsity.keras.prune_low_magnitude
        return wrap(layer, pruning_schedule=schedule) if chosen else layer

    return keras.models.clone_model(model, clone_function=clone)


def zeros(model) -> float:
    """The fraction of prunable weights that are 0."""
    values = [v.numpy() for v in tf_prac.prunable_weights(model).values()]
    return sum(int(np.sum(v == 0)) for v in values) / sum(v.size for v in values)


def prepared(train) -> dict[str, Any]:
    """The five models, compiled, by name."""
    config = tf_prac.PruningConfig(scope="layerwise")
    at_once = _STEPS_PER_EXECUTION.value

    def network():
        return network_for(train, _MODEL.value, "tf_keras")

    models = {
        "plain": network(),
        "TFMOT": wrapped(network()),
        "prune": tf_prac.prune(network(), sparsity=_SPARSITY.value, pruning=config),
    }
    for model in models.values():
        compiled(model, Flavour("tf_keras").module, at_once)
    ours, looped = (
        tracked(network(), len(train), _SPARSITY.value, steps_per_execution=at_once)
        for _ in range(2)
    )
    return {**models, "PracModel": ours, "search loop": looped}


def main(_) -> None:
    distribution = (
        make_distribution("mirrored", _DEVICES.value)
        if _DEVICES.value > 1
        else make_distribution("one")
    )
    limit = _LIMIT_TRAIN.value
    train = tf_prac.load_dataset(_DATASET.value, data_dir=_DATA_DIR.value, limit_train=limit).train
    steps = -(-len(train) // _BATCH_SIZE.value)
    ids = np.arange(len(train))

    def of_shard(shard):
        size = _BATCH_SIZE.value
        return training_batches(train, ids, batch_size=size, seed=(0,), steps=steps, shard=shard)

    with_ids = of_shard(None)
    without = with_ids.map(lambda x, y: (x["inputs"], y))
    with distribution.strategy.scope():
        models = prepared(train)
        if distribution.static:
            inputs = tf.zeros([_BATCH_SIZE.value, *train.input_shape])
            build_metrics(models["search loop"], inputs, models["search loop"](inputs))
    callbacks = {"TFMOT": [tfmot.sparsity.keras.UpdatePruningStep()]}

    def epoch(name):
        data = with_ids if name == "PracModel" else without
        callback = callbacks.get(name)
        return lambda: models[name].fit(data, shuffle=False, verbose=0, callbacks=callback)

    ways = {name: epoch(name) for name in models}
    loop = StepLoop(models["search loop"], distribution)
    endless = iter(distribution.batches(of_shard, _BATCH_SIZE.value))
    ways["search loop"] = lambda: loop.train(endless, steps)
    seconds = take_turns(ways, _REPEATS.value)
    found = rows(seconds, "TFMOT", len(train))
    for name, model in models.items():
        found[name]["zeros"] = zeros(getattr(model, "network", model))
    print(table(found, "TFMOT"))
    print("zeros: " + ", ".join(f"{name} {row['zeros']:.4f}" for name, row in found.items()))
    chosen = (
        _DATASET,
        _MODEL,
        _LIMIT_TRAIN,
        _BATCH_SIZE,
        _STEPS_PER_EXECUTION,
        _SPARSITY,
        _DEVICES,
    )
    write(_OUTPUT.value, {"options": {f.name: f.value for f in chosen}, "rows": found})


if __name__ == "__main__":
    app.run(main)
