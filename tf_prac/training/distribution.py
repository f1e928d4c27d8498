"""`Distribution`: a training on several devices or machines, by a strategy of TensorFlow.

One device is the default strategy, on the same path. What replicas must agree on beside gradients
goes through sums of integers, which every strategy has.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.data.batch_shard import BatchShard
from tf_prac.errors import ArgumentError, MismatchError, WorkerLostError
from tf_prac.keras_api import flavour_of
from tf_prac.training.state import identity_of

STRATEGIES = ("one", "mirrored", "multi_worker", "tpu")
REFUSED = {
    "parameter_server": "its workers update weights whenever they like: there is no state after k "
    "steps to rewind to, and no training twice the same",
}
CHUNK = 2**24  # integers sent at a time, 64 MiB


class Distribution:
    """A strategy of TensorFlow, and what a search asks of it.

    Args:
        strategy: of TensorFlow. Default None: the one whose scope this is made in, which outside
            of any is one device.

    Attributes:
        replicas: how many take each step together.
        workers: how many processes.
        worker: which of them this is; 0 is the chief.
    """

    def __init__(self, strategy: Any = None):
        self.strategy = strategy or tf.distribute.get_strategy()
        self.replicas = self.strategy.num_replicas_in_sync
        self.workers, self.worker = 1, 0
        if isinstance(self.strategy, tf.distribute.MultiWorkerMirroredStrategy):
            cluster = self.strategy.cluster_resolver.cluster_spec().as_dict()
            chiefs, workers = cluster.get("chief", []), cluster.get("worker", [])
            self.workers = max(1, len(chiefs) + len(workers))
            if self.strategy.cluster_resolver.task_type == "worker":
                self.worker = len(chiefs) + self.strategy.cluster_resolver.task_id
        self._sum: Any = None
        self._mean: Any = None

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run."""
        return self.worker == 0

    @property
    def static(self) -> bool:
        """Whether batches are filled up, so that every replica has as many places."""
        return self.replicas > 1 or isinstance(self.strategy, tf.distribute.TPUStrategy)

    @property
    def devices(self) -> list[str]:
        """The devices of this process, such as "GPU:0"."""
        try:
            found = self.strategy.extended.worker_devices
        except RuntimeError:  # the default strategy, on the first device
            there = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
            found = [there[0].name]
        return [":".join(name.split(":")[-2:]) for name in found]

    def figures(self, batch_size: int) -> dict[str, Any]:
        """What a summary says of it."""
        return {
            "strategy": type(self.strategy).__name__.removesuffix("V2").removesuffix("V1"),
            "replicas": self.replicas,
            "workers": self.workers,
            "devices": self.devices,
            "global_batch_size": batch_size,
            "replica_batch_size": self.per_replica(batch_size),
        }

    def line(self, batch_size: int) -> str:
        """What a search says of it at its start."""
        figures = self.figures(batch_size)
        workers = f" in each of {self.workers} workers" if self.workers > 1 else ""
        return (
            f"{figures['strategy']}: {', '.join(self.devices)}{workers}; batches of {batch_size}, "
            f"{figures['replica_batch_size']} for each of {self.replicas} replicas"
        )

    def per_replica(self, batch_size: int) -> int:
        """Returns each replica's part of a global batch.

        Raises:
            ArgumentError: it is not a whole number.
        """
        if batch_size % self.replicas:
            below = batch_size // self.replicas * self.replicas
            near = [str(size) for size in (below, below + self.replicas) if size]
            raise ArgumentError(
                "batch_size",
                batch_size,
                f"a multiple of the {self.replicas} replicas, such as {' or '.join(near)}",
                "It is that of all replicas together.",
            )
        return batch_size // self.replicas

    def whole_batch(self, batch_size: int) -> int:
        """Returns the next multiple of the number of replicas."""
        return -(-batch_size // self.replicas) * self.replicas

    def batches(
        self,
        make: Callable[[BatchShard | None], tf.data.Dataset],
        batch_size: int,
        endless: bool = True,
    ) -> Any:
        """Returns batches, of which each replica gets its part.

        Args:
            make: returns the batches of a shard; for one device None, all of them.
            batch_size: of all replicas together.
            endless: whether to begin again after the last; where several replicas take part,
                `make` or this has to see to it that there always is a next one.
        """
        if not self.static:
            return make(None).repeat() if endless else make(None)
        each = self.per_replica(batch_size)

        def of_pipeline(context: Any) -> tf.data.Dataset:
            size = batch_size // context.num_input_pipelines
            shard = BatchShard(context.input_pipeline_id * size, size, batch_size)
            batches = shard.split(make(shard), size // each)
            return batches.repeat() if endless else batches

        return self.strategy.distribute_datasets_from_function(of_pipeline)

    def average(self, variables: Sequence[Any]) -> None:
        """Sets variables that replicas keep by themselves to their mean, in all of them."""
        if self.replicas == 1 or not variables:
            return
        if self._mean is None:

            def mean() -> None:
                context = tf.distribute.get_replica_context()
                # A copy is on the replica's device, which the reduction has to know.
                values = [tf.identity(tf.convert_to_tensor(variable)) for variable in variables]
                means = context.all_reduce(tf.distribute.ReduceOp.MEAN, values)
                for variable, value in zip(variables, means, strict=True):
                    variable.assign(value)

            self._mean = tf.function(lambda: self.strategy.run(mean), autograph=False)
        self._mean()

    def any(self, *flags: bool) -> list[bool]:
        """Returns for each flag whether it is set in any worker."""
        if self.workers == 1:
            return list(flags)
        return [bool(found) for found in self._summed(np.array(flags, np.int32))]

    def of_chief(self, content: bytes) -> bytes:
        """Returns the content that the chief gave, in every worker."""
        if self.workers == 1:
            return content
        mine = content if self.is_chief else b""
        length = int(self._summed(np.array([len(mine)], np.int32))[0])
        numbers = np.zeros(-(-length // 4), np.int32)
        if self.is_chief:
            numbers = np.frombuffer(mine.ljust(4 * len(numbers), b"\0"), np.int32)
        parts = [self._summed(numbers[n : n + CHUNK]) for n in range(0, len(numbers), CHUNK)]
        return b"".join(part.tobytes() for part in parts)[:length]

    def check_same(self, what: str, *arrays: Any) -> None:
        """Raises `MismatchError`, in every worker, unless all have the same arrays.

        Args:
            what: what they are, for the message.
            *arrays: what `identity_of` takes.
        """
        if self.workers == 1:
            return
        mine = np.frombuffer(bytes.fromhex(identity_of(*arrays)), np.int32)
        table = np.zeros((self.workers, len(mine)), np.int32)
        table[self.worker] = mine
        found = self._summed(table.ravel()).reshape(table.shape)
        others = [str(n) for n, row in enumerate(found) if (row != found[0]).any()]
        if others:
            raise MismatchError(
                f"{what}: not the same in worker {', '.join(others)} as in worker 0, the chief. "
                "Start every worker with the same command, data, and versions."
            )

    def _summed(self, numbers: np.ndarray) -> np.ndarray:
        """Sums int32 [n] over workers."""
        if self._sum is None:

            def total(values: tf.Tensor) -> tf.Tensor:
                context = tf.distribute.get_replica_context()
                first = context.replica_id_in_sync_group % (self.replicas // self.workers) == 0
                mine = values if first else tf.zeros_like(values)
                return context.all_reduce(tf.distribute.ReduceOp.SUM, mine)

            self._sum = tf.function(
                lambda values: self.strategy.run(total, args=(values,)), reduce_retracing=True
            )
        found = self._sum(tf.constant(numbers))
        return self.strategy.experimental_local_results(found)[0].numpy()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Says what to do when another worker goes away during the block.

        Raises:
            WorkerLostError: in place of TensorFlow's error.
        """
        try:
            yield
        except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
            if self.workers == 1:
                raise
            reason = error.message.strip().splitlines()[0] if error.message else "no reason given"
            raise WorkerLostError(
                f"another worker went away ({reason}). The same command in every worker goes on "
                "from the last checkpoint."
            ) from error
        except tf.errors.OpError as error:
            if self.workers == 1 or "ollective" not in str(error.message):
                raise
            raise WorkerLostError(
                "another worker went away. The same command in every worker goes on from the last "
                "checkpoint."
            ) from error


def make_distribution(strategy: Any = None, devices: int | None = None) -> Distribution:
    """Returns the distribution of a name of `STRATEGIES`, or of a strategy of TensorFlow.

    "multi_worker" has to come before anything else of TensorFlow in a process, and "mirrored" on
    CPU devices, too.

    Args:
        strategy: a name, or a strategy of TensorFlow, or a `Distribution`. Default None: the
            strategy whose scope this is called in.
        devices: how many devices "mirrored" uses: GPUs where there are some, otherwise logical
            devices of the CPU, to try things out. Default None: all GPUs.

    Raises:
        ArgumentError: another name, devices that are not there, a TF_CONFIG that names no
            cluster, or no TPU.
    """
    if isinstance(strategy, Distribution):
        return strategy
    if strategy is None or isinstance(strategy, tf.distribute.Strategy):
        return Distribution(strategy)
    if strategy in REFUSED:
        names = ", ".join(STRATEGIES)
        raise ArgumentError(
            "strategy", strategy, f"one of {names}", f"Not that: {REFUSED[strategy]}."
        )
    if strategy not in STRATEGIES:
        raise ArgumentError("strategy", strategy, f"one of {', '.join(STRATEGIES)}")
    if devices is not None and strategy != "mirrored":
        raise ArgumentError("devices", devices, "nothing, but with strategy mirrored")
    makers = {"mirrored": lambda: _mirrored(devices), "multi_worker": _multi_worker, "tpu": _tpu}
    return Distribution(makers[strategy]() if strategy in makers else None)


def _mirrored(devices: int | None) -> Any:
    gpus = tf.config.list_physical_devices("GPU")
    there = len(gpus) or (devices if devices is not None else 1)
    if devices is not None and not 1 <= devices <= there:
        raise ArgumentError("devices", devices, f"1 to {there}, as there are {there} GPUs")
    if gpus:
        return tf.distribute.MirroredStrategy([f"GPU:{n}" for n in range(devices or there)])
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(
            cpu, [tf.config.LogicalDeviceConfiguration()] * there
        )
    except RuntimeError as error:
        if len(tf.config.list_logical_devices("CPU")) < there:
            raise ArgumentError(
                "devices", devices, "CPU devices that are made before TensorFlow is used"
            ) from error
    return tf.distribute.MirroredStrategy([f"CPU:{n}" for n in range(there)])


def check_cluster(text: str | None) -> dict[str, Any]:
    """Returns what the environment variable TF_CONFIG says.

    Raises:
        ArgumentError: it is not there, or does not name a cluster of workers and a place in it.
    """
    allowed = (
        '{"cluster": {"worker": ["host1:port", "host2:port"]}, '
        '"task": {"type": "worker", "index": 0}}'
    )
    remedy = "It is an environment variable; index is another one in each worker."
    try:
        config = json.loads(text or "")
        cluster, task = config["cluster"], config["task"]
        addresses = [a for name in ("chief", "worker") for a in cluster.get(name, [])]
        mine = cluster[task["type"]]
        fits = set(cluster) <= {"chief", "worker"} and 0 <= task["index"] < len(mine)
        if not (fits and isinstance(task["index"], int) and addresses):
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
            "strategy", "multi_worker", "one that is made before TensorFlow is used"
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
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else "no reason"
        raise ArgumentError(
            "strategy",
            "tpu",
            "a machine with a TPU, or a TPU that the environment variable TPU_NAME names",
            f"TensorFlow found none: {reason}",
        ) from error


def check_fit(model: Any) -> None:
    """Checks that `fit` of the model's Keras can train with the strategy it was made under.

    Raises:
        ArgumentError: several machines with Keras 3.
    """
    several = isinstance(model.distribute_strategy, tf.distribute.MultiWorkerMirroredStrategy)
    if several and flavour_of(model).name == "keras":
        raise ArgumentError(
            "strategy",
            "MultiWorkerMirroredStrategy",
            "strategies of one machine for `fit` of Keras 3, which takes the workers' parts of a "
            "batch for one tensor",
            "Use a tf_keras model, or a search, which has a loop of its own.",
        )
