"""The first round of a search on several devices and in several processes, against one device.

    python benchmarks/replicas.py --dataset=mnist --data_dir=DATA --output=DIR

Each variant runs in a new process, or in several: logical devices of the CPU, or workers that
communicate over loopback. The variant "one_changed" is the control: one device, with half of the
initial weights changed to the next representable number. Its result shows how training amplifies
rounding errors, which replicas also have because they sum gradients in parts. With
--floatx=float64, rounding errors are 2^29 times smaller.

Finished variants are not run again, so the same command continues where it stopped. Writes
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

import common_flags
import numpy as np
from absl import app, flags, logging
from common_flags import FLAGS

from tf_prac.storage.files import sha256, write_csv

common_flags.define(*common_flags.DATA, "keras", epochs=2, batch_size=60)
_FLOATX = flags.DEFINE_string("floatx", "float32", "Type of weights: float32 or float64.")
_OPTIMIZER = flags.DEFINE_string("optimizer", "adam", "Name of the optimizer.")
_LEARNING_RATE = flags.DEFINE_float("learning_rate", 1.2e-3, "Its learning rate.")
_SCHEDULE = flags.DEFINE_string("schedule", "constant", "Its schedule.")
_WAYS = flags.DEFINE_list(
    "ways", "one,one_changed,mirrored_2,mirrored_4,workers_2,workers_3", "Variants to run."
)
_OUTPUT = flags.DEFINE_string("output", "replicas", "Directory to write to.")
_ONE = flags.DEFINE_string("one", None, "Internal: the variant of this process, and its directory.")

FILES = ("masks.npz", "forgetting.npz", "prac_set.npz")


def search(variant: str, directory: str) -> None:
    """Runs one round in this process, which may be one of several."""
    kind, _, count = variant.partition("_")
    from networks import network_for

    from tf_prac import PruningConfig, TicketSearch, TrainingRecipe
    from tf_prac.keras_api import Flavor
    from tf_prac.training.strategies import make_distribution

    names = {"one": "one", "mirrored": "mirrored", "workers": "multi_worker"}
    distribution = make_distribution(names[kind], int(count) if kind == "mirrored" else None)
    Flavor(FLAGS.keras).module.backend.set_floatx(_FLOATX.value)
    data = common_flags.load_data()

    def model_fn():
        network = network_for(data.train, "lenet300")
        if count == "changed":
            generator = np.random.default_rng(0)
            for variable in network.trainable_variables:
                value = np.array(variable)
                moved = generator.random(value.shape) < 0.5
                variable.assign(np.where(moved, np.nextafter(value, np.inf), value))
        return network

    ticket_search = TicketSearch(
        model_fn,
        TrainingRecipe(
            epochs=FLAGS.epochs,
            batch_size=FLAGS.batch_size,
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
    # Each worker stores its files in the given directory, so that they can be compared.
    keep = mock.patch(
        "tf_prac.search.ticket_search.worker_directory",
        lambda _, path: contextlib.nullcontext(path),
    )
    with keep:
        ticket_search.run(data.train, test=data.test)


def start(variant: str, directory: pathlib.Path) -> float:
    """Runs a variant in one or several processes; returns the seconds that it took."""
    kind, _, count = variant.partition("_")
    workers = int(count) if kind == "workers" else 1
    addresses = free_addresses(workers)
    started, running = time.perf_counter(), []
    for index in range(workers):
        environment = dict(os.environ)
        if kind == "workers":
            task = {"type": "worker", "index": index}
            config = {"cluster": {"worker": addresses}, "task": task}
            environment["TF_CONFIG"] = json.dumps(config)
        command = [sys.executable, *sys.argv, f"--one={variant}:{directory / f'worker_{index}'}"]
        running.append(subprocess.Popen(command, env=environment))
    if any([process.wait() for process in running]):
        raise SystemExit(f"{variant}: failed")
    return time.perf_counter() - started


def free_addresses(count: int) -> list[str]:
    """Returns free addresses on this machine."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("localhost", 0))
        return [f"localhost:{each.getsockname()[1]}" for each in sockets]


def compare(variant: str, directory: pathlib.Path, base: pathlib.Path) -> dict[str, object]:
    """Returns the results of a variant and its agreement with one device."""
    from tf_prac.data.forgetting import ForgettingStats
    from tf_prac.data.sample_set import SampleSet
    from tf_prac.pruning.masks import Masks

    rounds = [path / "round_00" for path in sorted(directory.glob("worker_*"))]
    ours, reference = rounds[0], base / "worker_0" / "round_00"
    masks = [Masks.load(path / "masks.npz") for path in (ours, reference)]
    equal = sum(int((masks[0][name] == masks[1][name]).sum()) for name in masks[0])
    tables = [ForgettingStats.load(path / "forgetting.npz").table for path in (ours, reference)]
    sets = [set(SampleSet.load(path / "prac_set.npz").ids.tolist()) for path in (ours, reference)]
    trained = tables[0][:, 0] > 0
    summary = json.loads((ours.parent / "summary.json").read_text())
    digests = [[sha256(path / name) for name in FILES] for path in rounds]
    return {
        "way": variant,
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
    """Runs the variants that are not finished, and compares all."""
    if _ONE.value:
        logging.set_verbosity(logging.WARNING)  # TensorFlow reports each reduction it builds
        search(*_ONE.value.split(":", 1))
        return
    root = pathlib.Path(_OUTPUT.value)
    rows = []
    for variant in _WAYS.value:
        directory = root / variant
        if not (directory / "seconds.json").exists():
            directory.mkdir(parents=True, exist_ok=True)
            (directory / "seconds.json").write_text(json.dumps(start(variant, directory)))
        rows.append(compare(variant, directory, root / "one"))
        print(json.dumps(rows[-1]), flush=True)
    names = ("dataset", "limit_train", "keras", "floatx", "optimizer", "learning_rate", "schedule")
    names += ("epochs", "batch_size")
    options = {name: FLAGS[name].value for name in names}
    (root / "replicas.json").write_text(json.dumps({**options, "ways": rows}, indent=2) + "\n")
    write_csv(root / "replicas.csv", rows)


if __name__ == "__main__":
    app.run(main)
