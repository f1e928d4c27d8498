"""`BatchMap`: a function of each batch of a pass, in a compiled loop of many batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tf_prac.data.batches import Batches, Call
from tf_prac.training.compiled import compiled
from tf_prac.training.distribution import Distribution

CALL_BYTES = 2**26
"""Target size of the results of one call, which are on the device until it ends."""
CALL_SECONDS = 1.0
"""Calls have more and more batches until one takes this long, as a call cannot be interrupted."""
GROWTH = 8
"""The factor by which the number of batches grows."""


class BatchMap:
    """Maps batches through a function, with as few calls and copies to the host as possible.

    Each call of the compiled loop takes many batches. With samples on the device, it reads nothing
    from the host. The loop is traced once for each kind of batches, and is not compiled by XLA.

    Args:
        distribution: the `Distribution` of the strategy in whose scope the network was created.
        fn: function of a batch, called in each replica, to a nest of tensors [n, ...] or None, the
            same in all replicas.
    """

    def __init__(self, distribution: Distribution, fn: Callable[..., Any]):
        self._distribution, self._fn = distribution, fn
        self._loops: dict[str, Callable[[Call], Any]] = {}

    def __call__(self, batches: Batches, steps: int) -> Iterator[Any]:
        """Yields the results of the next `steps` batches: of one batch, and then of more at a time.

        Args:
            batches: at least `steps` batches.
            steps: the number of batches.

        Yields:
            A nest of arrays as `fn` returns it, each with the rows of all batches of a call.
        """
        kind = f"{type(batches)} {batches.preprocessing} {batches.signature}"
        if kind not in self._loops:
            self._loops[kind] = self._loop(batches)
        done, limit = 0, 1
        while done < steps:
            start = time.perf_counter()
            taken, call = batches.take(min(steps - done, limit))
            results = map_tensors(lambda each: each.numpy(), self._loops[kind](call))
            is_long = done > 0 and time.perf_counter() - start > CALL_SECONDS  # the first may trace
            (is_long,) = self._distribution.any_worker(is_long)
            size = sum(each.nbytes for each in tensors_in(results)) // taken
            yield results
            limit = max(1, min(taken * (1 if is_long else GROWTH), CALL_BYTES // max(1, size)))
            done += taken

    def _loop(self, batches: Batches) -> Callable[[Call], Any]:
        """Returns a compiled function that returns the results of the batches of a `Call`."""
        read, preprocessing = batches.read, batches.preprocessing
        strategy = self._distribution.strategy

        def step(call: Call, done: tf.Tensor, index: tf.Tensor) -> Any:
            def of_replica(batch: Any, key: tf.Tensor, number: tf.Tensor) -> Any:
                return self._fn(*(preprocessing(batch, key, number) if preprocessing else batch))

            batch = read(call.source, done)
            results = strategy.run(of_replica, args=(batch, call.key, call.first_step + index))
            return map_tensors(lambda each: strategy.experimental_local_results(each)[0], results)

        options: dict[str, Any] = {"autograph": False, "reduce_retracing": True}
        if batches.signature is not None:
            options = {"autograph": False, "input_signature": [batches.signature]}
        one = compiled(step, autograph=False)

        def run(call: Call) -> Any:
            counters = [tf.constant(0), tf.constant(0, tf.int64)]  # see `StepLoop`
            nest = one.get_concrete_function(call, *counters).structured_outputs
            arrays = [
                tf.TensorArray(
                    each.dtype,
                    call.steps,
                    infer_shape=False,
                    element_shape=[None, *each.shape[1:]],
                )
                for each in tensors_in(nest)
            ]

            def body(done: tf.Tensor, index: tf.Tensor, arrays: list[Any]) -> Any:
                results = tensors_in(one(call, done, index))
                pairs = zip(arrays, results, strict=True)
                return done + 1, index + 1, [array.write(done, each) for array, each in pairs]

            *_, arrays = tf.while_loop(
                lambda done, *_: done < call.steps, body, [*counters, arrays]
            )
            rows = iter([array.concat() for array in arrays])
            return map_tensors(lambda _: next(rows), nest)

        return compiled(run, **options)


def map_tensors(fn: Callable[[Any], Any], nest: Any) -> Any:
    """Returns a nest with `fn` applied to each leaf that is not None."""
    return tf.nest.map_structure(lambda each: None if each is None else fn(each), nest)


def tensors_in(nest: Any) -> list[Any]:
    """Returns the leaves of a nest that are not None."""
    return [each for each in tf.nest.flatten(nest) if each is not None]
