"""Trained deep networks on CIFAR-10: accuracy against latency of pruned and shrunk networks.

    python benchmarks/deep.py --network=vgg16 --directory=DIR --data_dir=DATA --output=deep.json

Trains the phases of the plan of `--network`, one after the other. Each phase starts from the
initial weights, the weights of another phase, or its rewind point W_k; prunes; and trains for a
number of epochs with a one-cycle learning rate: first with images of 16 x 16 pixels, which take a
quarter of the time, and then with all 32 x 32. Networks that lack whole channels are shrunk before
training, which saves time too. `--directory` keeps each phase and a checkpoint of the current one,
so that a run that was stopped continues. Then the dense network and all others take turns as
SavedModel and TFLite models with dense weights in one process with one thread; times are CPU times.
"""

import dataclasses
import json
import math
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

from tf_prac import (
    Masks,
    PruningConfig,
    global_magnitude,
    prunable_weights,
    prune,
    rewind,
    snapshot,
    strip,
)
from tf_prac.export import saved_model, shrink, tflite
from tf_prac.keras_api import Flavor
from tf_prac.pruning import Channels, PruneRule
from tf_prac.pruning.weights import prune_rates
from tf_prac.tables import markdown_table

_NETWORK = flags.DEFINE_enum("network", "vgg16", ["vgg16", "resnet20", "resnet8"], "Network.")
_DIRECTORY = flags.DEFINE_string("directory", None, "Directory of the phases.", required=True)
_PHASES = flags.DEFINE_list("phases", [], "Names of phases to train and measure. Default: all.")
_ACTION = flags.DEFINE_enum(
    "action",
    "both",
    ["train", "measure", "both", "count"],
    "What to do. count: the weights of each channel of the dense network at several sparsities.",
)
_POLICY = flags.DEFINE_string("policy", "mixed_bfloat16", "Policy of mixed precision in training.")
_PEAK = flags.DEFINE_float("peak_rate", 0.1, "Highest learning rate of SGD with momentum 0.9.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of initial weights and data order.")
_L2 = flags.DEFINE_float("l2", 2e-3, "L2 penalty; the optimizer's decoupled decay is 10 times it.")
_BATCHES = (1, 32)


@dataclasses.dataclass(frozen=True)
class Phase:
    """One training: where it starts, how it prunes, and for how many epochs it trains."""

    low: float  # epochs with images of 16 x 16 pixels
    full: float  # epochs with images of 32 x 32 pixels, after that
    start: str = ""  # a phase; "": initial weights
    pattern: str = ""  # "": no pruning
    sparsity: float = 0.0
    scope: str = "global"
    rewinds: bool = False  # to W_k of the dense network
    rates: tuple[str, ...] = ()  # `layer_rates` in place of `sparsity`

    @property
    def is_small(self):
        """Whether the network is shrunk before training."""
        return self.pattern in ("channels", "refill")


# Early layers, which matter for accuracy, keep more channels; all numbers stay multiples of 16.
_BY_STAGE = ("stage[12]_*=0.25", "stage3_*=0.375", "stage[45]_*=0.625")
PLANS = {
    "vgg16": {
        "dense": Phase(2, 0.25),
        "unstructured 98%, untrained": Phase(0, 0, "dense", "unstructured", 0.98),
        "unstructured 99%, untrained": Phase(0, 0, "dense", "unstructured", 0.99),
        "channels 55%": Phase(0.5, 0.125, "dense", "channels", 0.55, "layerwise"),
        "unstructured 98%": Phase(0.25, 0.125, "dense", "unstructured", 0.98),
        "channels by stage": Phase(2, 0.25, "dense", "channels", 0, "layerwise", rates=_BY_STAGE),
        "channels 55%, rewound": Phase(2, 0.25, "dense", "channels", 0.55, "layerwise", True),
        "refill 80%, rewound": Phase(2, 0.25, "dense", "refill", 0.8, rewinds=True),
        "dense, as many steps": Phase(2, 0.25, "dense"),
    },
    "resnet20": {
        "dense": Phase(0, 3),
        "unstructured 90%": Phase(0, 1, "dense", "unstructured", 0.9),
        "unstructured 98%": Phase(0, 2, "unstructured 90%", "unstructured", 0.98),
        "unstructured 99%": Phase(0, 1, "unstructured 98%", "unstructured", 0.99),
    },
}


class OneCycle:
    """Rises linearly to the peak in a fifth of the steps, then falls linearly to zero."""

    def __new__(cls, keras, first, steps):
        """Returns a schedule of the flavor `keras`."""

        class Schedule(keras.optimizers.schedules.LearningRateSchedule):
            def __call__(self, step):
                done = (first + tf.cast(step, tf.float32)) / steps
                return _PEAK.value * tf.maximum(0.0, tf.minimum(done / 0.2, (1 - done) / 0.8))

            def get_config(self):
                return {}

        return Schedule()


def mixed(keras, model, size):
    """Returns a copy for images of another size, in mixed precision with logits in float32."""

    def copy(layer):
        config = layer.get_config()
        if not isinstance(layer, keras.layers.Dense):
            config["dtype"] = _POLICY.value
        return type(layer).from_config(config)

    inputs = keras.Input((size, size, 3))
    result = keras.models.clone_model(model, inputs, clone_function=copy)
    result.set_weights(model.get_weights())
    return result


def batches(data, step):
    """Returns endless batches of normalized, flipped and shifted images, from a step on."""
    x = np.asarray(data.train.inputs(range(len(data.train))), np.uint8)
    padded = np.pad(x, ((0, 0), (4, 4), (4, 4), (0, 0)), constant_values=120)

    def shifted(image, label):
        image = tf.image.random_flip_left_right(tf.image.random_crop(image, (32, 32, 3)))
        return (tf.cast(image, tf.float32) - 120.0) / 64.0, label

    samples = tf.data.Dataset.from_tensor_slices((padded, np.asarray(data.train.labels)))
    samples = samples.shuffle(len(x), seed=_SEED.value).repeat()
    samples = samples.skip(step * FLAGS.batch_size).map(shifted)
    return samples.batch(FLAGS.batch_size, drop_remainder=True).prefetch(2)


def fit(keras, model, masks, data, phase, name):
    """Trains a model, writes W_k, the weights after a tenth of the steps, and returns the steps."""
    counts = [round(e * len(data.train) / FLAGS.batch_size) for e in (phase.low, phase.full)]
    step, total, states = tf.Variable(0, dtype=tf.int64), sum(counts), path_of(name, "states")
    latest = tf.train.latest_checkpoint(states)
    if latest:
        tf.train.Checkpoint(step=step).restore(latest).expect_partial()
    else:
        model.save(path_of(name, "start.keras"))
    iterator, started, first = iter(batches(data, int(step))), time.monotonic(), int(step)
    for size, begin, end in ((16, 0, counts[0]), (32, counts[0], total)):
        if step >= end:
            continue
        trained = mixed(keras, model, size)
        if masks is not None:
            trained = prune(trained, masks=masks)
        rate = OneCycle(keras, begin, total)
        optimizer = keras.optimizers.SGD(
            rate, momentum=0.9, nesterov=True, weight_decay=10 * _L2.value
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        trained.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
        optimizer.build(trained.trainable_variables)
        checkpoint = tf.train.Checkpoint(step=step, model=trained, optimizer=optimizer)
        manager = tf.train.CheckpointManager(checkpoint, states, max_to_keep=1)
        if latest:
            checkpoint.restore(latest).expect_partial()
            latest = None
        while step < end:
            images, labels = next(iterator)
            if size < 32:
                images = tf.nn.avg_pool2d(images, 2, 2, "VALID")
            value = trained.train_on_batch(images, labels)
            done = int(step.assign_add(1))
            if done == total // 10:
                model.set_weights(strip(trained).get_weights())
                model.save(path_of(name, "start.keras"))
            if done % 50 == 0:
                speed = FLAGS.batch_size * (done - first) / (time.monotonic() - started)
                print(f"{done}/{total} at {size}: {value}, {speed:.0f}/s", file=sys.stderr)
                trained.reset_metrics()
                if done < end:
                    manager.save(done)
        model.set_weights(strip(trained).get_weights())
    return total


def path_of(name, ending):
    """Returns the path of a file of a phase."""
    plain = name.replace("%", "").replace(",", "").replace(" ", "_")
    seed = f"_{_SEED.value}" if _SEED.value else ""
    return pathlib.Path(_DIRECTORY.value) / f"{_NETWORK.value}{seed}_{plain}.{ending}"


def load(name, start="keras"):
    """Returns the model of a phase."""
    return Flavor(FLAGS.keras).module.models.load_model(path_of(name, start), compile=False)


def pruned(phase):
    """Returns the model that a phase trains, and its masks."""
    if not phase.start:
        return targets.network(_NETWORK.value), None
    model = load(phase.start)
    if not phase.pattern:
        return model, None
    masks = masks_of(phase)
    if phase.rewinds:
        model = load(phase.start, "start.keras")
    rewind(model, snapshot(model), masks)
    if phase.is_small:
        return shrink(model, masks=masks).model, None
    return model, masks


def masks_of(phase):
    """Returns the masks of a phase."""
    model = load(phase.start)
    config = PruningConfig(pattern=phase.pattern, scope=phase.scope, layer_rates=phase.rates)
    if not phase.rates:
        return prune(model, sparsity=phase.sparsity, pruning=config).masks
    rule = PruneRule(prune_rates(model, config), scope=phase.scope, pattern=Channels())
    prunable = prunable_weights(model, config)
    weights = {name: np.asarray(value) for name, value in prunable.items()}
    return rule(weights, Masks.ones_like(weights))


def accuracy_of(model, data):
    """Returns the accuracy of all test images."""
    images, labels = targets.normalized(data.test)
    correct = [
        np.asarray(model(images[i : i + 500], training=False)).argmax(-1) == labels[i : i + 500]
        for i in range(0, len(images), 500)
    ]
    return float(np.concatenate(correct).mean())


def train(name, phase, data):
    """Trains a phase and writes its model and results."""
    keras = Flavor(FLAGS.keras).module
    keras.utils.set_random_seed(_SEED.value)
    model, masks = pruned(phase)
    started = time.monotonic()
    steps = fit(keras, model, masks, data, phase, name)
    seconds = time.monotonic() - started
    accuracy = accuracy_of(model, data) if steps else None
    about = {
        "network": _NETWORK.value,
        "phase": name,
        **dataclasses.asdict(phase),
        "steps": steps,
        "accuracy": accuracy,
        "error": accuracy and math.sqrt(accuracy * (1 - accuracy) / len(data.test)),
        "seconds": seconds,
    }
    model.save(path_of(name, "keras"))
    path_of(name, "json").write_text(json.dumps(about, indent=1) + "\n")
    print(json.dumps(about), file=sys.stderr, flush=True)


def measure(names, data):
    """Returns the results of each phase with latencies beside the dense network."""
    images, _ = targets.normalized(data.test, max(_BATCHES))
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        base = pathlib.Path(directory)
        for name in names:
            model = load(name)
            row = json.loads(path_of(name, "json").read_text())
            small = shrink(model)
            row["channels"] = list(small.report.channels)
            row["parameters"] = small.report.parameters[1]
            row["difference"] = targets.difference(model, small.model, images)
            rows.append(row)
            print(name, small.report, file=sys.stderr, flush=True)
            served = small.model if name != "dense" else model
            saved_model(served, base / f"{name}.saved", masks={}, sparse=False, check=False)
            tflite(served, base / f"{name}.lite", masks={}, sparse=False, check=False)
        for kind, open_ in (("saved", targets.served), ("lite", targets.interpreter)):
            for size in _BATCHES:
                batch = np.ascontiguousarray(images[:size])
                runs = {name: open_(base / f"{name}.{kind}", batch) for name in names}
                seconds = turns.take_turns(runs, FLAGS.repeats, warmups=3, clock=time.process_time)
                for row in rows:
                    times = np.array(seconds[row["phase"]])
                    faster = np.array(seconds["dense"]) / times
                    row[f"{kind} {size}"] = {
                        "ms": 1e3 * float(np.median(times)),
                        "times faster": float(np.median(faster)),
                        "quartiles": [float(q) for q in np.quantile(faster, (0.25, 0.75))],
                    }
    return rows


def count():
    """Prints how many weights each channel keeps at several sparsities, and what shrink leaves."""
    model = load("dense")
    weights = snapshot(model)
    prunable = {name: np.asarray(value) for name, value in prunable_weights(model).items()}
    for sparsity in (0.9, 0.95, 0.98, 0.99, 0.995):
        masks = global_magnitude(prunable, rate=sparsity)
        for name, mask in masks.items():
            kept = mask.reshape(-1, mask.shape[-1]).sum(0)
            dead, median = int((kept == 0).sum()), int(np.median(kept))
            print(f"{sparsity} {name}: {dead} of {kept.size} dead, median {median}, {kept.min()}")
        rewind(model, weights)
        rewind(model, weights, masks)
        print(sparsity, shrink(model, masks=masks, check=False).report, flush=True)


def table(rows):
    """Returns the rows as Markdown."""
    kinds = [f"{kind} {size}" for kind in ("saved", "lite") for size in _BATCHES]
    cells = []
    for row in rows:
        accuracy = "not trained"
        if row["accuracy"] is not None:
            accuracy = f"{100 * row['accuracy']:.2f} ± {100 * row['error']:.2f}"
        line = [row["phase"], accuracy, f"{row['parameters']:,}", f"{row['channels'][1]:,}"]
        for kind in kinds:
            line += [f"{row[kind]['ms']:.2f}", f"{row[kind]['times faster']:.2f}"]
        cells.append(line)
    titles = ["network", "accuracy, %", "parameters", "channels"]
    for kind in kinds:
        titles += [f"{kind}, ms", "times faster"]
    return markdown_table(titles, cells)


def main(_):
    """Trains the phases that are not there yet, measures them and prints the table."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    pathlib.Path(_DIRECTORY.value).mkdir(parents=True, exist_ok=True)
    if _ACTION.value == "count":
        count()
        return
    data = load_data()
    plan = PLANS[_NETWORK.value]
    names = _PHASES.value or list(plan)
    for name in names if _ACTION.value != "measure" else ():
        if not path_of(name, "json").exists():
            train(name, plan[name], data)
    if _ACTION.value != "train":
        rows = measure([name for name in names if path_of(name, "json").exists()], data)
        print(table(rows))
        turns.write(FLAGS.output, {"rows": rows})


if __name__ == "__main__":
    app.run(main)
