"""The experiments of "Stabilizing the Lottery Ticket Hypothesis".

Source: Figure 2 (networks, iterations, batches, optimizers, schedules); pruning of LeNet layer by
layer, its output layer at half the rate, from "The Lottery Ticket Hypothesis", Appendix G. Plain
iterative magnitude pruning: every round trains on the full data for its whole budget.
"""

from __future__ import annotations

from tf_prac.presets.preset import Preset

STABILIZING: dict[str, Preset] = {
    "lenet_mnist": Preset(
        about="Stabilizing the LTH, Figure 2: LeNet-300-100 on MNIST, a winning ticket from k = 0",
        dataset="mnist",
        model="lenet300",
        prac="none",
        recipe={
            "steps": 50_000,
            "batch_size": 60,
            "optimizer": "adam",
            "learning_rate": 1.2e-3,
            "schedule": "constant",
            "validation_split": 5_000 / 60_000,
        },
        pruning={
            "rounds": 10,
            "prune_rate": 0.2,
            "layer_rates": ("output=0.1",),
            "prune_last_dense": True,
            "scope": "layerwise",
            "rewind": "0it",
        },
    ),
}
