"""Finds a winning ticket of a regression network, on PrAC sets.

    python examples/regression_prac.py

A regression has no natural "correct". Here a prediction of scikit-learn's diabetes data is correct
if its error is smaller than that of the median for 30% of the patients.
"""

from absl import app, flags
from sklearn.datasets import load_diabetes

from tf_prac import PruningConfig, TicketSearch, TrainingRecipe
from tf_prac.errors import TfPracError
from tf_prac.keras_api import Flavor
from tf_prac.tasks import Regression

_KERAS = flags.DEFINE_string("keras", "keras", "Flavor: keras or tf_keras.")
_EPOCHS = flags.DEFINE_integer("epochs", 40, "Epochs of the dense network.")
_ROUNDS = flags.DEFINE_integer("rounds", 4, "Rounds of training and pruning.")
_OUTPUT_DIR = flags.DEFINE_string("output_dir", "runs/regression_prac", "Directory of the run.")


def main(_) -> None:
    """Runs the search; prints mean absolute errors and the saved steps."""
    keras = Flavor(_KERAS.value).module
    x, y = load_diabetes(return_X_y=True)  # disease progression, from 25 to 346
    x, y = (20 * x).astype("float32"), (y / 100).astype("float32")

    def make_model():
        layers = keras.layers
        return keras.Sequential(
            [
                keras.Input((10,)),
                layers.Dense(64, activation="relu"),
                layers.Dense(32, activation="relu"),
                layers.Dense(1),
            ]
        )

    search = TicketSearch(
        make_model,
        TrainingRecipe(epochs=_EPOCHS.value, batch_size=32, optimizer="adam", learning_rate=0.003),
        PruningConfig(rounds=_ROUNDS.value),
        task=Regression(quantile=0.3),
        directory=_OUTPUT_DIR.value,
    )
    result = search.run((x[88:], y[88:]), test=(x[:88], y[:88]))
    print(result)
    dense, ticket = result.summary["dense"], result.summary["tickets"][-1]
    print(f"dense network  mean absolute error {100 * dense['test_accuracy']:.1f}")
    error = 100 * ticket["test_accuracy"]
    print(f"ticket         mean absolute error {error:.1f} at {ticket['sparsity']:.1%} sparsity")


if __name__ == "__main__":
    try:
        app.run(main)
    except TfPracError as error:
        raise SystemExit(f"error: {error}") from None
