"""`DataPlacement`: whether samples are in the device's memory, or streamed to it."""

from __future__ import annotations

import dataclasses
import functools
import weakref
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tf_prac.checks import check_choice
from tf_prac.config import DATA_PLACEMENTS
from tf_prac.data.batches import (
    Batches,
    ChunkedBatches,
    DeviceBatches,
    StreamedBatches,
    gathers_on_gpu,
    on_device,
)
from tf_prac.data.pipeline import PREFETCHED as AHEAD
from tf_prac.data.pipeline import (
    Preprocessing,
    evaluation_batches,
    training_batches,
)
from tf_prac.data.source import Samples
from tf_prac.data.splits import Split
from tf_prac.errors import ArgumentError
from tf_prac.training.distribution import Distribution

MEMORY_FRACTION = 0.25
"""Samples are put on an accelerator if they fit this fraction of its free memory."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the samples of a data set are.

    Attributes:
        samples: all samples on the device, as in a batch; None if they are streamed.
        device: name of the device, such as "GPU:0".
        size: bytes of inputs and labels on the device; 0 if they are streamed.
        reason: why they are streamed; "" if they are not.
    """

    samples: Any
    device: str
    size: int = 0
    reason: str = ""

    def summary(self) -> dict[str, Any]:
        """Returns placement, device, bytes and a line of text, for the summary of a run."""
        placement = "stream" if self.samples is None else "device"
        summary = {"placement": placement, "device": self.device, "bytes": self.size}
        return {**summary, "description": str(self)}

    def __str__(self) -> str:
        if self.samples is None:
            return f"streamed ({self.reason})"
        return f"on the device {self.device} ({as_text(self.size)})"


class DataPlacement:
    """Decides where samples are, and returns their batches, which do not depend on it.

    Args:
        distribution: of the training.
        placement: "device", "stream" or "auto": on the device if samples that are in memory fit
            `MEMORY_FRACTION` of its free memory, and training has one replica. Default "auto".

    Raises:
        ArgumentError: If the placement is unknown.

    Attributes:
        jit_compile: whether XLA compiles the loop that reads the batches. False until it is set.
    """

    def __init__(self, distribution: Distribution, placement: str = "auto"):
        check_choice("data_placement", placement, DATA_PLACEMENTS)
        self.jit_compile = False
        self._distribution, self._placement = distribution, placement
        self._places: weakref.WeakKeyDictionary[Samples, Place] = weakref.WeakKeyDictionary()

    @property
    def device(self) -> str:
        """The name of the first replica's device, such as "GPU:0"."""
        return self._distribution.devices[0]

    def place(self, samples: Samples) -> Place:
        """Returns where the samples are; the first call puts them there.

        Raises:
            ArgumentError: If the device is requested, and cannot have them.
        """
        if samples not in self._places:
            self._places[samples] = self._new_place(samples)
        return self._places[samples]

    def training(
        self,
        samples: Samples,
        ids: Any,
        *,
        batch_size: int,
        seed: tuple[int, ...],
        first_step: int = 0,
        steps: int | None = None,
        augment: str = "none",
    ) -> Batches:
        """Returns the batches of the training steps from `first_step`; see `training_batches`.

        At least `steps` of them, or for None without end.
        """
        if self._distribution.pads_batches:
            return self._sharded(
                lambda shard: training_batches(
                    samples,
                    ids,
                    batch_size=batch_size,
                    seed=seed,
                    start_step=first_step,
                    augment=augment,
                    shard=shard,
                ),
                batch_size,
                endless=False,
            )
        options: dict[str, Any] = {"seed": seed, "first_step": first_step}
        read = functools.partial(samples.batches, ids, batch_size, seed=seed, start_step=first_step)
        preprocessing = Preprocessing.of(samples, augment)
        return self._batches(samples, ids, batch_size, read, steps, preprocessing, **options)

    def evaluation(self, split: Split, batch_size: int, jit_compile: bool | None = None) -> Batches:
        """Returns endless passes over the samples of a split; see `evaluation_batches`.

        Args:
            split: the samples.
            batch_size: samples per batch.
            jit_compile: whether XLA compiles the loop that reads them. Default None: as the
                attribute.
        """
        samples, ids = split
        if self._distribution.pads_batches:
            return self._sharded(
                lambda shard: evaluation_batches(*split, batch_size=batch_size, shard=shard),
                batch_size,
            )

        def read(steps: int | None) -> tf.data.Dataset:
            return samples.batches(ids, batch_size).repeat()

        preprocessing = Preprocessing.of(samples)
        return self._batches(
            samples, ids, batch_size, read, None, preprocessing, jit_compile=jit_compile
        )

    def _batches(
        self,
        samples: Samples,
        ids: Any,
        batch_size: int,
        read: Callable[..., tf.data.Dataset],
        steps: int | None,
        preprocessing: Preprocessing,
        jit_compile: bool | None = None,
        **options: Any,
    ) -> Batches:
        """Returns batches for one replica.

        Args:
            samples: the data set.
            ids: the samples to read.
            batch_size: samples per batch.
            read: returns a dataset of the stored batches of a number of steps, or without end.
            steps: the number of steps that are needed; None for no end.
            preprocessing: of each batch.
            jit_compile: as for `evaluation`.
            **options: seed, first_step.
        """
        jit_compile = self.jit_compile if jit_compile is None else jit_compile
        options = {"preprocessing": preprocessing, **options}
        place, device = self.place(samples), self.device
        if place.samples is not None:
            return DeviceBatches(place.samples, ids, batch_size, device, jit_compile, **options)
        if jit_compile:
            return ChunkedBatches(read(steps=None), len(ids), batch_size, device, **options)
        with tf.device(device):
            return StreamedBatches(iter(on_device(read(steps=steps), device, AHEAD)), **options)

    def _sharded(self, dataset_fn: Any, batch_size: int, endless: bool = True) -> Batches:
        batches = self._distribution.batches(dataset_fn, batch_size, endless)
        return StreamedBatches(iter(batches))

    def _new_place(self, samples: Samples) -> Place:
        obstacle = self._obstacle(samples)
        if obstacle and self._placement == "device":
            raise ArgumentError("data_placement", "device", f"auto or stream, as {obstacle}")
        if obstacle or self._placement == "stream":
            return Place(None, self.device, 0, obstacle or "as requested")
        size = size_of(samples.arrays)
        with tf.device(self.device):
            inputs, labels = tf.nest.map_structure(tf.identity, samples.arrays)
            ids = tf.range(len(samples), dtype=tf.int64)
            weights = [] if samples.weights is None else [tf.constant(samples.weights)]
        stored = ({"inputs": inputs, "sample_id": ids}, labels, *weights)
        return Place(stored, self.device, size)

    def _obstacle(self, samples: Samples) -> str:
        """Returns why the samples cannot be put on the device, or "".

        If the device is requested, they may use all of its free memory.
        """
        if self._distribution.pads_batches:
            return f"the {self._distribution.replicas} replicas get parts of each batch"
        name = samples.identity.name
        if samples.arrays is None:
            return f"the samples of {name} are read on demand"
        if any(part.dtype == tf.string for part in tf.nest.flatten(samples.arrays)):
            return f"{name} has strings, which are only in host memory"
        on_host = [p.dtype.name for p in tf.nest.flatten(samples.arrays) if not gathers_on_gpu(p)]
        if on_host and not self.device.startswith("CPU"):
            return f"TensorFlow gathers samples of this size in {on_host[0]} on the host"
        size, free = size_of(samples.arrays), free_memory(self.device)
        fraction = 1.0 if self._placement == "device" else MEMORY_FRACTION
        if free is None or size <= fraction * free:
            return ""
        share = "" if fraction == 1 else f"{fraction:.0%} of "
        return (
            f"the {as_text(size)} of {name} do not fit {share}the {as_text(free)} of memory that "
            f"are free on {self.device}"
        )


def free_memory(device: str) -> int | None:
    """Returns the free bytes of an accelerator; None for the CPU, whose memory has the samples."""
    if device.startswith("CPU"):
        return None
    from tensorflow.python.client import device_lib  # the only source of the limit

    limits = {item.name: item.memory_limit for item in device_lib.list_local_devices()}
    used = tf.config.experimental.get_memory_info(device)["current"]
    return max(0, limits[f"/device:{device}"] - used)


def size_of(arrays: Any) -> int:
    """Returns the bytes of a nest of tensors."""
    return sum(part.shape.num_elements() * part.dtype.size for part in tf.nest.flatten(arrays))


def as_text(size: int) -> str:
    """Returns a number of bytes as text, such as "150 MB"."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size / 1e3:.3g} kB"
