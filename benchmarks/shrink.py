"""Latency of shrunk models against the dense export of the same ticket.

    python benchmarks/shrink.py --networks=resnet20 --data_dir=DATA --output=shrink.json

Each network is trained for `--steps` steps on CIFAR-10, pruned by global magnitude to the first of
`--sparsities`, trained for as many steps again, and so on: a short iterative magnitude pruning
without rewinding. `--tickets` keeps the results. At each sparsity from `--from_sparsity`, the
masked model and the shrunk model are exported as SavedModel and TFLite (both with dense weights),
and both exports take turns in one process with one thread. Times are CPU times, so other load
on the machine matters less. `--masks` adds masks of whole channels, whose accuracy is not measured,
as they need training. With `--steps=0`, nothing is trained.
"""

import json
import pathlib
import sys
import tempfile
import time

import numpy as np
import tensorflow as tf
import turns
from absl import app, flags
from common_flags import FLAGS, define, load_data

from tf_prac import PruningConfig, build_model, prune, rewind, snapshot, strip
from tf_prac.export import saved_model, shrink, tflite
from tf_prac.export.lite import FILE
from tf_prac.keras_api import Flavor
from tf_prac.pruning import refill
from tf_prac.pruning.masks import Masks
from tf_prac.tables import markdown_table

define("data_dir", "limit_train", "keras", "batch_size", "output", dataset="cifar10", repeats=25)
_NETWORKS = flags.DEFINE_list("networks", ["resnet20", "vgg16"], "Networks.")
_SPARSITIES = flags.DEFINE_list("sparsities", ["0.8", "0.95", "0.98", "0.99"], "Sparsities.")
_FROM = flags.DEFINE_float("from_sparsity", 0.98, "Lowest sparsity to measure.")
_STEPS = flags.DEFINE_integer("steps", 150, "Training steps before each pruning.")
_RATE = flags.DEFINE_float("learning_rate", 0.05, "Learning rate of SGD with momentum 0.9.")
_DECAY = flags.DEFINE_float("weight_decay", 5e-4, "Decoupled weight decay of SGD.")
_MASKS = flags.DEFINE_list(
    "masks",
    ["ticket"],
    "Masks to measure: 'ticket'; 'refilled', the ticket's made channel-wise; 'channels', whole "
    "channels of each layer, as many as `--channels`. The last two are not trained.",
)
_CHANNELS = flags.DEFINE_float("channels", 0.55, "Fraction of the channels that is pruned.")
_THREADS = flags.DEFINE_integer("threads", 1, "Threads of each operation and interpreter.")
_TICKETS = flags.DEFINE_string("tickets", None, "Directory of trained tickets.")
_BATCHES = (1, 32)
COLUMNS = (
    *("network", "masks", "sparsity", "accuracy", "channels", "parameters", "batch", "format"),
    *("dense ms", "shrunk ms", "times faster", "spread", "difference"),
)


def tickets(name, data):
    """Yields (sparsity, accuracy, weights, masks) of a network, trained or read from files."""
    keras = Flavor(FLAGS.keras).module
    directory = pathlib.Path(_TICKETS.value) if _TICKETS.value else None
    paths = {s: directory and directory / f"{name}_{s}.npz" for s in _SPARSITIES.value}
    if directory and all(path.exists() for path in paths.values()):
        for sparsity, path in paths.items():
            arrays = dict(np.load(path, allow_pickle=False))
            masks = {k[5:]: v for k, v in arrays.items() if k.startswith("mask:")}
            accuracy = float(arrays["accuracy"])
            weights = {k[7:]: v for k, v in arrays.items() if k.startswith("weight:")}
            yield float(sparsity), accuracy, weights, Masks(masks)
        return
    keras.utils.set_random_seed(0)
    model = network(name)
    batches = training_batches(data)
    test = test_arrays(data)
    fit(model, batches)
    for sparsity, path in paths.items():
        model = prune(strip(model), sparsity=float(sparsity))
        fit(model, batches)
        accuracy = model.evaluate(*test, verbose=0)[1] if _STEPS.value else None
        print(f"{name} {sparsity}: accuracy {accuracy}", file=sys.stderr, flush=True)
        weights, masks = snapshot(strip(model)), model.masks
        if path:
            named = {f"weight:{k}": v for k, v in weights.items()}
            named |= {f"mask:{k}": v for k, v in masks.items()} | {
                "accuracy": np.float64(np.nan if accuracy is None else accuracy)
            }
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, **named)
        yield float(sparsity), accuracy, weights, masks


def network(name):
    """Returns a network for CIFAR-10."""
    return build_model(name, keras=FLAGS.keras, input_shape=(32, 32, 3), num_classes=10)


def normalized(samples, count=None):
    """Returns images as float32 with mean 0 and variance 1, and labels."""
    ids = range(min(count or len(samples), len(samples)))
    images = np.asarray(samples.inputs(ids), np.float32)
    return (images - samples_mean(images)) / 64.0, np.asarray(samples.labels)[: len(images)]


def samples_mean(images):
    """Returns the middle of the values of uint8 images."""
    return 120.0 if images.max() > 2 else 0.47


def training_batches(data):
    """Returns endless batches of flipped and shifted images."""
    x, y = normalized(data.train)
    padded = np.pad(x, ((0, 0), (4, 4), (4, 4), (0, 0)))

    def shifted(image, label):
        image = tf.image.random_crop(image, (32, 32, 3))
        return tf.image.random_flip_left_right(image), label

    batches = tf.data.Dataset.from_tensor_slices((padded, y)).shuffle(len(x), seed=0).repeat()
    return batches.map(shifted).batch(FLAGS.batch_size).prefetch(2)


def test_arrays(data):
    """Returns 2,000 test images and labels."""
    return normalized(data.test, 2000)


def fit(model, batches, steps=None):
    """Trains for `--steps` steps or fewer, with a learning rate that falls to zero."""
    if not _STEPS.value:
        return
    keras = Flavor(FLAGS.keras).module
    rate = keras.optimizers.schedules.CosineDecay(_RATE.value, _STEPS.value)
    optimizer = keras.optimizers.SGD(rate, momentum=0.9, weight_decay=_DECAY.value)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    model.fit(batches, steps_per_epoch=steps or _STEPS.value, epochs=1, verbose=0)


def interpreter(path, batch):
    """Returns a function that runs a TFLite model."""
    lite = tf.lite.Interpreter(str(path / FILE), num_threads=_THREADS.value)
    (entry,) = lite.get_input_details()
    lite.resize_tensor_input(entry["index"], batch.shape)
    lite.allocate_tensors()
    lite.set_tensor(entry["index"], batch)
    return lite.invoke


def served(path, batch):
    """Returns a function that runs the signature of a SavedModel."""
    signature = tf.saved_model.load(str(path)).signatures["serving_default"]
    (key,) = signature.structured_input_signature[1]
    value = tf.constant(batch)
    return lambda: [v.numpy() for v in signature(**{key: value}).values()]


def compare(model, shrunk, images):
    """Yields a row of timings for each batch size and format."""
    with tempfile.TemporaryDirectory() as directory:
        base = pathlib.Path(directory)
        for kind, each in (("dense", model), ("shrunk", shrunk)):
            saved_model(each, base / f"{kind}_saved", masks={}, sparse=False, check=False)
            tflite(each, base / f"{kind}_lite", masks={}, sparse=False, check=False)
        for size in _BATCHES:
            batch = np.ascontiguousarray(images[:size])
            for title, kind, open_ in (
                ("SavedModel", "saved", served),
                ("TFLite", "lite", interpreter),
            ):
                runs = {k: open_(base / f"{k}_{kind}", batch) for k in ("dense", "shrunk")}
                seconds = turns.take_turns(runs, FLAGS.repeats, warmups=3, clock=time.process_time)
                row = turns.rows(seconds, "shrunk")
                yield {
                    "batch": size,
                    "format": title,
                    "dense ms": 1e3 * row["dense"]["seconds"],
                    "shrunk ms": 1e3 * row["shrunk"]["seconds"],
                    "times faster": row["dense"]["ratio"],
                    "spread": [row["dense"]["lowest"], row["dense"]["highest"]],
                }


def difference(model, shrunk, images):
    """Returns the largest difference of outputs for real and for random images."""
    random = np.random.default_rng(0).normal(size=images.shape).astype(np.float32)
    return max(
        float(np.abs(np.asarray(model(x, training=False)) - shrunk(x, training=False)).max())
        for x in (images, random)
    )


def measure(name, data):
    """Yields the rows of a network."""
    images, _ = normalized(data.test, max(_BATCHES))
    for sparsity, accuracy, weights, masks in tickets(name, data):
        for kind in _MASKS.value if sparsity >= _FROM.value else ():
            trained = accuracy if kind == "ticket" else None
            each = masks_of(kind, name, weights, masks)
            yield from measure_masks(name, kind, sparsity, trained, weights, each, images)


def masks_of(kind, name, weights, masks):
    """Returns the masks that `--masks` names."""
    if kind == "ticket":
        return masks
    if kind == "refilled":
        return refill(masks)
    model = network(name)
    rewind(model, weights)
    config = PruningConfig(pattern="channels", scope="layerwise")
    return prune(model, sparsity=_CHANNELS.value, pruning=config).masks


def measure_masks(name, kind, sparsity, accuracy, weights, masks, images):
    """Yields the rows of a network with masks."""
    model = network(name)
    rewind(model, weights, masks)
    shrunk = shrink(model, masks=masks)
    print(shrunk.report, file=sys.stderr)
    about = {
        "network": name,
        "masks": kind,
        "sparsity": sparsity,
        "accuracy": accuracy,
        "channels": shrunk.report.channels,
        "parameters": shrunk.report.parameters,
        "difference": difference(model, shrunk.model, images),
    }
    for row in compare(model, shrunk.model, images):
        yield about | row


def cell(key, value):
    """Returns the text of a cell."""
    if isinstance(value, (list, tuple)) and key in ("channels", "parameters"):
        return " to ".join(f"{count:,}" for count in value)
    if key == "spread":
        return " to ".join(f"{ratio:.2f}" for ratio in value)
    if key == "difference":
        return f"{value:.1g}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(_):
    """Trains or reads the tickets, measures them and prints the table."""
    tf.config.threading.set_intra_op_parallelism_threads(_THREADS.value)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    data = load_data()
    rows = []
    for name in _NETWORKS.value:
        for row in measure(name, data):
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
    print(markdown_table(COLUMNS, [[cell(key, row[key]) for key in COLUMNS] for row in rows]))
    turns.write(FLAGS.output, {"rows": rows})


if __name__ == "__main__":
    app.run(main)
