"""The search's training loop beside PyTorch: a plain loop that holds masks, or the authors' code.

    python benchmarks/pytorch.py --python=TORCH/bin/python --dataset=mnist --data_dir=DATA

A plain loop (`pytorch_loop.py`) trains LeNet-300-100, batches of 128 drawn by index, or with
`--loader` by a `DataLoader`. With `--authors`, what is timed beside ours is a command that runs the
authors' `main_PrAC_imp.py` (VITA-Group/PrAC-LTH), which prints a line every 50 steps of 128
samples:

    python benchmarks/pytorch.py --dataset=cifar10 --data_dir=DATA --model=resnet20 \
        --augment=cifar --limit_train=6400 --authors="python main_PrAC_imp.py --dataset cifar10 ..."

Both sides take turns in the same order, over and over; the one whose turn it is not is stopped
(SIGSTOP), so that neither ever computes beside the other. Prints the median seconds of a turn and
the ratio to PyTorch of the same turn; `--output` writes them as JSON.
"""

from __future__ import annotations

import os
import pathlib
import shlex
import signal
import subprocess
import tempfile

import numpy as np
import tensorflow as tf
from absl import app, flags
from networks import network_for, search_epoch
from turns import rows, table, take_turns, write

from tf_prac import load_dataset
from tf_prac.data.pipeline import normalised
from tf_prac.data.source import Samples

_PYTHON = flags.DEFINE_string("python", "python", "Interpreter that has PyTorch.")
_AUTHORS = flags.DEFINE_string("authors", None, "Command that runs the authors' code instead.")
_LOADER = flags.DEFINE_boolean("loader", False, "Let the plain loop use a DataLoader.")
_DATASET = flags.DEFINE_string("dataset", "mnist", "Name of the data set.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where it is.")
_LIMIT_TRAIN = flags.DEFINE_integer("limit_train", None, "Use the first n samples.")
_MODEL = flags.DEFINE_string("model", "lenet300", "Name of the network.")
_KERAS = flags.DEFINE_string("keras", "keras", "Flavour: keras or tf_keras.")
_AUGMENT = flags.DEFINE_string("augment", "none", "Augmentation.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Turns after one to warm up.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")
BATCH_SIZE = 128


class Peer:
    """Another process that does a turn's work whenever it is asked to.

    Args:
        command: what to run.
        asks: whether each turn starts with a line on its standard input; otherwise it goes on by
            itself, and is held between turns.
        marks: text in the lines that end a turn.
    """

    def __init__(self, command: list[str], asks: bool, marks: str):
        pipe = subprocess.PIPE
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": ""}
        self._asks, self._marks = asks, marks
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, env=environment
        )
        self._wait("ready" if asks else marks)

    def turn(self) -> None:
        """Does one turn's work."""
        self._process.send_signal(signal.SIGCONT)
        if self._asks:
            self._process.stdin.write("\n")
            self._process.stdin.flush()
        self._wait(self._marks)

    def end(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()

    def _wait(self, marks: str) -> None:
        for line in self._process.stdout:
            if marks in line:
                self._process.send_signal(signal.SIGSTOP)
                return
        raise RuntimeError(f"{self._process.args} ended with {self._process.wait()}")


def main(_) -> None:
    """Times both, and prints the table."""
    data = load_dataset(_DATASET.value, data_dir=_DATA_DIR.value, limit_train=_LIMIT_TRAIN.value)
    with tempfile.TemporaryDirectory() as directory:
        peer = authors() if _AUTHORS.value else plain(data.train, directory)
        try:
            network = network_for(data.train, _MODEL.value, _KERAS.value)
            ours = search_epoch(network, data.train, BATCH_SIZE, augment=_AUGMENT.value)
            ways = {"PyTorch": peer.turn, "tf_prac": ours}
            found = rows(take_turns(ways, _REPEATS.value), "PyTorch", len(data.train))
        finally:
            peer.end()
    print(table(found, "PyTorch"))
    print(f"samples per second: {1 / found['tf_prac']['ratio']:.2f} x PyTorch")
    write(_OUTPUT.value, found)


def authors() -> Peer:
    """The authors' loop, 50 steps a turn; lines of its first step are not ends of turns."""
    if _LIMIT_TRAIN.value != 50 * BATCH_SIZE:
        raise app.UsageError(f"With --authors, --limit_train is {50 * BATCH_SIZE}: 50 steps.")
    return Peer(shlex.split(_AUTHORS.value), asks=False, marks="Epoch: [")


def plain(samples: Samples, directory: str) -> Peer:
    """The plain loop, an epoch a turn."""
    if _MODEL.value != "lenet300":
        raise app.UsageError("The plain loop trains lenet300 only.")
    x = normalised(samples, tf.constant(samples.inputs(range(len(samples))))).numpy()
    path = f"{directory}/data.npz"
    np.savez(path, x=x.reshape(len(samples), -1), y=samples.labels)
    script = pathlib.Path(__file__).with_name("pytorch_loop.py")
    command = [_PYTHON.value, str(script), path, *(["loader"] if _LOADER.value else [])]
    return Peer(command, asks=True, marks="epoch")


if __name__ == "__main__":
    app.run(main)
