"""Winning lottery tickets on a fraction of the data, for Keras and TensorFlow.

Every public name is here, and is imported when it is first used, so that `import tf_prac` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tf_prac.version import VERSION as __version__

if TYPE_CHECKING:
    from tf_prac.analysis.comparison import Comparison as Comparison
    from tf_prac.analysis.sweep import RewindSweep as RewindSweep
    from tf_prac.config import PRAC_VARIANTS as PRAC_VARIANTS
    from tf_prac.config import PracConfig as PracConfig
    from tf_prac.config import PruningConfig as PruningConfig
    from tf_prac.config import TrainingRecipe as TrainingRecipe
    from tf_prac.data.datasets import load_dataset as load_dataset
    from tf_prac.data.forgetting import ForgettingStats as ForgettingStats
    from tf_prac.data.prac_set import PracSet as PracSet
    from tf_prac.data.samples import with_sample_ids as with_sample_ids
    from tf_prac.export.load import load_sparse as load_sparse
    from tf_prac.models import build_model as build_model
    from tf_prac.presets import PRESETS as PRESETS
    from tf_prac.pruning.criteria import global_magnitude as global_magnitude
    from tf_prac.pruning.criteria import layerwise_magnitude as layerwise_magnitude
    from tf_prac.pruning.criteria import random_mask as random_mask
    from tf_prac.pruning.masks import Masks as Masks
    from tf_prac.pruning.policies import PruneForLatencyOnXNNPack as PruneForLatencyOnXNNPack
    from tf_prac.pruning.sparsity_schedules import ConstantSparsity as ConstantSparsity
    from tf_prac.pruning.sparsity_schedules import PolynomialDecay as PolynomialDecay
    from tf_prac.pruning.weights import prunable_weights as prunable_weights
    from tf_prac.pruning.weights import rewind as rewind
    from tf_prac.pruning.weights import snapshot as snapshot
    from tf_prac.pruning.weights import weight_report as weight_report
    from tf_prac.search.ticket import Ticket as Ticket
    from tf_prac.search.ticket_search import SearchResult as SearchResult
    from tf_prac.search.ticket_search import TicketSearch as TicketSearch
    from tf_prac.training.callbacks.forgetting_logger import ForgettingLogger as ForgettingLogger
    from tf_prac.training.callbacks.mask_distance import MaskDistance as MaskDistance
    from tf_prac.training.callbacks.rewind_checkpoint import RewindCheckpoint as RewindCheckpoint
    from tf_prac.training.callbacks.sample_scores import SampleScores as SampleScores
    from tf_prac.training.callbacks.sparsity_logger import SparsityLogger as SparsityLogger
    from tf_prac.training.masked_weights import HeldMasks as HeldMasks
    from tf_prac.training.prac_model import PracModel as PracModel
    from tf_prac.training.pruned import load_model as load_model
    from tf_prac.training.pruned import prune as prune
    from tf_prac.training.pruned import strip as strip
    from tf_prac.training.recorder import ForgettingRecorder as ForgettingRecorder
    from tf_prac.training.targets import Targets as Targets
    from tf_prac.tuning.space import Between as Between
    from tf_prac.tuning.tuner import PracTuner as PracTuner

_MODULES = {
    "Between": "tuning.space",
    "Comparison": "analysis.comparison",
    "ConstantSparsity": "pruning.sparsity_schedules",
    "ForgettingLogger": "training.callbacks.forgetting_logger",
    "ForgettingRecorder": "training.recorder",
    "ForgettingStats": "data.forgetting",
    "HeldMasks": "training.masked_weights",
    "MaskDistance": "training.callbacks.mask_distance",
    "Masks": "pruning.masks",
    "PRAC_VARIANTS": "config",
    "PRESETS": "presets",
    "PolynomialDecay": "pruning.sparsity_schedules",
    "PracConfig": "config",
    "PracModel": "training.prac_model",
    "PracSet": "data.prac_set",
    "PracTuner": "tuning.tuner",
    "PruneForLatencyOnXNNPack": "pruning.policies",
    "PruningConfig": "config",
    "RewindCheckpoint": "training.callbacks.rewind_checkpoint",
    "RewindSweep": "analysis.sweep",
    "SampleScores": "training.callbacks.sample_scores",
    "SearchResult": "search.ticket_search",
    "SparsityLogger": "training.callbacks.sparsity_logger",
    "Targets": "training.targets",
    "Ticket": "search.ticket",
    "TicketSearch": "search.ticket_search",
    "TrainingRecipe": "config",
    "build_model": "models",
    "global_magnitude": "pruning.criteria",
    "layerwise_magnitude": "pruning.criteria",
    "load_dataset": "data.datasets",
    "load_model": "training.pruned",
    "load_sparse": "export.load",
    "prunable_weights": "pruning.weights",
    "prune": "training.pruned",
    "random_mask": "pruning.criteria",
    "rewind": "pruning.weights",
    "snapshot": "pruning.weights",
    "strip": "training.pruned",
    "weight_report": "pruning.weights",
    "with_sample_ids": "data.samples",
}

__all__ = ["__version__", "export", *_MODULES]


def __getattr__(name: str) -> Any:
    if name == "export":  # a room with public names of its own: tf_prac.export.saved_model
        return importlib.import_module("tf_prac.export")
    if name not in _MODULES:
        raise AttributeError(f"module 'tf_prac' has no attribute {name!r}")
    return getattr(importlib.import_module(f"tf_prac.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
