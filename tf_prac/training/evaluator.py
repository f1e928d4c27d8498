"""`Evaluator`: the loss and metrics of a network on the same samples, after each epoch."""

from __future__ import annotations

from tf_prac.data.order import steps_per_epoch
from tf_prac.data.splits import Split
from tf_prac.training.distribution import Distribution
from tf_prac.training.inference import EVALUATION_BATCH
from tf_prac.training.loop import StepLoop
from tf_prac.training.placement import DataPlacement
from tf_prac.training.precision import exact_float32


class Evaluator:
    """Evaluates a network on the same samples repeatedly, in endless passes.

    Computes without TensorFloat-32, also between the steps of a training that uses it.

    Args:
        loop: runs the evaluation steps of the model.
        split: the samples.
        distribution: the same as that of `loop`.
        placement: where the samples are.
    """

    def __init__(
        self, loop: StepLoop, split: Split, distribution: Distribution, placement: DataPlacement
    ):
        size = distribution.padded_batch_size(EVALUATION_BATCH)
        self._loop, self._steps = loop, steps_per_epoch(len(split.ids), size)
        self._batches = placement.evaluation(split, size)

    @exact_float32()
    def __call__(self) -> dict[str, float]:
        """Returns the loss and the metrics, with the network's current weights."""
        return self._loop.evaluate(self._batches, self._steps)
