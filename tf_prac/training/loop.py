"""`StepLoop`: a training and evaluation loop that counts in steps.

`fit` counts in epochs of one data set. A search needs steps: W_k is the state after k steps, also
in the middle of an epoch; the data of a round is one long replayable sequence; and the overhead
that `fit` has in each epoch would dominate short rounds. The loop uses what both Keras flavors
document: calling `train_step` and `test_step` in a `tf.function`, and the metrics of the model.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tf_prac.data.batches import Batches, Call, StreamedBatches
from tf_prac.training.compiled import compiled
from tf_prac.training.distribution import Distribution

CALL_SECONDS = 0.2
"""Target duration of one call of the compiled function, which takes several steps."""


class StepLoop:
    """Runs training and evaluation steps of a compiled Keras model of either flavor.

    Each of the two steps is traced once for each kind of batches. With XLA, a loop over samples in
    the device's memory is one program of many steps; over a stream, each step is a program. A
    partial batch at the end of an epoch is then trained on without XLA, which would compile a
    program for each of its sizes, and rounds have different ones.

    Args:
        model: a compiled model.
        distribution: the `Distribution` of the strategy in whose scope the model was created.
            Default None: that of `model.distribute_strategy`.
        jit_compile: whether to compile with XLA. Default False.
    """

    def __init__(
        self, model: Any, distribution: Distribution | None = None, *, jit_compile: bool = False
    ):
        self._model = model
        self._distribution = distribution or Distribution(model.distribute_strategy)
        self._jit_compile = jit_compile
        self._compiled: dict[str, Callable[[Call], None]] = {}
        self._steps_per_call = 8

    def trace(self, batches: Batches | Iterator[Any]) -> None:
        """Traces the training step without taking a step; this creates the metrics' variables."""
        self._run("train_step", as_batches(batches), 0)

    def train(
        self,
        batches: Batches | Iterator[Any],
        steps: int,
        advance: Callable[[int], Any] | None = None,
        should_pause: Callable[[], bool] | None = None,
    ) -> int:
        """Trains for exactly `steps` steps, or fewer if `should_pause` returns True.

        Args:
            batches: `Batches`, or an iterator over a `tf.data.Dataset` of batches that are ready;
                one batch is consumed per step.
            steps: the number of steps.
            advance: called about every 0.2 seconds, with the number of steps since the last call.
            should_pause: called as often; if it returns True, training stops early.

        Returns:
            The number of steps taken.
        """
        batches = as_batches(batches)
        taken = 0
        while taken < steps:
            start = time.perf_counter()
            count = self._run("train_step", batches, min(steps - taken, self._steps_per_call))
            taken += count
            if advance is not None:
                advance(count)
            is_full = count == self._steps_per_call
            is_short = is_full and time.perf_counter() - start < CALL_SECONDS / 2
            is_short, pause = self._distribution.any_worker(
                is_short, should_pause is not None and should_pause()
            )
            if is_short:
                self._steps_per_call *= 2
            if pause:
                break
        return taken

    def evaluate(self, batches: Batches | Iterator[Any], steps: int) -> dict[str, float]:
        """Resets the metrics and returns them after exactly `steps` evaluation steps."""
        self._model.reset_metrics()
        batches, taken = as_batches(batches), 0
        while taken < steps:
            taken += self._run("test_step", batches, steps - taken)
        return self.results()

    def results(self) -> dict[str, float]:
        """Returns the metrics since their last reset, and resets them."""
        metrics = {name: float(value) for name, value in self._model.get_metrics_result().items()}
        self._model.reset_metrics()
        return metrics

    def _run(self, step: str, batches: Batches, steps: int) -> int:
        """Calls the compiled function of a step once; returns the number of steps taken."""
        steps, call = batches.take(steps)
        signature = batches.signature_of(call)
        kind = f"{step} {type(batches)} {batches.preprocessing} {signature}"
        if kind not in self._compiled:
            self._compiled[kind] = _many_steps(
                self._distribution.strategy,
                self._model,
                getattr(self._model, step),
                batches,
                signature,
                jit_step=self._jit_compile and not batches.on_device,
                jit_loop=self._jit_compile and batches.is_static(call),
            )
        self._compiled[kind](call)
        return steps


def as_batches(batches: Batches | Iterator[Any]) -> Batches:
    """Returns an iterator over batches that are ready as `Batches`."""
    return batches if isinstance(batches, Batches) else StreamedBatches(batches)


def _many_steps(
    strategy: Any,
    model: Any,
    model_step: Callable[[Any], Any],
    batches: Batches,
    signature: Call | None,
    *,
    jit_step: bool,
    jit_loop: bool,
) -> Callable[[Call], None]:
    """Returns a compiled function that takes the steps of a `Call`.

    XLA compiles each step, or the loop, or nothing.
    """
    read, preprocessing = batches.read, batches.preprocessing

    def step(batch: Any, key: tf.Tensor, number: tf.Tensor) -> None:
        model_step(batch if preprocessing is None else preprocessing(batch, key, number))

    options: dict[str, Any] = {"reduce_retracing": True, "autograph": False}
    if jit_step:
        step = compiled(step, jit_compile=True, **options)

    def run(call: Call) -> None:
        def body(done: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            with model.silent() if hasattr(model, "silent") else contextlib.nullcontext():
                batch = read(call.source, done)
                strategy.run(step, args=(batch, call.key, call.first_step + index))
            return done + 1, index + 1

        # Two counters: TensorFlow keeps int32 in host memory, and int64 on the device.
        counters = [tf.constant(0), tf.constant(0, tf.int64)]
        tf.while_loop(lambda done, _: done < call.steps, body, counters)

    if signature is not None:
        options = {"input_signature": [signature], "autograph": False}
    return compiled(run, jit_compile=jit_loop or None, **options)
