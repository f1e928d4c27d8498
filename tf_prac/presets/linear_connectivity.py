"""The experiments of "Linear Mode Connectivity and the Lottery Ticket Hypothesis".

Source: Table 1 (CIFAR-10: 63K iterations, batches of 128, the learning rate divided by 10 at 32K
and 48K) and Section 4 (rewind points from which the subnetworks are stable, and their densities).
ResNet-20 has projection shortcuts, as in the authors' code (facebookresearch/open_lth). LeNet and
the networks of ImageNet are trained as in "Stabilizing the Lottery Ticket Hypothesis"; subnetworks
of ImageNet are found in one shot.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from tf_prac.presets.preset import Preset
from tf_prac.presets.stabilizing import STABILIZING

_RECIPE: dict[str, Any] = {
    "steps": 63_000,
    "batch_size": 128,
    "momentum_form": "pytorch",
    "weight_decay": 1e-4,
    "schedule": "step",
    "milestones": (32_000 / 63_000, 48_000 / 63_000),
    "augment": "crop_flip",
}


def _preset(about: str, model: str, rounds: int, rewind: str, **changes: Any) -> Preset:
    return Preset(
        about=f"Linear Mode Connectivity, Table 1: {about}, rewound to {rewind}",
        dataset="cifar10",
        model=model,
        prac="none",
        recipe={**_RECIPE, **changes},
        pruning={"rounds": rounds, "prune_rate": 0.2, "rewind": rewind},
    )


def _as_stabilizing(name: str, about: str, **pruning: Any) -> Preset:
    """Returns an experiment of the other paper with another rewind point or density."""
    other = STABILIZING[name]
    options = {**other.pruning, **pruning}
    about = f"Linear Mode Connectivity, Table 1: {about}, rewound to {options['rewind']}"
    return dataclasses.replace(other, about=about, pruning=options)


_WARMUP = 30_000 / 63_000

LINEAR_CONNECTIVITY: dict[str, Preset] = {
    "lmc_lenet": _as_stabilizing("slth_lenet_mnist", "LeNet-300-100 on MNIST"),
    "lmc_resnet20": _preset("ResNet-20", "resnet20_projection", 8, "500it"),
    "lmc_resnet20_low": _preset(
        "ResNet-20, low learning rate", "resnet20_projection", 11, "0it", learning_rate=0.01
    ),
    "lmc_resnet20_warmup": _preset(
        "ResNet-20, warmup", "resnet20_projection", 11, "0it", learning_rate=0.03, warmup=_WARMUP
    ),
    "lmc_vgg16": _preset("VGG-16", "vgg16", 19, "1000it"),
    "lmc_vgg16_low": _preset("VGG-16, low learning rate", "vgg16", 13, "0it", learning_rate=0.01),
    "lmc_vgg16_warmup": _preset("VGG-16, warmup", "vgg16", 19, "0it", warmup=_WARMUP),
    "lmc_resnet50": _as_stabilizing(
        "slth_resnet50_imagenet", "ResNet-50 on ImageNet, one shot", rewind="5ep"
    ),
    "lmc_inception_v3": _as_stabilizing(
        "slth_inception_v3_imagenet", "Inception-v3 on ImageNet, one shot", rewind="6ep"
    ),
}
