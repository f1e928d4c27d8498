"""The training loop of a search against PyTorch: a plain loop with masks, or the authors' code.

    python benchmarks/pytorch.py --python=TORCH/bin/python --dataset=mnist --data_dir=DATA

The plain loop (`pytorch_loop.py`) trains LeNet-300-100 with batches of 128, which it gathers by
index or, with `--loader`, takes from a `DataLoader`. `--authors` gives a command that runs the
authors' `main_PrAC_imp.py` (VITA-Group/PrAC-LTH) instead, which prints a line every 50 steps of 128
samples:

    python benchmarks/pytorch.py --dataset=cifar10 --data_dir=DATA --model=resnet20 \
        --augment=crop_flip --limit_train=6400 \
        --authors="python main_PrAC_imp.py --dataset cifar10 ..."

The two take turns. A process is stopped (SIGSTOP) during the turn of the other, so they never
compete for the processor. Prints the median seconds of a turn and the ratio to PyTorch; `--output`
writes them as JSON.
"""

from __future__ import annotations

import pathlib
import shlex
import tempfile

import common_flags
import numpy as np
import tensorflow as tf
from absl import app, flags
from common_flags import FLAGS
from networks import network_for, search_epoch
from peer import Peer
from turns import rows, table, take_turns, write

from tf_prac.data.pipeline import normalized
from tf_prac.data.source import Samples

common_flags.define(
    *common_flags.DATA, *common_flags.NETWORK, "augment", "repeats", "output", dataset="mnist"
)
_PYTHON = flags.DEFINE_string("python", "python", "Interpreter with PyTorch.")
_AUTHORS = flags.DEFINE_string("authors", None, "Command that runs the authors' code instead.")
_LOADER = flags.DEFINE_boolean("loader", False, "Whether the plain loop uses a DataLoader.")
BATCH_SIZE = 128


def main(_) -> None:
    """Times both and prints the table."""
    train = common_flags.load_data().train
    with tempfile.TemporaryDirectory() as directory:
        peer = authors() if _AUTHORS.value else plain(train, directory)
        try:
            ours = search_epoch(network_for(train), train, BATCH_SIZE, augment=FLAGS.augment)
            alternatives = {"PyTorch": peer.turn, "tf_prac": ours}
            results = rows(take_turns(alternatives, FLAGS.repeats), "PyTorch", len(train))
        finally:
            peer.end()
    print(table(results, "PyTorch"))
    print(f"samples per second: {1 / results['tf_prac']['ratio']:.2f} x PyTorch")
    write(FLAGS.output, results)


def authors() -> Peer:
    """Returns the authors' loop, with turns of 50 steps."""
    if FLAGS.limit_train != 50 * BATCH_SIZE:
        raise app.UsageError(f"With --authors, --limit_train is {50 * BATCH_SIZE}: 50 steps.")
    return Peer(shlex.split(_AUTHORS.value), prompted=False, marker="Epoch: [")


def plain(samples: Samples, directory: str) -> Peer:
    """Returns the plain loop, with turns of one epoch."""
    if FLAGS.model != "lenet300":
        raise app.UsageError("The plain loop trains lenet300 only.")
    x = normalized(samples, tf.constant(samples.inputs(range(len(samples))))).numpy()
    path = f"{directory}/data.npz"
    np.savez(path, x=x.reshape(len(samples), -1), y=samples.labels)
    script = pathlib.Path(__file__).with_name("pytorch_loop.py")
    command = [_PYTHON.value, str(script), path, *(["loader"] if _LOADER.value else [])]
    return Peer(command, prompted=True, marker="epoch")


if __name__ == "__main__":
    app.run(main)
