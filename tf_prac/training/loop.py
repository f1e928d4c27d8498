"""`StepLoop`: a training and evaluation loop that counts in steps.

`fit` counts in epochs of one data set. A search needs steps: W_k is the state after k steps, also
in the middle of an epoch; the data of a round is one long replayable sequence; and the overhead
that `fit` has in each epoch would dominate short rounds. The loop uses what both Kerases document:
calling `train_step` and `test_step` in a `tf.function`, and the metrics of the model.
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
"""Target duration of one call of the compiled function, which takes several steps."""


class StepLoop:
    """Runs training and evaluation steps of a compiled Keras model of either flavour.

    Each of the two steps is traced once.

    Args:
        model: a compiled model.
        distribution: the `Distribution` of the strategy in whose scope the model was created.
            Default None: that of `model.distribute_strategy`.
        jit_compile: whether to compile each step with XLA. Default False.
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
        self._replica_averages = replica_averages(getattr(model, "network", model))

    def trace(self, batches: Iterator[Any]) -> None:
        """Traces the training step without taking a step; this creates the metrics' variables."""
        self._train(batches, tf.constant(0))

    def train(
        self,
        batches: Iterator[Any],
        steps: int,
        advance: Callable[[int], Any] | None = None,
        should_pause: Callable[[], bool] | None = None,
    ) -> int:
        """Trains for exactly `steps` steps, or fewer if `should_pause` returns True.

        Args:
            batches: an iterator over a `tf.data.Dataset`; one batch is consumed per step.
            steps: the number of steps.
            advance: called about every 0.2 seconds, with the number of steps since the last call.
            should_pause: called as often; if it returns True, training stops early.

        Returns:
            The number of steps taken.
        """
        taken = 0
        while taken < steps:
            start = time.perf_counter()
            count = min(steps - taken, self._steps_per_call)
            self._train(batches, tf.constant(count))
            taken += count
            if advance is not None:
                advance(count)
            is_short = time.perf_counter() - start < CALL_SECONDS / 2
            is_short, pause = self._distribution.any_worker(
                is_short, should_pause is not None and should_pause()
            )
            if is_short:
                self._steps_per_call *= 2
            if pause:
                break
        self._distribution.average(self._replica_averages)
        return taken

    def evaluate(self, batches: Iterator[Any], steps: int) -> dict[str, float]:
        """Resets the metrics and returns them after exactly `steps` evaluation steps."""
        self._model.reset_metrics()
        self._test(batches, tf.constant(steps))
        return self.results()

    def results(self) -> dict[str, float]:
        """Returns the metrics since their last reset, and resets them."""
        metrics = {name: float(value) for name, value in self._model.get_metrics_result().items()}
        self._model.reset_metrics()
        return metrics


def replica_averages(network: Any) -> list[Any]:
    """Returns the variables that each replica updates from its own samples.

    These are the moving averages of BatchNorm.
    """
    weights = [tf_variable(weight) for weight in network.non_trainable_weights]
    return [weight for weight in weights if weight.dtype.is_floating]


def _many_steps(
    strategy: Any, model: Any, step: Callable[[Any], Any], jit_compile: bool
) -> Callable[[Any, tf.Tensor], None]:
    """Returns a compiled function that takes a number of steps, from batches and that number."""
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
