# Namespaces.
from tf_prac import analysis as analysis
from tf_prac import callbacks as callbacks
from tf_prac import data as data
from tf_prac import export as export
from tf_prac import pruning as pruning
from tf_prac import tasks as tasks
from tf_prac.version import VERSION as __version__

# Searches and tickets.
from tf_prac.analysis.comparison import Comparison as Comparison
from tf_prac.analysis.sweep import RewindSweep as RewindSweep
from tf_prac.search.result import SearchResult as SearchResult
from tf_prac.search.ticket import Ticket as Ticket
from tf_prac.search.ticket_search import TicketSearch as TicketSearch
from tf_prac.tuning.space import Range as Range
from tf_prac.tuning.tuner import PracTuner as PracTuner

# Options.
from tf_prac.config import PRAC_VARIANTS as PRAC_VARIANTS
from tf_prac.config import CheckpointConfig as CheckpointConfig
from tf_prac.config import PracConfig as PracConfig
from tf_prac.config import PruningConfig as PruningConfig
from tf_prac.config import SearchConfig as SearchConfig
from tf_prac.config import TrainingRecipe as TrainingRecipe
from tf_prac.presets import PRESETS as PRESETS
from tf_prac.presets.fast import fast as fast

# Masked models for your own `fit` or training loop.
from tf_prac.training.masked_weights import MaskedWeights as MaskedWeights
from tf_prac.training.prac_model import PracModel as PracModel
from tf_prac.training.pruned import load_model as load_model
from tf_prac.training.pruned import prune as prune
from tf_prac.training.pruned import strip as strip

# Callbacks.
from tf_prac.training.callbacks.forgetting_logger import ForgettingLogger as ForgettingLogger
from tf_prac.training.callbacks.mask_distance import MaskDistance as MaskDistance
from tf_prac.training.callbacks.rewind_checkpoint import RewindCheckpoint as RewindCheckpoint
from tf_prac.training.callbacks.sample_scores import SampleScores as SampleScores
from tf_prac.training.callbacks.sparsity_logger import SparsityLogger as SparsityLogger
from tf_prac.training.recorder import ForgettingRecorder as ForgettingRecorder
from tf_prac.training.targets import Targets as Targets

# Masks and weights.
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

# Samples and networks.
from tf_prac.data.datasets import load_dataset as load_dataset
from tf_prac.data.forgetting import ForgettingStats as ForgettingStats
from tf_prac.data.ids import with_sample_ids as with_sample_ids
from tf_prac.data.prac_set import PracSet as PracSet
from tf_prac.data.sample_set import SampleSet as SampleSet
from tf_prac.models import build_model as build_model

# Sparse SavedModels.
from tf_prac.export.load import load_sparse as load_sparse
