"""The only package that knows both Keras flavors.

`keras` (Keras 3) and `tf_keras` (Keras 2, which TensorFlow Model Optimization needs) can be used
in one process. The flavor is a property of each model or layer, not of the process, and a package
is imported only when it is needed.
"""

from tf_prac.keras_api.compiled_model import build_metrics as build_metrics
from tf_prac.keras_api.compiled_model import compile_arguments as compile_arguments
from tf_prac.keras_api.compiled_model import compile_config as compile_config
from tf_prac.keras_api.compiled_model import copy_of as copy_of
from tf_prac.keras_api.compiled_model import steps_per_execution as steps_per_execution
from tf_prac.keras_api.flavor import FLAVORS as FLAVORS
from tf_prac.keras_api.flavor import Flavor as Flavor
from tf_prac.keras_api.flavor import flavor_of as flavor_of
from tf_prac.keras_api.flavor import is_model as is_model
from tf_prac.keras_api.flavor import new_network as new_network
from tf_prac.keras_api.flavor import quiet_log as quiet_log
from tf_prac.keras_api.graph import Call as Call
from tf_prac.keras_api.graph import Graph as Graph
from tf_prac.keras_api.graph import Value as Value
from tf_prac.keras_api.graph import consumers as consumers
from tf_prac.keras_api.graph import graph_of as graph_of
from tf_prac.keras_api.graph import output_activations as output_activations
from tf_prac.keras_api.graph import output_layers as output_layers
from tf_prac.keras_api.graph import producers as producers
from tf_prac.keras_api.graph import structures as structures
from tf_prac.keras_api.graph import symbolic_inputs as symbolic_inputs
from tf_prac.keras_api.layers import class_names as class_names
from tf_prac.keras_api.layers import pruning_wrappers as pruning_wrappers
from tf_prac.keras_api.layers import stable_name as stable_name
from tf_prac.keras_api.layers import unique_name as unique_name
from tf_prac.keras_api.layers import vocabulary as vocabulary
from tf_prac.keras_api.optimizers import CoupledWeightDecay as CoupledWeightDecay
from tf_prac.keras_api.optimizers import PyTorchMomentum as PyTorchMomentum
from tf_prac.keras_api.optimizers import learning_rate_of as learning_rate_of
from tf_prac.keras_api.optimizers import like_optimizer as like_optimizer
from tf_prac.keras_api.optimizers import make_optimizer as make_optimizer
from tf_prac.keras_api.optimizers import momentum_of as momentum_of
from tf_prac.keras_api.optimizers import moving_average as moving_average
from tf_prac.keras_api.random_state import random_states as random_states
from tf_prac.keras_api.random_state import reset_random_layers as reset_random_layers
from tf_prac.keras_api.random_state import seed_everything as seed_everything
from tf_prac.keras_api.weights import NamedWeight as NamedWeight
from tf_prac.keras_api.weights import named_weights as named_weights
from tf_prac.keras_api.weights import numeric as numeric
from tf_prac.keras_api.weights import tf_variable as tf_variable
from tf_prac.keras_api.weights import to_numpy as to_numpy
