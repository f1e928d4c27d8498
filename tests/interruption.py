"""A training that is interrupted, and resumed from its checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tf_prac.config import CheckpointConfig
from tf_prac.training.checkpoint import Checkpoints


class Stop(Exception):
    """Interrupts a training."""


def resumed(train: Callable[..., Any], path: Any, *, after: int, every: int) -> tuple[Any, int]:
    """Interrupts a training, and trains again from its last checkpoint.

    Args:
        train: function of `advance` and `checkpoints`, which it passes to `Trainer.train`.
        path: a new directory for checkpoints.
        after: the training is interrupted once it has taken this many steps.
        every: the number of steps between checkpoints.

    Returns:
        The result, and the step at which the second training resumed.
    """
    taken = 0

    def interrupt(steps: int) -> None:
        nonlocal taken
        taken += steps
        if taken >= after:
            raise Stop

    def checkpoints() -> Checkpoints:
        options = CheckpointConfig(checkpoint_seconds=1e9, checkpoint_steps=every)
        return Checkpoints(path / "checkpoints", options, lambda line: None)

    with pytest.raises(Stop):
        train(advance=interrupt, checkpoints=checkpoints())
    counts: list[int] = []
    result = train(advance=counts.append, checkpoints=checkpoints())
    return result, counts[0]
