"""`fit` of a pruned tf_keras model: with TFMOT's wrappers and with the models of tf_prac.

    python benchmarks/tfmot.py --dataset=mnist --data_dir=DATA --model=lenet300

The same network, optimizer, batches and sparsity are trained unpruned; with TFMOT's wrappers and
callback at a constant sparsity (masks updated every 100 steps, its default); with `tf_prac.prune`;
as a `PracModel`, which also records forgetting events; and the same in the loop of a search. Each
trains one epoch per turn; with `--devices=2`, under `MirroredStrategy`. Prints the median seconds
of an epoch, the ratio to TFMOT and the fraction of zeros; `--output` writes them as JSON.
"""

from typing import Any

import common_flags
import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
from absl import app
from common_flags import FLAGS
from networks import compiled, network_for, tracked
from turns import rows, table, take_turns, write

import tf_prac
from tf_prac.data.pipeline import training_batches
from tf_prac.keras_api import Flavor, build_metrics
from tf_prac.training.loop import StepLoop
from tf_prac.training.strategies import make_distribution

OPTIONS = (
    "dataset",
    "model",
    "limit_train",
    "batch_size",
    "steps_per_execution",
    "sparsity",
    "devices",
)
common_flags.define(*OPTIONS, "data_dir", "repeats", "output")


def wrapped(model):
    """Wraps the layers that `prune` prunes, as in TFMOT's guide."""
    keras = Flavor("tf_keras").module
    schedule = tfmot.sparsity.keras.ConstantSparsity(FLAGS.sparsity, 1)  # from the first step on
    pruned = {id(variable) for variable in tf_prac.prunable_weights(model).values()}

    def clone(layer):
        chosen = any(id(weight) in pruned for weight in layer.weights)
        wrap = tfmot.sparsity.keras.prune_low_magnitude
        return wrap(layer, pruning_schedule=schedule) if chosen else layer

    return keras.models.clone_model(model, clone_function=clone)


def zeros(model) -> float:
    """Returns the fraction of the prunable weights that is 0."""
    values = [v.numpy() for v in tf_prac.prunable_weights(model).values()]
    return sum(int(np.sum(v == 0)) for v in values) / sum(v.size for v in values)


def prepared(train) -> dict[str, Any]:
    """Returns the compiled models by name."""
    config = tf_prac.PruningConfig(scope="layerwise")
    per_execution = FLAGS.steps_per_execution

    def network():
        return network_for(train, keras="tf_keras")

    models = {
        "plain": network(),
        "TFMOT": wrapped(network()),
        "prune": tf_prac.prune(network(), sparsity=FLAGS.sparsity, pruning=config),
    }
    for model in models.values():
        compiled(model, per_execution)
    ours, looped = (
        tracked(network(), len(train), FLAGS.sparsity, steps_per_execution=per_execution)
        for _ in range(2)
    )
    return {**models, "PracModel": ours, "search loop": looped}


def main(_) -> None:
    """Times the models and prints the table."""
    distribution = (
        make_distribution("mirrored", FLAGS.devices)
        if FLAGS.devices > 1
        else make_distribution("one")
    )
    train = common_flags.load_data().train
    steps = -(-len(train) // FLAGS.batch_size)
    ids = np.arange(len(train))

    def of_shard(shard):
        size = FLAGS.batch_size
        return training_batches(train, ids, batch_size=size, seed=(0,), steps=steps, shard=shard)

    with_ids = of_shard(None)
    without_ids = with_ids.map(lambda x, y: (x["inputs"], y))
    with distribution.strategy.scope():
        models = prepared(train)
        models["search loop"].padded_batches = distribution.pads_batches
        if distribution.pads_batches:
            inputs = tf.zeros([FLAGS.batch_size, *train.input_shape])
            build_metrics(models["search loop"], inputs, models["search loop"](inputs))
    callbacks = {"TFMOT": [tfmot.sparsity.keras.UpdatePruningStep()]}

    def epoch(name):
        data = with_ids if name == "PracModel" else without_ids
        callback = callbacks.get(name)
        return lambda: models[name].fit(data, shuffle=False, verbose=0, callbacks=callback)

    alternatives = {name: epoch(name) for name in models}
    loop = StepLoop(models["search loop"], distribution)
    endless = iter(distribution.batches(of_shard, FLAGS.batch_size))
    alternatives["search loop"] = lambda: loop.train(endless, steps)
    seconds = take_turns(alternatives, FLAGS.repeats)
    results = rows(seconds, "TFMOT", len(train))
    for name, model in models.items():
        results[name]["zeros"] = zeros(getattr(model, "network", model))
    print(table(results, "TFMOT"))
    print("zeros: " + ", ".join(f"{name} {row['zeros']:.4f}" for name, row in results.items()))
    options = {name: FLAGS[name].value for name in OPTIONS}
    write(FLAGS.output, {"options": options, "rows": results})


if __name__ == "__main__":
    app.run(main)
