"""What the benchmarks train: the library's networks, compiled the same way everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tf_prac import Masks, PracModel, build_model, prunable_weights, random_mask
from tf_prac.data.pipeline import training_batches
from tf_prac.data.source import Samples
from tf_prac.keras_api import flavour_of
from tf_prac.training.loop import StepLoop


def network_for(samples: Samples, model: str, keras: str) -> Any:
    """Returns a network of the library for some samples."""
    shape, classes = samples.input_shape, samples.num_classes
    return build_model(model, keras=keras, input_shape=shape, num_classes=classes)


def compiled(model: Any, keras: Any, steps_per_execution: int = 1) -> Any:
    """Compiles a model, with SGD and momentum, and returns it.

    Args:
        model: of either flavour.
        keras: the module of its flavour.
        steps_per_execution: of its `fit`. Default 1.
    """
    model.compile(
        optimizer=keras.optimizers.SGD(0.01, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=steps_per_execution,
        jit_compile=False,
    )
    return model


def tracked(network: Any, num_samples: int, sparsity: float = 0.8, **options: int) -> PracModel:
    """Returns a compiled `PracModel` that holds a random mask and records forgetting."""
    masks = random_mask(Masks.ones_like(prunable_weights(network)), sparsity, seed=0)
    model = PracModel(network, masks=masks, num_samples=num_samples)
    return compiled(model, flavour_of(network).module, **options)


def search_epoch(
    network: Any,
    samples: Samples,
    batch_size: int,
    *,
    ids: np.ndarray | None = None,
    augment: str = "none",
    jit_compile: bool = False,
) -> Callable[[], Any]:
    """Returns what trains one epoch more as a search does, an 80% mask held.

    Args:
        network: of `network_for`.
        samples: the training set.
        batch_size: samples per step.
        ids: the samples to train on. Default all.
        augment: augmentation. Default "none".
        jit_compile: whether XLA compiles the step. Default False.
    """
    ids = np.arange(len(samples)) if ids is None else ids
    loop = StepLoop(tracked(network, len(samples)), jit_compile=jit_compile)
    batches = iter(
        training_batches(samples, ids, batch_size=batch_size, seed=(0,), augment=augment)
    )
    return lambda: loop.train(batches, -(-len(ids) // batch_size))
