"""Finds a winning ticket on several devices: those of one machine, of several, or a TPU.

    python examples/distributed_prac.py --data_dir=DATA --strategy=mirrored
    TF_CONFIG='{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker",
    "index": 0}}' python examples/distributed_prac.py --data_dir=DATA --strategy=multi_worker

The second line runs on each machine, with an index of its own. `--strategy=mirrored --devices=2`
without a GPU uses two parts of the CPU, to try things out; `--dataset=digits` needs no data.
"""

from absl import app, flags

from tf_prac import PruningConfig, TicketSearch, TrainingRecipe, build_model, load_dataset
from tf_prac.training.distribution import make_distribution

_DATASET = flags.DEFINE_string("dataset", "mnist", "Name of the data set.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TensorFlow Datasets keeps it.")
_KERAS = flags.DEFINE_string("keras", "keras", "Flavour: keras or tf_keras.")
_STRATEGY = flags.DEFINE_string("strategy", "mirrored", "one, mirrored, multi_worker or tpu.")
_DEVICES = flags.DEFINE_integer("devices", None, "How many devices of this machine.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Samples per step, of all devices together.")
_EPOCHS = flags.DEFINE_integer("epochs", 20, "Epochs of a dense training.")
_ROUNDS = flags.DEFINE_integer("rounds", 8, "Rounds of training and pruning.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "runs/distributed", "Directory of the run.")


def main(_) -> None:
    """Runs the search; every worker gets the same result, and the chief writes it."""
    distribution = make_distribution(_STRATEGY.value, _DEVICES.value)  # before anything else
    data = load_dataset(_DATASET.value, data_dir=_DATA_DIR.value)

    def make_model():
        return build_model(
            "lenet300",
            keras=_KERAS.value,
            input_shape=data.train.input_shape,
            num_classes=data.train.num_classes,
        )

    search = TicketSearch(
        make_model,
        TrainingRecipe(epochs=_EPOCHS.value, batch_size=_BATCH_SIZE.value),
        PruningConfig(rounds=_ROUNDS.value),
        directory=_OUTPUT_DIR.value,
        strategy=distribution,
    )
    result = search.run(data.train, test=data.test)
    ticket, where = result.summary["tickets"][-1], result.summary["distribution"]
    print(f"{where['replicas']} replicas, {where['replica_batch_size']} samples a step in each")
    print(f"ticket  {ticket['test_accuracy']:.2%} at {ticket['sparsity']:.1%} sparsity")


if __name__ == "__main__":
    app.run(main)
