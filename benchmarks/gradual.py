"""A baseline of searches: gradual magnitude pruning in one cycle, for the steps of another search.

    python benchmarks/gradual.py COMPARISON --arm=fast --rounds=8,14,20 --data_dir=DATA

For each seed and ticket of an arm of `tf-prac compare`, trains the dense network once for as many
steps as the search took to this ticket, with an annealed learning rate, while its sparsity grows to
the ticket's. The mask that remains is put on the W_k of the run and retrained as the ticket was.
Prints rows of runs.csv, with the arm "gradual".

Sources: Zhu and Gupta 2017, "To prune, or not to prune" (the cubic schedule); Hubens et al. 2021,
"One-Cycle Pruning" (one cycle of learning rate and sparsity instead of rounds).
"""

import csv
import pathlib
import sys

import keras
from absl import app, flags

import tf_prac
from tf_prac.cli.open_run import reopen
from tf_prac.data.pipeline import training_batches
from tf_prac.data.splits import make_splits
from tf_prac.keras_api import Flavor
from tf_prac.search.cost import round_steps
from tf_prac.search.ticket import Ticket
from tf_prac.storage.run_directory import RunDirectory
from tf_prac.training.schedules import Budget, make_schedule

COLUMNS = ["arm", "seed", "round", "sparsity", "test_accuracy", "val_accuracy", "search_steps"]
COLUMNS += ["retrain_steps"]

_ARM = flags.DEFINE_string("arm", "fast", "The arm whose steps and W_k are used.")
_ROUNDS = flags.DEFINE_list("rounds", "8,14,20", "Numbers of its tickets.")
_DATA = flags.DEFINE_string("data_dir", None, "Directory of the data set.")
_EVERY = flags.DEFINE_integer("every", 50, "Steps between two prunings.")


def gradual_masks(search, data, sparsity, steps):
    """Returns the masks after one cycle of `steps` steps, with the recipe's peak rate."""
    recipe, network = search.config.recipe, search.make_network()
    schedule = make_schedule(Flavor("keras"), recipe)
    schedule.set_budget(Budget(steps, steps, annealed=1.0))
    begin, every = round(0.1 * steps), max(1, min(_EVERY.value, steps // 20))
    end = begin + every * (round(0.65 * steps) // every)  # the last update has the final sparsity
    growth = tf_prac.PolynomialDecay(0.0, sparsity, begin, end, frequency=every)
    model = tf_prac.prune(network, schedule=growth, pruning=search.config.pruning)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(schedule, momentum=recipe.momentum), loss)
    batches = training_batches(
        data.train.samples,
        data.train.ids,
        batch_size=recipe.batch_size,
        seed=(search.seed, 0, 0),
        augment=recipe.augment,
    )
    plain = batches.map(lambda x, y: (x["inputs"], y)).take(steps)
    model.fit(plain, steps_per_epoch=steps, epochs=1, verbose=0)
    return model.masks


def rows_of(path, seed):
    """Yields a row for each ticket of a run."""
    run = RunDirectory(path)
    search, splits = reopen(run, _DATA.value)
    data = make_splits(splits.train, None, splits.test, search.config.recipe, seed)
    rounds = run.summary()["rounds"]
    for number in map(int, _ROUNDS.value):
        steps = sum(round_steps(metrics) for metrics in rounds[:number])
        found = Ticket.load(run.ticket_path(number))
        masks = gradual_masks(search, data, found.sparsity, steps)
        ticket = Ticket(masks, found.weights, number, found.rewind_step, found.lr_rewind)
        network = search.make_network()
        recipe, pruning = search.config.recipe, search.config.pruning
        trained = ticket.retrain(network, splits.train, recipe=recipe, pruning=pruning, seed=seed)
        accuracy = search.evaluate(trained.best_weights, splits.test)
        values = "gradual", seed, number, ticket.sparsity, accuracy, trained.best.value, steps
        yield dict(zip(COLUMNS, (*values, trained.steps), strict=True))


def main(arguments) -> None:
    """Prints rows of all seeds of the arm."""
    writer = csv.DictWriter(sys.stdout, COLUMNS)
    writer.writeheader()
    for path in sorted(pathlib.Path(arguments[1], _ARM.value).glob("seed_*")):
        seed = int(path.name.removeprefix("seed_"))
        for row in rows_of(path, seed):
            writer.writerow(row)
            sys.stdout.flush()


if __name__ == "__main__":
    app.run(main)
