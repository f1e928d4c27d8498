"""Finds PrAC sets with a small network, and uses them to prune another one.

    python examples/transfer_prac_set.py

A small version of Section 4.2 and Figure 4 of the PrAC paper, on the handwritten digits of
scikit-learn. The second search computes no forgetting statistics and no predictions itself.
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

_KERAS = flags.DEFINE_string("keras", "keras", "Flavor: keras or tf_keras.")
_SOURCE = flags.DEFINE_string("source", "lenet300", "Network that the sets are found with.")
_TARGET = flags.DEFINE_string("target", "conv2", "Network that is pruned with them.")
_EPOCHS = flags.DEFINE_integer("epochs", 10, "Epochs of the dense network.")
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Rounds of training and pruning.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "runs/transfer", "Directory of both runs.")


def main(_) -> None:
    """Searches twice and prints both tickets."""
    data = load_dataset("digits")

    def search(model: str, prac: PracConfig):
        return TicketSearch(
            lambda: build_model(
                model,
                keras=_KERAS.value,
                input_shape=data.train.input_shape,
                num_classes=data.train.num_classes,
            ),
            TrainingRecipe(epochs=_EPOCHS.value, learning_rate=0.05),
            PruningConfig(rounds=_ROUNDS.value, prune_rate=0.4),
            prac,
            directory=f"{_OUTPUT_DIR.value}/{model}",
            verbose=False,
        ).run(data.train, test=data.test)

    source = search(_SOURCE.value, PracConfig())
    target = search(_TARGET.value, PracConfig(prac_from=str(source.directory)))
    for model, result in ((_SOURCE.value, source), (_TARGET.value, target)):
        dense, ticket = result.summary["dense"], result.summary["tickets"][-1]
        sizes = ", ".join(str(each["prac_size"]) for each in result.summary["rounds"])
        print(f"{model}: sets of {sizes} of {result.summary['dataset']['train_samples']} samples")
        print(
            f"  dense {dense['test_accuracy']:.1%}, ticket {ticket['test_accuracy']:.1%} at "
            f"{ticket['sparsity']:.1%} sparsity, {result.summary['cost']['steps_saved']:.1%} "
            f"of steps saved, {result.summary['cost']['forward_samples']:,} samples forward only"
        )


if __name__ == "__main__":
    try:
        app.run(main)
    except TfPracError as error:
        raise SystemExit(f"error: {error}") from None
