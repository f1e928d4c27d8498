"""Finds a winning ticket of ResNet-20 on CIFAR-10, as the PrAC paper does.

    python examples/cifar10_prac.py --data_dir=DATA --epochs=30 --rounds=4

DATA is the directory of TensorFlow Datasets with CIFAR-10. The defaults are the paper's 182 epochs
and 15 rounds, which need a GPU. An interrupted run resumes with the same command.
"""

from absl import app, flags

from tf_prac import (
    PRESETS,
    PracConfig,
    PruningConfig,
    TicketSearch,
    TrainingRecipe,
    build_model,
    load_dataset,
)
from tf_prac.errors import TfPracError

_PRESET = PRESETS["cifar10_resnet20"]
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Directory of TensorFlow Datasets.")
_KERAS = flags.DEFINE_string("keras", "keras", "Flavor: keras or tf_keras.")
_MODEL = flags.DEFINE_string("model", _PRESET.model, "Name of the network.")
_EPOCHS = flags.DEFINE_integer("epochs", _PRESET.recipe["epochs"], "Epochs of the dense network.")
_ROUNDS = flags.DEFINE_integer("rounds", _PRESET.pruning["rounds"], "Rounds of the search.")
_LIMIT = flags.DEFINE_integer("limit_train", None, "Use only the first n training samples.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "runs/cifar10_prac", "Directory of the run.")


def main(_) -> None:
    """Runs the search; prints its rounds, accuracies and saved steps."""
    data = load_dataset("cifar10", data_dir=_DATA_DIR.value, limit_train=_LIMIT.value)

    def make_model():
        return build_model(
            _MODEL.value,
            keras=_KERAS.value,
            input_shape=data.train.input_shape,
            num_classes=data.train.num_classes,
        )

    rewind = _PRESET.pruning["rewind"] if _EPOCHS.value > 3 else "2%"
    search = TicketSearch(
        make_model,
        TrainingRecipe(**{**_PRESET.recipe, "epochs": _EPOCHS.value}),
        PruningConfig(**{**_PRESET.pruning, "rounds": _ROUNDS.value, "rewind": rewind}),
        PracConfig(**_PRESET.options),
        directory=_OUTPUT_DIR.value,
    )
    summary = search.run(data.train, test=data.test).summary
    print("round  sparsity  samples   steps")
    for metrics in summary["rounds"]:
        print(
            f"{metrics['round']:5}  {metrics['sparsity']:8.1%}  {metrics['train_samples']:7,}"
            f"  {metrics['steps']:6,}"
        )
    dense, ticket = summary["dense"], summary["tickets"][-1]
    print(f"dense network  {dense['test_accuracy']:.2%} on the test set")
    print(f"ticket         {ticket['test_accuracy']:.2%} at {ticket['sparsity']:.1%} sparsity")
    print(f"search steps   {summary['cost']['steps_saved']:.1%} saved")


if __name__ == "__main__":
    try:
        app.run(main)
    except TfPracError as error:
        raise SystemExit(f"error: {error}") from None
