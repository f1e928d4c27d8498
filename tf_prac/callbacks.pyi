from tf_prac.search.callbacks import SearchCallback as SearchCallback
from tf_prac.training.callbacks.best_weights import BestWeights as BestWeights
from tf_prac.training.callbacks.forgetting_logger import ForgettingLogger as ForgettingLogger
from tf_prac.training.callbacks.mask_distance import MaskDistance as MaskDistance
from tf_prac.training.callbacks.rewind_checkpoint import RewindCheckpoint as RewindCheckpoint
from tf_prac.training.callbacks.sample_scores import SampleScores as SampleScores
from tf_prac.training.callbacks.sparsity_logger import SparsityLogger as SparsityLogger
