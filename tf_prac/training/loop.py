"""`StepLoop`: any number of compiled training or evaluation steps, exactly.

`fit` counts in epochs of one data set. A search needs steps: W_k is the state after k of them, in
the middle of an epoch or not, the data of a round is one long replayable sequence, and many short
rounds should not pay for setting up each epoch. Both Kerases document the pieces used here: their
`train_step` and `test_step`, called in a `tf.function`, and the metrics of the model.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from tf_prac.keras_api import tf_variable
from tf_prac.training.distribution import Distribution

CALL_SECONDS = 0.2


class StepLoop:
    """Runs steps of a compiled Keras model of either flavour, each kind traced once.

    Args:
        model: a compiled model.
        distribution: of the strategy in whose scope it was made. Default: one device.
        jit_compile: whether XLA compiles each step. Default False.
    """

    def __init__(
        self, model: Any, distribution: Distribution | None = None, *, jit_compile: bool = False
    ):
        self._model = model
        self._distribution = distribution or Distribution(model.distribute_strategy)
        strategy = self._distribution.strategy
        self._train = _many_steps(strategy, model, model.train_step, jit_compile)
        self._test = _many_steps(strategy, model, model.test_step, jit_compile)
        self._steps_per_call = 8
        self._statistics = statistics(getattr(model, "network", model))

    def trace(self, batches: Iterator[Any]) -> None:
        """Compiles the training step, which makes the metrics' variables, and takes none."""
        self._train(batches, tf.constant(0))

    def train(
        self,
        batches: Iterator[Any],
        steps: int,
        advance: Callable[[int], Any] | None = None,
        pause: Callable[[], bool] | None = None,
    ) -> int:
        """Trains exactly `steps` steps, unless it is asked to pause.

        Args:
            batches: an iterator over a `tf.data.Dataset`; what it gives is used up.
            steps: how many batches to take.
            advance: called with a number of steps after each as many, about every 0.2 seconds.
            pause: asked as often; True ends it early.

        Returns:
            How many steps it took.
        """
        taken = 0
        while taken < steps:
            started = time.perf_counter()
            count = min(steps - taken, self._steps_per_call)
            self._train(batches, tf.constant(count))
            taken += count
            if advance is not None:
                advance(count)
            quick = time.perf_counter() - started < CALL_SECONDS / 2
            quick, pausing = self._distribution.any(quick, pause is not None and pause())
            if quick:
                self._steps_per_call *= 2
            if pausing:
                break
        self._distribution.average(self._statistics)
        return taken

    def evaluate(self, batches: Iterator[Any], steps: int) -> dict[str, float]:
        """Evaluates exactly `steps` batches; returns the metrics, which start anew."""
        self._model.reset_metrics()
        self._test(batches, tf.constant(steps))
        return self.results()

    def results(self) -> dict[str, float]:
        """Returns the metrics since they were last reset, and resets them."""
        found = {name: float(value) for name, value in self._model.get_metrics_result().items()}
        self._model.reset_metrics()
        return found


def statistics(network: Any) -> list[Any]:
    """Lists what each replica gathers of its own samples: moving averages of BatchNorm."""
    weights = [tf_variable(weight) for weight in network.non_trainable_weights]
    return [weight for weight in weights if weight.dtype.is_floating]


def _many_steps(
    strategy: Any, model: Any, step: Callable[[Any], Any], jit_compile: bool
) -> Callable[[Any, tf.Tensor], None]:
    if jit_compile:
        step = tf.function(step, jit_compile=True, reduce_retracing=True, autograph=False)

    @tf.function(reduce_retracing=True, autograph=False)
    def run(batches: Any, steps: tf.Tensor) -> None:
        def body(done: tf.Tensor) -> tuple[tf.Tensor]:
            with model.silent() if hasattr(model, "silent") else contextlib.nullcontext():
                strategy.run(step, args=(next(batches),))
            return (done + 1,)

        tf.while_loop(lambda done: done < steps, body, [tf.constant(0)])

    return run
