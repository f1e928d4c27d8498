"""The experiments of "Efficient Lottery Ticket Finding: Less Data is More" (PrAC).

Source: Table 1, Section 4 and Appendix A1: SGD with momentum 0.9 and weight decay 1e-4, 182 epochs,
the learning rate divided by 10 at epochs 91 and 136, crops and flips, 10% of the training set held
out, 20% pruned per round, rewinding to the third epoch. Momentum has PyTorch's form, as in the
authors' code.
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
    "momentum_form": "pytorch",
    "weight_decay": 1e-4,
    "schedule": "step",
    "milestones": (91 / 182, 136 / 182),
    "augment": "crop_flip",
}
_PRUNING: dict[str, Any] = {"rounds": 15, "prune_rate": 0.2, "rewind": "3ep"}

_NETWORKS = {"resnet20": "ResNet-20", "resnet56": "ResNet-56", "vgg16": "VGG-16"}
_DATASETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}


def _preset(
    about: str, dataset: str, model: str, recipe: dict[str, Any], pruning: dict[str, Any]
) -> Preset:
    return Preset(
        about=f"PrAC paper, Table 1: {about}",
        dataset=dataset,
        model=model,
        recipe={**_RECIPE, **recipe},
        pruning={**_PRUNING, **pruning},
    )


def _cifar() -> dict[str, Preset]:
    """All networks at learning rate 0.1; from W_0, ResNets at 0.01, and with warmup at 0.03."""
    presets = {}
    for dataset, data_name in _DATASETS.items():
        for model, name in _NETWORKS.items():
            title = f"{name} on {data_name}"
            presets[f"{dataset}_{model}"] = _preset(
                f"{title}, learning rate 0.1", dataset, model, {}, {}
            )
            if model != "vgg16":
                low = {"learning_rate": 0.01}
                presets[f"{dataset}_{model}_low"] = _preset(
                    f"{title}, learning rate 0.01, rewound to W_0",
                    dataset,
                    model,
                    low,
                    {"rewind": "0it"},
                )
        for model in ("resnet20", "resnet56"):  # Table 1 leaves the cell of ResNet-56 blank
            presets[f"{dataset}_{model}_warmup"] = _preset(
                f"{_NETWORKS[model]} on {data_name}, learning rate 0.03 after 15 epochs of warmup, "
                "W_0",
                dataset,
                model,
                {"learning_rate": 0.03, "warmup": 15 / 182},
                {"rewind": "0it"},
            )
    return presets


PRAC_PAPER = {
    **_cifar(),
    **{
        f"tiny_imagenet_{model}": _preset(
            f"{name} on Tiny-ImageNet, learning rate 0.1, batches of 512",
            "tiny_imagenet",
            model,
            {"batch_size": 512},
            {},
        )
        for model, name in {"resnet18": "ResNet-18", "vgg16": "VGG-16"}.items()
    },
}
