"""CPU time of loading SavedModels with no initializer, one, or one for each variable.

    python benchmarks/initializer.py

A sparse SavedModel decodes its weights in an initializer. TensorFlow's graph optimizer (grappler)
optimizes it at each load unless it has fewer than `min_graph_nodes` nodes (default 4). Here, a
trivial decoder sets four variables with the shapes of LeNet-300-100:

- "none": they are restored from the checkpoint alone;
- "one": one initializer sets all;
- "one, call": it consists of a call of the decoder with the optimizer switched off;
- "each, call": the same for each variable.

All take turns, with the optimizer's defaults and then with a minimum of 1,000 nodes.
"""

import tempfile
import time

import numpy as np
import tensorflow as tf
import turns
from absl import app
from common_flags import FLAGS, define
from tensorflow.core.protobuf import config_pb2

define("output", repeats=15)
_SHAPES = ((784, 300), (300, 100), (100, 10), (410,))
_KINDS = ("none", "one", "one, call", "each, call")


class Decoder(tf.saved_model.experimental.TrackableResource):
    """Sets variables when a SavedModel is loaded."""

    def __init__(self, data, variables, is_call):
        super().__init__()
        self._data, self._variables, self._is_call = data, variables, is_call
        for number, variable in enumerate((data, *variables)):
            self._track_trackable(variable, str(number))

    def _create_resource(self):
        return tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[])

    def _trackable_children(self, save_type="checkpoint", **kwargs):
        children = super()._trackable_children(save_type, **kwargs)
        return {
            n: c for n, c in children.items() if n not in ("_create_resource", "_destroy_resource")
        }

    def _decode(self, data, *handles):
        values = tf.raw_ops.ReadVariableOp(resource=data, dtype=tf.float32)
        for handle, variable in zip(handles, self._variables, strict=True):
            value = tf.reshape(values[: variable.shape.num_elements()] + 1, variable.shape)
            tf.raw_ops.AssignVariableOp(resource=handle, value=value)

    def _initialize(self):
        handles = [variable.handle for variable in (self._data, *self._variables)]
        if not self._is_call:
            self._decode(*handles)
            return
        config = config_pb2.ConfigProto()
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        decode = tf.function(
            self._decode,
            input_signature=[tf.TensorSpec([], tf.resource)] * len(handles),
            experimental_attributes={"_noinline": True},
            autograph=False,
        )
        tf.raw_ops.StatefulPartitionedCall(
            args=handles,
            Tout=[],
            f=decode.get_concrete_function(),
            config_proto=config.SerializeToString(),
        )


def save(kind, path):
    """Writes a SavedModel."""
    module = tf.Module()
    module.data = tf.Variable(tf.ones([784 * 300]))
    module.variables_ = [tf.Variable(tf.zeros(shape)) for shape in _SHAPES]
    sets = [[v] for v in module.variables_] if kind.startswith("each") else [module.variables_]
    if kind != "none":
        module.decoders = [Decoder(module.data, each, kind.endswith("call")) for each in sets]
    tf.saved_model.save(module, path)


def main(_):
    """Prints the median load times."""
    results = {}
    with tempfile.TemporaryDirectory() as directory:
        for kind in _KINDS:
            save(kind, f"{directory}/{kind}")
        loads = {k: lambda k=k: tf.saved_model.load(f"{directory}/{k}") for k in _KINDS}
        for nodes in (0, 1000):  # 0: the default
            tf.config.optimizer.set_experimental_options({"min_graph_nodes": nodes})
            seconds = turns.take_turns(loads, FLAGS.repeats, warmups=2, clock=time.process_time)
            for kind, times in seconds.items():
                milliseconds = 1e3 * float(np.median(times))
                results[f"{kind}, minimum {nodes or 4}"] = milliseconds
                print(f"{kind}, minimum of {nodes or 4} nodes: {milliseconds:.1f} ms", flush=True)
    turns.write(FLAGS.output, {"milliseconds": results})


if __name__ == "__main__":
    app.run(main)
