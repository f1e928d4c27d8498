"""Flags that several benchmarks have, and the data set that they name."""

from __future__ import annotations

from typing import Any

from absl import flags

flags.disclaim_key_flags()  # --help of a benchmark lists the flags that it defines here
FLAGS = flags.FLAGS
_FLAGS = {
    "dataset": (flags.DEFINE_string, "digits", "Name of the data set."),
    "data_dir": (flags.DEFINE_string, None, "Directory of the data set."),
    "limit_train": (flags.DEFINE_integer, None, "Use only the first n training samples."),
    "model": (flags.DEFINE_string, "lenet300", "Name of the network."),
    "keras": (flags.DEFINE_string, "keras", "Flavor: keras or tf_keras."),
    "augment": (flags.DEFINE_string, "none", "Augmentation."),
    "batch_size": (flags.DEFINE_integer, 128, "Samples per step, over all devices."),
    "steps_per_execution": (flags.DEFINE_integer, 1, "Steps per call of each `fit`."),
    "epochs": (flags.DEFINE_integer, 4, "Epochs of the dense network."),
    "sparsity": (flags.DEFINE_float, 0.8, "Fraction of the weights that is pruned."),
    "devices": (flags.DEFINE_integer, 1, "Number of logical CPU devices."),
    "repeats": (flags.DEFINE_integer, 5, "Measured turns, after one to warm up."),
    "output": (flags.DEFINE_string, None, "JSON file to write."),
}
DATA = ("dataset", "data_dir", "limit_train")
NETWORK = ("model", "keras")


def define(*names: str, **defaults: Any) -> None:
    """Defines flags, whose values are attributes of `FLAGS`.

    Args:
        *names: flags with the usual default.
        **defaults: flags with a default of this benchmark.
    """
    for name in dict.fromkeys((*names, *defaults)):
        define_flag, default, text = _FLAGS[name]
        define_flag(name, defaults.get(name, default), text)


def load_data(**options: Any) -> Any:
    """Loads the data set that the flags name, with further options of `load_dataset`."""
    from tf_prac import load_dataset

    limit = FLAGS.limit_train
    return load_dataset(FLAGS.dataset, data_dir=FLAGS.data_dir, limit_train=limit, **options)
