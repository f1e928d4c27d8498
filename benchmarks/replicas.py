"""A search's first round on several devices and in several processes, beside one device.

    python benchmarks/replicas.py --dataset=mnist --data_dir=DATA --output=DIR

Each way is a process of its own, or several: logical devices of the CPU, and workers that talk
over loopback. "one_changed" is the control: one device, with half of the initial weights moved to
the next number there is. What it differs by, training makes of rounding; replicas round too, as
they add a gradient up in parts. With --floatx=float64 that rounding is 2^29 times smaller.

A way that is there is not run again, so the command goes on where it was stopped. Writes
replicas.json and replicas.csv.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import time
from unittest import mock

import numpy as np
from absl import app, flags, logging

from tf_prac.storage.files import sha256, write_csv

_DATASET = flags.DEFINE_string("dataset", "digits", "Name of the data set.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where it is.")
_LIMIT_TRAIN = flags.DEFINE_integer("limit_train", None, "Use the first n samples.")
_KERAS = flags.DEFINE_string("keras", "keras", "Flavour: keras or tf_keras.")
_FLOATX = flags.DEFINE_string("floatx", "float32", "Type of weights: float32 or float64.")
_OPTIMIZER = flags.DEFINE_string("optimizer", "adam", "Name of the optimizer.")
_LEARNING_RATE = flags.DEFINE_float("learning_rate", 1.2e-3, "Its learning rate.")
_SCHEDULE = flags.DEFINE_string("schedule", "constant", "That of the learning rate.")
_EPOCHS = flags.DEFINE_integer("epochs", 2, "Epochs of the dense network.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 60, "Samples per step, of all replicas.")
_WAYS = flags.DEFINE_list(
    "ways", "one,one_changed,mirrored_2,mirrored_4,workers_2,workers_3", "Those to run."
)
_OUTPUT = flags.DEFINE_string("output", "replicas", "Directory to write to.")
_ONE = flags.DEFINE_string("one", None, "Internal: the way of this process, and its directory.")

FILES = ("masks.npz", "forgetting.npz", "prac_set.npz")


def search(way: str, directory: str) -> None:
    """Runs one round in this process, which may be one of several."""
    kind, _, count = way.partition("_")
    from tf_prac import PruningConfig, TicketSearch, TrainingRecipe, build_model, load_dataset
    from tf_prac.keras_api import Flavour
    from tf_prac.training.distribution import make_distribution

    names = {"one": "one", "mirrored": "mirrored", "workers": "multi_worker"}
    distribution = make_distribution(names[kind], int(count) if kind == "mirrored" else None)
    Flavour(_KERAS.value).module.backend.set_floatx(_FLOATX.value)
    data = load_dataset(_DATASET.value, data_dir=_DATA_DIR.value, limit_train=_LIMIT_TRAIN.value)
    shape, classes = data.train.input_shape, data.train.num_classes

    def model_fn():
        network = build_model(
            "lenet300", keras=_KERAS.value, input_shape=shape, num_classes=classes
        )
        if count == "changed":
            generator = np.random.default_rng(0)
            for variable in network.trainable_variables:
                value = np.array(variable)
                moved = generator.random(value.shape) < 0.5
                variable.assign(np.where(moved, np.nextafter(value, np.inf), value))
        return network

    found = TicketSearch(
        model_fn,
        TrainingRecipe(
            epochs=_EPOCHS.value,
            batch_size=_BATCH_SIZE.value,
            optimizer=_OPTIMIZER.value,
            learning_rate=_LEARNING_RATE.value,
            schedule=_SCHEDULE.value,
        ),
        PruningConfig(rounds=1),
        directory=directory,
        deterministic=True,
        retrain="none",
        verbose=False,
        strategy=distribution,
    )
    # Every worker keeps its files here, to be compared.
    keep = mock.patch(
        "tf_prac.search.ticket_search.own_directory", lambda _, path: contextlib.nullcontext(path)
    )
    with keep:
        found.run(data.train, test=data.test)


def start(way: str, place: pathlib.Path) -> float:
    """Runs a way in as many processes as it takes; returns seconds."""
    kind, _, count = way.partition("_")
    workers = int(count) if kind == "workers" else 1
    addresses = free_addresses(workers)
    started, running = time.perf_counter(), []
    for index in range(workers):
        environment = dict(os.environ)
        if kind == "workers":
            task = {"type": "worker", "index": index}
            config = {"cluster": {"worker": addresses}, "task": task}
            environment["TF_CONFIG"] = json.dumps(config)
        command = [sys.executable, *sys.argv, f"--one={way}:{place / f'worker_{index}'}"]
        running.append(subprocess.Popen(command, env=environment))
    if any([process.wait() for process in running]):
        raise SystemExit(f"{way}: failed")
    return time.perf_counter() - started


def free_addresses(count: int) -> list[str]:
    """Returns addresses on this machine that nobody listens at."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("localhost", 0))
        return [f"localhost:{each.getsockname()[1]}" for each in sockets]


def figures(way: str, place: pathlib.Path, base: pathlib.Path) -> dict[str, object]:
    """What a way gave, and what it has in common with one device."""
    from tf_prac.data.forgetting import ForgettingStats
    from tf_prac.data.prac_set import PracSet
    from tf_prac.pruning.masks import Masks

    rounds = [path / "round_00" for path in sorted(place.glob("worker_*"))]
    mine, theirs = rounds[0], base / "worker_0" / "round_00"
    masks = [Masks.load(path / "masks.npz") for path in (mine, theirs)]
    equal = sum(int((masks[0][name] == masks[1][name]).sum()) for name in masks[0])
    tables = [ForgettingStats.load(path / "forgetting.npz").table for path in (mine, theirs)]
    sets = [set(PracSet.load(path / "prac_set.npz").ids.tolist()) for path in (mine, theirs)]
    trained = tables[0][:, 0] > 0
    summary = json.loads((mine.parent / "summary.json").read_text())
    digests = [[sha256(path / name) for name in FILES] for path in rounds]
    return {
        "way": way,
        "workers": len(rounds),
        "same_files_in_all_workers": all(each == digests[0] for each in digests),
        "samples": int(trained.sum()),
        "presentations_lowest": int(tables[0][trained, 0].min()),
        "presentations_highest": int(tables[0][trained, 0].max()),
        "masks_agree": equal / masks[0].size,
        "statistics_agree": float((tables[0] == tables[1]).all(1)[trained].mean()),
        "set_size": len(sets[0]),
        "set_overlap": len(sets[0] & sets[1]) / len(sets[0] | sets[1]),
        "test_accuracy": summary["rounds"][0]["test_accuracy_last"],
    }


def main(_) -> None:
    """Runs the ways that are not there yet, and compares them."""
    if _ONE.value:
        logging.set_verbosity(logging.WARNING)  # TensorFlow reports each reduction it builds
        search(*_ONE.value.split(":", 1))
        return
    root = pathlib.Path(_OUTPUT.value)
    rows = []
    for way in _WAYS.value:
        place = root / way
        if not (place / "seconds.json").exists():
            place.mkdir(parents=True, exist_ok=True)
            (place / "seconds.json").write_text(json.dumps(start(way, place)))
        rows.append(figures(way, place, root / "one"))
        print(json.dumps(rows[-1]), flush=True)
    names = ("dataset", "limit_train", "keras", "floatx", "optimizer", "learning_rate", "schedule")
    names += ("epochs", "batch_size")
    options = {name: flags.FLAGS[name].value for name in names}
    (root / "replicas.json").write_text(json.dumps({**options, "ways": rows}, indent=2) + "\n")
    write_csv(root / "replicas.csv", rows)


if __name__ == "__main__":
    app.run(main)
