"""Accuracy against latency of tickets: unstructured, shrunk, refilled and structured.

    python benchmarks/channels.py --data_dir=DATA --limit_train=10000 --output=channels.json

A network is trained on CIFAR-10 from W_k, the weights after `--rewind` steps. Each pattern prunes
the trained weights by magnitude, once; the ticket is trained from W_k for as many steps, and
shrunk. All models take turns in TFLite with dense weights and one thread; times are CPU times.
`--seeds` repeats everything.
"""

import json
import pathlib
import sys
import tempfile
import time

import numpy as np
import shrink as targets
import tensorflow as tf
import turns
from absl import app, flags
from common_flags import FLAGS, load_data

from tf_prac import PruningConfig, prune, rewind, snapshot, strip
from tf_prac.export import shrink, tflite
from tf_prac.keras_api import Flavor
from tf_prac.tables import markdown_table

_NETWORK = flags.DEFINE_string("network", "resnet8", "Network.")
_ARMS = flags.DEFINE_list(
    "arms",
    ["unstructured=0.5", "unstructured=0.8", "unstructured=0.95"]
    + ["refill=0.3", "refill=0.5", "refill=0.8", "channels=0.3", "channels=0.5", "channels=0.7"],
    "PATTERN=SPARSITY; the sparsity of `channels` counts channels.",
)
_REWIND = flags.DEFINE_integer("rewind", 50, "Step of W_k.")
_SEEDS = flags.DEFINE_integer("seeds", 1, "Number of seeds.")
COLUMNS = (
    *("pattern", "sparsity", "weights pruned", "accuracy", "parameters", "shrunk"),
    *("ms, batch 1", "times faster", "ms, batch 32", "times faster, 32"),
)


def trained(name, weights, masks, batches, test):
    """Returns a network trained from W_k with masks, and its accuracy."""
    model = targets.network(name)
    rewind(model, weights)
    model = prune(model, masks=masks) if masks is not None else model
    targets.fit(model, batches)
    return model, float(model.evaluate(*test, verbose=0)[1])


def latencies(models, images):
    """Returns for each model and batch size the time in TFLite, and how much faster than dense."""
    results = {name: {} for name in models}
    with tempfile.TemporaryDirectory() as directory:
        base = pathlib.Path(directory)
        for number, model in enumerate(models.values()):
            tflite(model, base / str(number), masks={}, sparse=False, check=False)
        for size in (1, 32):
            batch = np.ascontiguousarray(images[:size])
            runs = {
                name: targets.interpreter(base / str(number), batch)
                for number, name in enumerate(models)
            }
            seconds = turns.take_turns(runs, FLAGS.repeats, warmups=3, clock=time.process_time)
            for name, times in seconds.items():
                faster = [d / t for d, t in zip(seconds["dense"], times, strict=True)]
                results[name][size] = (1e3 * float(np.median(times)), float(np.median(faster)))
    return results


def measure(seed, data):
    """Returns a row for the dense network and for each arm."""
    keras = Flavor(FLAGS.keras).module
    keras.utils.set_random_seed(seed)
    batches, test = targets.training_batches(data), targets.test_arrays(data)
    images, _ = targets.normalized(data.test, 32)
    start = targets.network(_NETWORK.value)
    targets.fit(start, batches, _REWIND.value)
    w_k = snapshot(start)
    dense, accuracy = trained(_NETWORK.value, w_k, None, batches, test)
    models = {"dense": dense}
    size = dense.count_params()
    rows = {
        "dense": {"pattern": "dense", "sparsity": 0.0, "weights pruned": 0.0}
        | {"accuracy": accuracy, "parameters": size, "shrunk": False}
    }
    for arm in _ARMS.value:
        pattern, _, sparsity = arm.partition("=")
        config = PruningConfig(pattern=pattern, scope="global")
        copy = targets.network(_NETWORK.value)
        rewind(copy, snapshot(dense))
        masks = prune(copy, sparsity=float(sparsity), pruning=config).masks
        model, accuracy = trained(_NETWORK.value, w_k, masks, batches, test)
        shrunk = shrink(model)
        print(arm, accuracy, shrunk.report, file=sys.stderr, flush=True)
        about = {"pattern": pattern, "sparsity": float(sparsity), "accuracy": accuracy}
        about["weights pruned"] = masks.sparsity
        kinds = {True: shrunk.model} | ({False: strip(model)} if pattern == "unstructured" else {})
        for smaller, each in kinds.items():
            models[f"{arm} {smaller}"] = each
            after = shrunk.report.parameters[1] if smaller else size
            rows[f"{arm} {smaller}"] = about | {"parameters": after, "shrunk": smaller}
    for name, times in latencies(models, images).items():
        rows[name] |= {"ms, batch 1": times[1][0], "times faster": times[1][1]}
        rows[name] |= {"ms, batch 32": times[32][0], "times faster, 32": times[32][1]}
    return [{"seed": seed, **row} for row in rows.values()]


def main(_):
    """Measures every seed and prints a table."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    data = load_data()
    rows = [row for seed in range(_SEEDS.value) for row in measure(seed, data)]
    print(json.dumps(rows), file=sys.stderr)
    cells = [[targets.cell(key, row[key]) for key in COLUMNS] for row in rows]
    print(markdown_table(COLUMNS, cells))
    turns.write(FLAGS.output, {"rows": rows})


if __name__ == "__main__":
    app.run(main)
