"""`Distribution`: training on several devices or machines with a `tf.distribute.Strategy`.

Training on one device uses the default strategy and the same code. Besides gradients, replicas
exchange only sums of integers, which every strategy supports.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.checks import first_line
from tf_prac.data.batch_shard import BatchShard
from tf_prac.errors import ArgumentError, MismatchError, WorkerLostError
from tf_prac.keras_api import tf_variable
from tf_prac.training.compiled import compiled
from tf_prac.training.state import identity_of

CHUNK = 2**24  # integers per reduction, 64 MiB


class Distribution:
    """A `tf.distribute.Strategy` with the operations that a search needs.

    Args:
        strategy: a strategy. Default None: the current one, which outside of a scope is the
            default strategy, on one device.

    Attributes:
        replicas: the number of replicas in sync.
        workers: the number of processes.
        worker: the index of this process; 0 is the chief.
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

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run directory."""
        return self.worker == 0

    @property
    def pads_batches(self) -> bool:
        """Whether batches are padded, so that the batches of all replicas have the same size."""
        return self.replicas > 1 or isinstance(self.strategy, tf.distribute.TPUStrategy)

    @property
    def devices(self) -> list[str]:
        """The devices of this process, such as "GPU:0"."""
        try:
            names = self.strategy.extended.worker_devices
        except RuntimeError:  # the default strategy, on the first device
            gpus = tf.config.list_logical_devices("GPU")
            devices = gpus or tf.config.list_logical_devices("CPU")
            names = [devices[0].name]
        return [":".join(name.split(":")[-2:]) for name in names]

    @property
    def device_kind(self) -> str:
        """The kind of the devices, "CPU", "GPU" or "TPU"; does not initialize TensorFlow."""
        if isinstance(self.strategy, tf.distribute.TPUStrategy):
            return "TPU"
        try:
            names = self.strategy.extended.worker_devices
        except RuntimeError:  # the default strategy, on the first device
            return "GPU" if tf.config.get_visible_devices("GPU") else "CPU"
        return "GPU" if "GPU" in names[0].upper() else "CPU"

    def summary(self, batch_size: int) -> dict[str, Any]:
        """Returns the strategy, devices and batch sizes, for the summary of a run."""
        return {
            "strategy": type(self.strategy).__name__.removesuffix("V2").removesuffix("V1"),
            "replicas": self.replicas,
            "workers": self.workers,
            "devices": self.devices,
            "global_batch_size": batch_size,
            "replica_batch_size": self.per_replica(batch_size),
        }

    def describe(self, batch_size: int) -> str:
        """Returns a line that describes the strategy, devices and batch sizes."""
        summary = self.summary(batch_size)
        workers = f" in each of {self.workers} workers" if self.workers > 1 else ""
        return (
            f"{summary['strategy']}: {', '.join(self.devices)}{workers}; batches of {batch_size}, "
            f"{summary['replica_batch_size']} for each of {self.replicas} replicas"
        )

    def per_replica(self, batch_size: int) -> int:
        """Returns the batch size of each replica for a global batch size.

        Raises:
            ArgumentError: If it is not a multiple of the number of replicas.
        """
        if batch_size % self.replicas:
            below = batch_size // self.replicas * self.replicas
            multiples = [str(size) for size in (below, below + self.replicas) if size]
            raise ArgumentError(
                "batch_size",
                batch_size,
                f"a multiple of the {self.replicas} replicas, such as {' or '.join(multiples)}",
                "It is the global batch size, of all replicas together.",
            )
        return batch_size // self.replicas

    def padded_batch_size(self, batch_size: int) -> int:
        """Returns a global batch size rounded up to a multiple of the number of replicas."""
        return -(-batch_size // self.replicas) * self.replicas

    def batches(
        self,
        dataset_fn: Callable[[BatchShard | None], tf.data.Dataset],
        batch_size: int,
        endless: bool = True,
    ) -> Any:
        """Returns a distributed dataset of batches, each of them split over the replicas.

        Args:
            dataset_fn: returns a dataset of the batches of a shard; of whole batches for None,
                with which it is called for one device.
            batch_size: the global batch size.
            endless: whether to repeat the dataset without end. With several replicas, it must be
                endless, repeated here or endless already. Default True.
        """
        if not self.pads_batches:
            return dataset_fn(None).repeat() if endless else dataset_fn(None)
        replica_batch_size = self.per_replica(batch_size)

        def pipeline(context: Any) -> tf.data.Dataset:
            size = batch_size // context.num_input_pipelines
            shard = BatchShard(context.input_pipeline_id * size, size, batch_size)
            batches = shard.split(dataset_fn(shard), size // replica_batch_size)
            return batches.repeat() if endless else batches

        return self.strategy.distribute_datasets_from_function(pipeline)

    def replica_values(self, variables: Sequence[Any]) -> list[np.ndarray]:
        """Returns the values of each variable in all replicas, [replicas, ...], in every worker."""
        own = [
            np.stack([value.numpy() for value in self.strategy.experimental_local_results(each)])
            for each in map(tf_variable, variables)
        ]
        rows = [
            np.frombuffer(content, np.uint8)
            for content in self._gather(b"".join(values.tobytes() for values in own))
        ]
        bounds = [0, *itertools.accumulate(values.nbytes for values in own)]
        return [
            np.concatenate([row[start:end].view(values.dtype) for row in rows]).reshape(
                self.replicas, *values.shape[1:]
            )
            for values, (start, end) in zip(own, itertools.pairwise(bounds), strict=True)
        ]

    def assign_replicas(self, variable: Any, values: np.ndarray) -> None:
        """Sets a variable to one value per replica, [replicas, ...]."""
        local = self.strategy.experimental_local_results(tf_variable(variable))
        first = self.worker * len(local)
        for own, value in zip(local, values[first : first + len(local)], strict=True):
            own.assign(value)

    def means(self, variables: Sequence[Any]) -> list[np.ndarray]:
        """Returns the mean of each variable over replicas."""
        return [
            np.mean(values, axis=0).astype(values.dtype)
            for values in self.replica_values(variables)
        ]

    def any_worker(self, *flags: bool) -> list[bool]:
        """Returns for each flag whether it is set in any worker."""
        if self.workers == 1:
            return list(flags)
        return [bool(count) for count in self._sum_workers(np.array(flags, np.int32))]

    def broadcast_from_chief(self, content: bytes) -> bytes:
        """Returns, in every worker, the content that the chief passes."""
        if self.workers == 1:
            return content
        content = content if self.is_chief else b""
        words = self._sum_workers(np.array(divmod(len(content), 2**31), np.int32))
        length = int(words[0]) * 2**31 + int(words[1])
        return self._sum_bytes(content.ljust(length, b"\0"))

    def check_same(self, what: str, *arrays: Any) -> None:
        """Raises `MismatchError`, in every worker, unless all workers have the same arrays.

        Args:
            what: what the arrays are, for the message.
            *arrays: the arguments of `identity_of`.
        """
        if self.workers == 1:
            return
        digests = self._gather(bytes.fromhex(identity_of(*arrays)))
        others = [str(n) for n, digest in enumerate(digests) if digest != digests[0]]
        if others:
            raise MismatchError(
                f"{what}: not the same in worker {', '.join(others)} as in worker 0, the chief. "
                "Start every worker with the same command, data, and versions."
            )

    def _gather(self, content: bytes) -> list[bytes]:
        """Returns what each worker passes, which has the same length in all of them."""
        if self.workers == 1:
            return [content]
        size = len(content)
        own = content.rjust((self.worker + 1) * size, b"\0").ljust(self.workers * size, b"\0")
        rows = self._sum_bytes(own)
        return [rows[n * size : (n + 1) * size] for n in range(self.workers)]

    def _sum_bytes(self, content: bytes) -> bytes:
        """Returns the sum over workers, of which only one has another byte than 0 at each place."""
        words = np.frombuffer(content.ljust(-(-len(content) // 4) * 4, b"\0"), np.int32)
        chunks = [self._sum_workers(words[n : n + CHUNK]) for n in range(0, len(words), CHUNK)]
        return b"".join(chunk.tobytes() for chunk in chunks)[: len(content)]

    def _sum_workers(self, numbers: np.ndarray) -> np.ndarray:
        """Returns the sum of int32 [n] over workers."""
        if self._sum is None:

            def reduce(values: tf.Tensor) -> tf.Tensor:
                context = tf.distribute.get_replica_context()
                replicas_per_worker = self.replicas // self.workers
                is_first = context.replica_id_in_sync_group % replicas_per_worker == 0
                values = values if is_first else tf.zeros_like(values)
                return context.all_reduce(tf.distribute.ReduceOp.SUM, values)

            self._sum = compiled(
                lambda values: self.strategy.run(reduce, args=(values,)), reduce_retracing=True
            )
        total = self._sum(tf.constant(numbers))
        return self.strategy.experimental_local_results(total)[0].numpy()

    @contextlib.contextmanager
    def detect_lost_workers(self) -> Iterator[None]:
        """Converts TensorFlow's errors about a lost worker to `WorkerLostError`, in the context.

        Raises:
            WorkerLostError: If another worker is lost; the message says how to resume.
        """
        try:
            yield
        except (tf.errors.UnavailableError, tf.errors.AbortedError) as error:
            if self.workers == 1:
                raise
            reason = first_line(error)
            raise WorkerLostError(
                f"another worker is lost ({reason}). Run the same command in every worker to "
                "resume from the last checkpoint."
            ) from error
        except tf.errors.OpError as error:
            if self.workers == 1 or "ollective" not in str(error.message):
                raise
            raise WorkerLostError(
                "another worker is lost. Run the same command in every worker to resume from the "
                "last checkpoint."
            ) from error


class ReplicaVariable:
    """A variable that has another value in each replica.

    It has the methods of a variable that saving and restoring a checkpoint needs.

    Args:
        variable: of either flavor.
        distribution: the `Distribution` in whose scope it was created.

    Attributes:
        shape: (replicas, ...).
    """

    def __init__(self, variable: Any, distribution: Distribution):
        self._variable, self._distribution = variable, distribution
        self.shape = (distribution.replicas, *variable.shape)

    def numpy(self) -> np.ndarray:
        """Returns the values of all replicas, in every worker."""
        return self._distribution.replica_values([self._variable])[0]

    def assign(self, values: np.ndarray) -> None:
        """Sets the value of each replica."""
        self._distribution.assign_replicas(self._variable, values)
