"""The experiments of "Stabilizing the Lottery Ticket Hypothesis".

Source: Figure 2 for networks, iterations, batches, optimizers and schedules; Sections 3 and 5 for
sparsities and rewind points; "The Lottery Ticket Hypothesis", Appendix G, for layer-wise pruning of
LeNet, with its output layer at half the rate. All use plain iterative magnitude pruning: every
round trains on the full data for the full budget. The paper's "Resnet-18" on CIFAR-10 has 274K
parameters: it is ResNet-20 with projection shortcuts, `resnet20_projection`.

Figure 2 swaps two pairs of cells, which is corrected here: the milestones of the two CIFAR-10
networks (as printed, one network's milestones are after the end of its training), and optimizer
and schedule of Inception-v3 and SqueezeNet (swapped back, they match the published TPU code of both
networks; its learning rate 0.165 for a batch of 256 is 0.66 for 1024). Weight decay, augmentation
and RMSprop's epsilon are not in the paper: 1e-4 and crops with flips are from the authors' later
code, the other values from the TPU code. Label smoothing of Inception-v3 is that of its own paper
(Szegedy et al. 2016, Section 7).

SGD has PyTorch's form of momentum, which TensorFlow 1's `MomentumOptimizer` and the authors' later
code have; Adam and RMSprop ignore it.
"""

from __future__ import annotations

from typing import Any

from tf_prac.presets.preset import Preset

_ABOUT = "Stabilizing the LTH, Figure 2: "
_CIFAR: dict[str, Any] = {
    "momentum_form": "pytorch",
    "weight_decay": 1e-4,
    "augment": "crop_flip",
    "schedule": "step",
}
_RESNET = {
    **_CIFAR,
    "steps": 30_000,
    "batch_size": 128,
    "milestones": (20_000 / 30_000, 25_000 / 30_000),
}
_VGG = {
    **_CIFAR,
    "steps": 112_000,
    "batch_size": 64,
    "milestones": (56_000 / 112_000, 84_000 / 112_000),
}
_IMAGENET: dict[str, Any] = {
    "batch_size": 1024,
    "augment": "resized_crop_flip",
    "momentum_form": "pytorch",
    "validation_split": 0.0,
}


def _cifar10(
    about: str, model: str, recipe: dict[str, Any], rounds: int, rewind: str, **changes: Any
) -> Preset:
    return Preset(
        about=f"{_ABOUT}{about}, rewound to {rewind}",
        dataset="cifar10",
        model=model,
        prac="none",
        recipe={**recipe, **changes},
        pruning={"rounds": rounds, "prune_rate": 0.2, "rewind": rewind},
    )


def _imagenet(
    about: str, model: str, size: int, prune_rate: float, rewind: str, **recipe: Any
) -> Preset:
    return Preset(
        about=f"{_ABOUT}{about} on ImageNet, one shot, rewound to {rewind}",
        dataset="imagenet2012",
        image_size=size,
        model=model,
        prac="none",
        recipe={**_IMAGENET, **recipe},
        pruning={"rounds": 1, "prune_rate": prune_rate, "rewind": rewind},
    )


STABILIZING: dict[str, Preset] = {
    "slth_lenet_mnist": Preset(
        about=f"{_ABOUT}LeNet-300-100 on MNIST, rewound to 0it",
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
    "slth_resnet20_cifar10": _cifar10(
        "ResNet-20 on CIFAR-10", "resnet20_projection", _RESNET, 8, "500it"
    ),
    "slth_resnet20_cifar10_low": _cifar10(
        "ResNet-20, low learning rate", "resnet20_projection", _RESNET, 8, "0it", learning_rate=0.01
    ),
    "slth_resnet20_cifar10_warmup": _cifar10(
        "ResNet-20, warmup",
        "resnet20_projection",
        _RESNET,
        8,
        "0it",
        learning_rate=0.03,
        warmup=20_000 / 30_000,
    ),
    "slth_vgg19_cifar10": _cifar10("VGG-19 on CIFAR-10", "vgg19", _VGG, 17, "100it"),
    "slth_vgg19_cifar10_low": _cifar10(
        "VGG-19, low learning rate", "vgg19", _VGG, 17, "100it", learning_rate=0.01
    ),
    "slth_vgg19_cifar10_warmup": _cifar10(
        "VGG-19, warmup", "vgg19", _VGG, 17, "0it", warmup=10_000 / 112_000
    ),
    "slth_resnet50_imagenet": _imagenet(
        "ResNet-50",
        "resnet50",
        224,
        0.7,
        "4ep",
        epochs=90,
        learning_rate=0.4,
        weight_decay=1e-4,
        milestones=(30 / 90, 60 / 90, 80 / 90),
        warmup=5 / 90,
    ),
    "slth_inception_v3_imagenet": _imagenet(
        "Inception-v3",
        "inception_v3",
        299,
        0.7,
        "6ep",
        epochs=171,
        optimizer="rmsprop",
        learning_rate=0.66,
        epsilon=1.0,
        label_smoothing=0.1,
        weight_decay=4e-5,
        schedule="exponential",
        decay=1e-4,
    ),
    "slth_squeezenet_imagenet": _imagenet(
        "SqueezeNet",
        "squeezenet",
        224,
        0.5,
        "10ep",
        epochs=150,
        learning_rate=0.03,
        weight_decay=2e-4,
        schedule="linear",
        final_rate=0.005,
    ),
}
