"""Why are tickets of short searches worse? Tickets with masks that differ in one respect each.

    python benchmarks/short_masks.py RUN --round=7 --data_dir=DATA --output=short_masks.csv

RUN is a finished search on the full data, such as RUNS/imp/seed_0 of `tf-prac compare`. From its
W_k, the dense network is trained to 56% of the recipe's steps, once with a falling learning rate,
once at the rate of step k. Masks of the sparsity of ticket `--round` are found from these networks
in several ways, put on W_k, and trained as the ticket was. Prints and writes one row for each, with
the part of the kept weights that the ticket keeps, too. Rows that are in the file are not trained
again.

Sources: Zhou et al. 2019, "Deconstructing Lottery Tickets" (mask criteria, Section 3); Izmailov et
al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization".
"""

import csv
import dataclasses
import pathlib
import sys

import numpy as np
from absl import app, flags

from tf_prac.cli.open_run import model_function, reopen, reopen_data
from tf_prac.data.splits import make_splits
from tf_prac.pruning.criteria import prune_to, random
from tf_prac.pruning.masks import Masks
from tf_prac.search.ticket import SEARCH_ORDER, Ticket
from tf_prac.storage.run_directory import RunDirectory
from tf_prac.training.schedules import Budget
from tf_prac.training.trainer import Trainer

COLUMNS = ["mask", "seed", "sparsity", "test_accuracy", "test_accuracy_last", "shared_with_ticket"]

_ROUND = flags.DEFINE_integer("round", 7, "Number of the ticket to compare with.")
_PART = flags.DEFINE_float("part", 0.56, "Steps of a short dense training, part of the recipe's.")
_DATA = flags.DEFINE_string("data_dir", None, "Directory of the data set.")
_OUTPUT = flags.DEFINE_string("output", "short_masks.csv", "File of the rows.")


class Lab:
    """Trains dense networks and tickets from the W_k of a finished run."""

    def __init__(self, path):
        run = RunDirectory(path)
        search, splits = reopen(run, _DATA.value, verbose=False)
        self.seed, self.ticket = search.seed, Ticket.load(run.ticket_path(_ROUND.value))
        settings, _ = reopen_data(run, _DATA.value)
        recipe, pruning = self.ticket.recipe, self.ticket.pruning
        self.data = make_splits(splits.train, None, splits.test, recipe, self.seed)
        samples, validation = self.data.train.samples, self.data.validation
        network = model_function(settings, splits)()
        self.trainer = Trainer(network, recipe, samples, validation, pruning)
        self.full = Budget.full(recipe, len(self.data.train.ids))
        self.steps = round(_PART.value * self.full.total_steps)

    def dense(self, **schedule):
        """Trains the dense network from W_k to `steps` steps in all."""
        first = self.ticket.rewind_step
        budget = dataclasses.replace(self.full, first_step=first, **schedule)
        dense = Masks.ones_like(self.ticket.masks)
        order = (self.seed, SEARCH_ORDER, 0)
        return self.trainer.train(self.ticket.weights, dense, self.data.train.ids, budget, order)

    def row(self, name, masks):
        """Trains the ticket with other masks, and returns its row."""
        ticket = dataclasses.replace(self.ticket, masks=masks)
        trained = ticket.train_with(self.trainer, self.data, self.seed)
        accuracies = []
        for weights in (trained.best_weights, trained.weights):
            self.trainer.load(weights, masks)
            accuracies.append(self.trainer.predictor.measure(self.data.test))
        shared = sum(int((mask & self.ticket.masks[n]).sum()) for n, mask in masks.items())
        kept = round((1 - masks.sparsity) * masks.size)
        values = name, self.seed, masks.sparsity, *accuracies, shared / kept
        return dict(zip(COLUMNS, values, strict=True))


def keep_highest(scores, like, layerwise=False):
    """Returns masks of the highest scores, with the sparsity of `like`, of each layer or of all."""
    if not layerwise:
        return prune_to(scores, Masks.ones_like(like), like.sparsity)
    chosen = {}
    for name, mask in like.items():
        alone = {name: scores[name]}
        chosen |= prune_to(alone, Masks.ones_like(alone), 1 - mask.mean()).items()
    return Masks(chosen)


def masks_of(lab):
    """Yields the name of each mask, and the mask."""
    like, w_k = lab.ticket.masks, lab.ticket.weights
    falling = lab.dense(total_steps=lab.steps, annealed=1.0).weights
    k = lab.ticket.rewind_step
    at_peak = lab.dense(limit=lab.steps - k, held_from=k, averages=True)
    magnitude = {name: np.abs(falling[name]) for name in like}
    initial = {name: np.abs(w_k[name]) for name in like}
    noise = random({name: w_k[name] for name in like})
    movement = {name: np.abs(falling[name] - w_k[name]) for name in like}
    increase = {name: magnitude[name] - initial[name] for name in like}
    last = {name: np.abs(at_peak.weights[name]) for name in like}
    average = {name: np.abs(at_peak.averaged[name]) for name in like}
    yield "random, with the ticket's layer densities", keep_highest(noise, like, True)
    yield "magnitude of W_k", keep_highest(initial, like)
    yield "falling rate: magnitude", keep_highest(magnitude, like)
    yield (
        "falling rate: magnitude, with the ticket's layer densities",
        keep_highest(magnitude, like, True),
    )
    yield "falling rate: movement from W_k", keep_highest(movement, like)
    yield "falling rate: increase of the magnitude since W_k", keep_highest(increase, like)
    yield "rate of step k: magnitude", keep_highest(last, like)
    yield "rate of step k: magnitude of the average", keep_highest(average, like)


def main(argv):
    """Trains the tickets that are not in the file."""
    lab, output = Lab(argv[1]), pathlib.Path(_OUTPUT.value)
    rows = list(csv.DictReader(output.open())) if output.exists() else []
    done = {(row["mask"], int(row["seed"])) for row in rows}
    writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for name, masks in masks_of(lab):
        if (name, lab.seed) in done:
            continue
        rows.append(lab.row(name, masks))
        writer.writerow(rows[-1])
        with output.open("w", newline="") as file:
            table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            table.writeheader()
            table.writerows(rows)


if __name__ == "__main__":
    app.run(main)
