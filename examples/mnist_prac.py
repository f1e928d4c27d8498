"""Finds a winning ticket of LeNet-300-100 on MNIST, on PrAC sets.

    python examples/mnist_prac.py --data_dir=DATA

DATA is the directory of TensorFlow Datasets with MNIST. `--dataset=digits` needs no data.
"""

from absl import app, flags

from tf_prac import (
    PracConfig,
    PruningConfig,
    TicketSearch,
    TrainingRecipe,
    build_model,
    load_dataset,
)
from tf_prac.errors import TfPracError

_DATASET = flags.DEFINE_string("dataset", "mnist", "Name of the data set.")
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Directory of TensorFlow Datasets.")
_KERAS = flags.DEFINE_string("keras", "keras", "Flavor: keras or tf_keras.")
_EPOCHS = flags.DEFINE_integer("epochs", 20, "Epochs of the dense network.")
_ROUNDS = flags.DEFINE_integer("rounds", 8, "Rounds of training and pruning.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "runs/mnist_prac", "Directory of the run.")


def main(_) -> None:
    """Runs the search; prints accuracies and saved steps."""
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
        TrainingRecipe(epochs=_EPOCHS.value),
        PruningConfig(rounds=_ROUNDS.value),
        PracConfig(early_stop_eps=0.07),
        directory=_OUTPUT_DIR.value,
    )
    result = search.run(data.train, test=data.test)
    dense, ticket = result.summary["dense"], result.summary["tickets"][-1]
    print(f"dense network  {dense['test_accuracy']:.2%} on the test set")
    print(f"ticket         {ticket['test_accuracy']:.2%} at {ticket['sparsity']:.1%} sparsity")
    print(f"search steps   {result.summary['cost']['steps_saved']:.1%} saved")


if __name__ == "__main__":
    try:
        app.run(main)
    except TfPracError as error:
        raise SystemExit(f"error: {error}") from None
