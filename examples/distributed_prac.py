"""Finds a winning ticket on several devices: of one machine, of several machines, or a TPU.

    python examples/distributed_prac.py --data_dir=DATA --strategy=mirrored
    TF_CONFIG='{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker",
    "index": 0}}' python examples/distributed_prac.py --data_dir=DATA --strategy=multi_worker

The second command runs on each machine, with the index of that machine. Without a GPU,
`--strategy=mirrored --devices=2` uses two logical CPU devices. `--dataset=digits` needs no data.
"""

from absl import app, flags, logging

from tf_prac import PruningConfig, TicketSearch, TrainingRecipe, build_model, load_dataset
from tf_prac.errors import TfPracError
from tf_prac.training.strategies import make_distribution

_DATASET = flags.DEFINE_string("dataset", "mnist", "Name of the data set.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Directory of TensorFlow Datasets.")
_KERAS = flags.DEFINE_string("keras", "keras", "Flavor: keras or tf_keras.")
_STRATEGY = flags.DEFINE_string("strategy", "mirrored", "one, mirrored, multi_worker or tpu.")
_DEVICES = flags.DEFINE_integer("devices", None, "Number of devices of this machine.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Samples per step, over all devices.")
_EPOCHS = flags.DEFINE_integer("epochs", 20, "Epochs of the dense network.")
_ROUNDS = flags.DEFINE_integer("rounds", 8, "Rounds of training and pruning.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "runs/distributed", "Directory of the run.")


def main(_) -> None:
    """Runs the search; all workers get the same result, which the chief writes."""
    logging.set_verbosity(logging.WARNING)  # TensorFlow logs each reduction over devices
    distribution = make_distribution(_STRATEGY.value, _DEVICES.value)  # before TensorFlow starts
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
    ticket, devices = result.summary["tickets"][-1], result.summary["distribution"]
    print(f"{devices['replicas']} replicas with {devices['replica_batch_size']} samples per step")
    print(f"ticket  {ticket['test_accuracy']:.2%} at {ticket['sparsity']:.1%} sparsity")


if __name__ == "__main__":
    try:
        app.run(main)
    except TfPracError as error:
        raise SystemExit(f"error: {error}") from None
