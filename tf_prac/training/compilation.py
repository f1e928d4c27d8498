"""Compiles the model of a trainer: its task, loss, metrics and optimizer."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import tensorflow as tf

from tf_prac.config import TrainingRecipe
from tf_prac.data.pipeline import evaluation_batches
from tf_prac.data.source import Samples
from tf_prac.errors import ArgumentError
from tf_prac.keras_api import build_metrics, compile_arguments, flavor_of, output_activations
from tf_prac.tasks.classification import OneHot, Sparse
from tf_prac.tasks.infer import as_task, infer
from tf_prac.tasks.task import Task
from tf_prac.training.distribution import Distribution
from tf_prac.training.inference import is_class_accuracy
from tf_prac.training.inputs import outputs_of
from tf_prac.training.optimizer import RewindableOptimizer
from tf_prac.training.prac_model import PracModel

OPTIMIZER_OPTIONS = (
    "optimizer",
    "learning_rate",
    "momentum",
    "weight_decay",
    "epsilon",
    "schedule",
    "momentum_form",
) + ("milestones", "decay", "final_rate", "warmup")
"""The options of a recipe that a compiled model has itself."""


def compile_model(
    model: PracModel,
    samples: Samples,
    recipe: TrainingRecipe,
    distribution: Distribution,
    task: Task | str | None = None,
) -> tuple[Task, RewindableOptimizer]:
    """Compiles a model for training on samples; returns its task and its optimizer.

    A network that is compiled keeps its loss, its metrics and the options of its optimizer.

    Args:
        model: a `PracModel`, not yet compiled.
        samples: the training set.
        recipe: how the model is trained.
        distribution: the `Distribution` of the strategy in whose scope the model was created.
        task: what labels and outputs mean, a `Task` or its name. Default None: inferred from the
            loss of a compiled network, or from integer labels.

    Raises:
        ArgumentError: If recipe, labels, outputs and the compiled network do not fit together, or
            the task cannot be inferred.
        DataError: If the labels are not those of the task, or the model cannot be called with the
            samples.
    """
    network, own = model.network, own_compile(model.network, recipe)
    optimizer = RewindableOptimizer(network, recipe, None if own is None else own["optimizer"])
    ids = np.arange(min(len(samples), 16))
    inputs, labels, *_ = next(iter(evaluation_batches(samples, ids, batch_size=len(ids))))
    outputs = outputs_of(model, inputs)
    if task is None:
        names = list(getattr(network, "output_names", None) or ())
        task = infer(None if own is None else own["loss"], labels, outputs, names)
    task = as_task(task)
    _check_task(task, samples, labels, outputs, distribution)
    task = task.resolved(samples.labels, outputs, output_activations(network))
    model.judges = _has_correct(task)
    if recipe.mixed_precision:
        _check_mixed_precision(network, outputs)
    options = dict(own or {})
    if own is None:
        smoothed = task.smoothed(recipe.label_smoothing)
        options["loss"] = smoothed.make_loss(flavor_of(network).module)
    if own is None and is_class_accuracy(task, samples):
        # Weighted, so that the padding of a batch does not count.
        options["weighted_metrics" if distribution.pads_batches else "metrics"] = [task.metric]
    else:
        model.measure(task)
        if isinstance(options.get("metrics"), (list, tuple)):
            kept = [each for each in options["metrics"] if _name(each) != task.metric]
            options["metrics"] = kept or None
        if distribution.pads_batches and options.get("metrics"):
            options["weighted_metrics"] = options.pop("metrics")
    model.compile(**{**options, "optimizer": optimizer.keras})
    build_metrics(model, inputs, outputs, labels)
    return task, optimizer


def own_compile(network: Any, recipe: TrainingRecipe) -> dict[str, Any] | None:
    """Returns the loss, metrics and optimizer of a compiled network; None if it is not compiled.

    Raises:
        ArgumentError: If the recipe sets an option of the optimizer too, or the network has its own
            training step or loss function, or runs eagerly.
    """
    compiled = compile_arguments(network)
    if compiled is None:
        return None
    default = TrainingRecipe()
    both = [name for name in OPTIMIZER_OPTIONS if getattr(recipe, name) != getattr(default, name)]
    if both:
        raise ArgumentError(
            "recipe",
            f"{', '.join(both)} for a model that is compiled with an optimizer",
            "one of the two",
            "Return the model from model_fn without compile, or leave these options out.",
        )
    if recipe.label_smoothing:
        allowed = "0 for a compiled model, which keeps its loss"
        raise ArgumentError("label_smoothing", recipe.label_smoothing, allowed)
    if compiled.get("run_eagerly"):
        raise ArgumentError("model", "compile(run_eagerly=True)", "a model that can be compiled")
    names = ("loss", "loss_weights", "metrics", "weighted_metrics", "optimizer")
    return {name: compiled[name] for name in names if compiled.get(name) is not None}


def _name(metric: Any) -> str:
    return metric if isinstance(metric, str) else getattr(metric, "name", "")


def _check_task(
    task: Task, samples: Samples, labels: Any, outputs: Any, distribution: Distribution
) -> None:
    """Checks a task against all labels, and labels and outputs of one batch."""
    task.check_labels(samples.labels)
    task.check_outputs(labels, outputs)
    has_positions = isinstance(task, (Sparse, OneHot)) and outputs.shape.rank > 2
    if distribution.pads_batches and has_positions:
        allowed = "one device for labels of positions, whose loss has no weight per sample"
        raise ArgumentError("strategy", f"{distribution.replicas} replicas", allowed)
    task.check_classes(samples.labels, outputs, samples.num_classes)


def _has_correct(task: Task) -> bool:
    """Whether the task says which samples are correct; a regression without a bound does not."""
    with contextlib.suppress(ArgumentError):
        task.check_bound()
        return True
    return False


def _check_mixed_precision(network: Any, outputs: Any) -> None:
    """Raises `ArgumentError` unless layers compute in bfloat16 and outputs are float32."""
    layers = network._flatten_layers(include_self=False)
    dtypes = {layer.compute_dtype for layer in layers if layer.weights}
    of_outputs = {each.dtype.name for each in tf.nest.flatten(outputs)}
    if "bfloat16" not in dtypes or of_outputs != {"float32"}:
        received = (
            f"layers that compute in {', '.join(sorted(dtypes))}, "
            f"outputs in {', '.join(sorted(of_outputs))}"
        )
        remedy = "Import Keras before the search, and use dtype='float32' in the last layer."
        allowed = "layers in bfloat16 and outputs in float32, for mixed_precision"
        raise ArgumentError("model", received, allowed, remedy)
