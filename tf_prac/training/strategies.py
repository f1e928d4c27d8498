"""`make_distribution`: the strategies of `tf.distribute` by name, and which ones are refused."""

from __future__ import annotations

import json
import os
from typing import Any

import tensorflow as tf

from tf_prac.checks import first_line
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import flavor_of
from tf_prac.training.distribution import Distribution

STRATEGIES = ("one", "mirrored", "multi_worker", "tpu")
REFUSED = {
    "parameter_server": "its workers update weights asynchronously, so that there is no state "
    "after k steps to rewind to, and training is not reproducible",
}
LOGICAL_GPU_MB = 4096
"""Memory of each logical device of a GPU that "mirrored" splits."""


def make_distribution(strategy: Any = None, devices: int | None = None) -> Distribution:
    """Returns a `Distribution` for a strategy or its name.

    Call it for "multi_worker", and for "mirrored" on CPU devices, before any other use of
    TensorFlow in the process.

    Args:
        strategy: a name of `STRATEGIES`, a `tf.distribute.Strategy`, or a `Distribution`.
            Default None: the current strategy.
        devices: the number of devices of "mirrored": GPUs; or logical devices of the only GPU
            (4 GiB of memory each) or of the CPU, for tests. Default None: all GPUs.

    Raises:
        ArgumentError: If the name is unknown, devices or a TPU are not available, or TF_CONFIG
            does not describe a cluster.
    """
    if isinstance(strategy, Distribution):
        return strategy
    if strategy is None or isinstance(strategy, tf.distribute.Strategy):
        return Distribution(strategy)
    if strategy in REFUSED:
        names = ", ".join(STRATEGIES)
        raise ArgumentError(
            "strategy", strategy, f"one of {names}", f"Not supported: {REFUSED[strategy]}."
        )
    if strategy not in STRATEGIES:
        raise ArgumentError("strategy", strategy, f"one of {', '.join(STRATEGIES)}")
    if devices is not None and strategy != "mirrored":
        raise ArgumentError("devices", devices, "None, except with strategy mirrored")
    makers = {"mirrored": lambda: _mirrored(devices), "multi_worker": _multi_worker, "tpu": _tpu}
    return Distribution(makers[strategy]() if strategy in makers else None)


def _mirrored(devices: int | None) -> Any:
    gpus = tf.config.get_visible_devices("GPU")
    count = devices if devices is not None else max(1, len(gpus))
    if count < 1 or (len(gpus) > 1 and count > len(gpus)):
        allowed = f"1 to {len(gpus)}, as there are {len(gpus)} GPUs" if gpus else "at least 1"
        raise ArgumentError("devices", devices, allowed)
    kind = "GPU" if gpus else "CPU"
    if count > len(gpus):
        _split(kind, count)
    return tf.distribute.MirroredStrategy([f"{kind}:{n}" for n in range(count)])


def _split(kind: str, count: int) -> None:
    """Makes `count` logical devices of the only GPU or of the CPU.

    Raises:
        ArgumentError: If TensorFlow has started with fewer devices.
    """
    memory = {"memory_limit": LOGICAL_GPU_MB} if kind == "GPU" else {}
    parts = [tf.config.LogicalDeviceConfiguration(**memory)] * count
    try:
        device = tf.config.list_physical_devices(kind)[0]
        tf.config.set_logical_device_configuration(device, parts)
    except RuntimeError as error:
        if len(tf.config.list_logical_devices(kind)) < count:
            allowed = f"{kind} devices that are created before TensorFlow is used"
            raise ArgumentError("devices", count, allowed) from error


def check_cluster(text: str | None) -> dict[str, Any]:
    """Parses the environment variable TF_CONFIG.

    Args:
        text: its value, or None if it is not set.

    Raises:
        ArgumentError: If it is not set, or does not describe a cluster of workers and the task of
            this process.
    """
    allowed = (
        '{"cluster": {"worker": ["host1:port", "host2:port"]}, '
        '"task": {"type": "worker", "index": 0}}'
    )
    remedy = "It is an environment variable; each worker has its own index."
    try:
        config = json.loads(text or "")
        cluster, task = config["cluster"], config["task"]
        addresses = [a for name in ("chief", "worker") for a in cluster.get(name, [])]
        count = len(cluster[task["type"]])
        valid = set(cluster) <= {"chief", "worker"} and 0 <= task["index"] < count
        if not (valid and isinstance(task["index"], int) and addresses):
            raise ValueError
        if not all(isinstance(a, str) and a.rpartition(":")[2].isdecimal() for a in addresses):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        received = text or "nothing"
        raise ArgumentError("TF_CONFIG", received, allowed, remedy) from error
    return config


def _multi_worker() -> Any:
    check_cluster(os.environ.get("TF_CONFIG"))
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise ArgumentError(
            "strategy", "multi_worker", "a strategy that is created before TensorFlow is used"
        ) from error


def _tpu() -> Any:
    name = os.environ.get("TPU_NAME", "local")
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        if name != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, RuntimeError, OSError, ImportError, tf.errors.OpError) as error:
        reason = first_line(error)[:200]
        raise ArgumentError(
            "strategy",
            "tpu",
            "a machine with a TPU, or a TPU named by the environment variable TPU_NAME",
            f"TensorFlow found none: {reason}",
        ) from error


def check_fit(model: Any) -> None:
    """Checks that `fit` of the model's Keras supports the strategy the model was created under.

    Raises:
        ArgumentError: If a Keras 3 model was created under `MultiWorkerMirroredStrategy`.
    """
    multi_worker = isinstance(model.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy)
    if multi_worker and flavor_of(model).name == "keras":
        raise ArgumentError(
            "strategy",
            "MultiWorkerMirroredStrategy",
            "a strategy for one machine with `fit` of Keras 3, which treats the workers' shards of "
            "a batch as one tensor",
            "Use a tf_keras model, or a search, which has its own training loop.",
        )
