"""The networks and the training loop that the benchmarks measure, compiled in one way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from common_flags import FLAGS

from tf_prac import Masks, PracModel, build_model, prunable_weights, random_mask
from tf_prac.data.source import Samples
from tf_prac.keras_api import flavor_of
from tf_prac.training.distribution import Distribution
from tf_prac.training.loop import StepLoop
from tf_prac.training.placement import DataPlacement


def network_for(samples: Samples, model: str = "", keras: str = "") -> Any:
    """Builds a network of the library for some samples.

    Args:
        samples: provide the input shape and the number of classes.
        model: name of the network. By default that of the flag.
        keras: flavor. By default that of the flag.
    """
    return build_model(
        model or FLAGS.model,
        keras=keras or FLAGS.keras,
        input_shape=samples.input_shape,
        num_classes=samples.num_classes,
    )


def compiled(model: Any, steps_per_execution: int = 1) -> Any:
    """Compiles a model of either flavor with SGD and momentum, and returns it."""
    keras = flavor_of(model).module
    model.compile(
        optimizer=keras.optimizers.SGD(0.01, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        steps_per_execution=steps_per_execution,
        jit_compile=False,
    )
    return model


def tracked(network: Any, num_samples: int, sparsity: float = 0.8, **options: int) -> PracModel:
    """Returns a compiled `PracModel` with a random mask that records forgetting events."""
    masks = random_mask(Masks.ones_like(prunable_weights(network)), sparsity, seed=0)
    return compiled(PracModel(network, masks=masks, num_samples=num_samples), **options)


def search_epoch(
    network: Any,
    samples: Samples,
    batch_size: int,
    *,
    ids: np.ndarray | None = None,
    augment: str = "none",
    jit_compile: bool = False,
    data_placement: str = "auto",
) -> Callable[[], Any]:
    """Returns a function that trains one more epoch with the loop of a search and an 80% mask.

    Args:
        network: of `network_for`.
        samples: the training set.
        batch_size: samples per step.
        ids: the samples to train on. By default all.
        augment: augmentation. Default "none".
        jit_compile: whether XLA compiles the loop. Default False.
        data_placement: where the samples are. Default "auto".
    """
    ids = np.arange(len(samples)) if ids is None else ids
    loop = StepLoop(tracked(network, len(samples)), jit_compile=jit_compile)
    placement = DataPlacement(Distribution(), data_placement)
    placement.jit_compile = jit_compile
    batches = placement.training(
        samples,
        ids,
        batch_size=batch_size,
        seed=(0,),
        augment=augment,
    )
    return lambda: loop.train(batches, -(-len(ids) // batch_size))
