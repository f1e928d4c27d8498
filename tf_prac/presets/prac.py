"""The experiments of "Efficient Lottery Ticket Finding: Less Data is More" (PrAC).

Source: Table 1, Section 4 and Appendix A1: SGD with momentum 0.9 and weight decay 1e-4, 182 epochs,
the learning rate divided by 10 at epochs 91 and 136, crops and flips, a tenth of the training set
held out, 20% pruned a round, rewinding to the third epoch.
"""

from __future__ import annotations

from typing import Any

from tf_prac.presets.preset import Preset

_RECIPE: dict[str, Any] = {
    "epochs": 182,
    "batch_size": 128,
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "schedule": "step",
    "milestones": (91 / 182, 136 / 182),
    "augment": "crop_flip",
}
_PRUNING: dict[str, Any] = {"rounds": 15, "prune_rate": 0.2, "rewind": "3ep"}

PRAC_PAPER = {
    "cifar10_resnet20": Preset(
        about="PrAC paper, Table 1: ResNet-20 on CIFAR-10, learning rate 0.1",
        dataset="cifar10",
        model="resnet20",
        recipe=_RECIPE,
        pruning=_PRUNING,
    ),
}
