"""How time and memory of a search grow with data, network and rounds, with a projection.

    python benchmarks/scale.py --dataset=mnist --data_dir=DATA --output=DIR

Each search runs in a new process: a PrAC search of LeNet-300-100 without retraining, with one of
the three sizes changed at a time. A power law is fitted to each by least squares on logarithms:
power 1 is proportional. Writes scale.json, scale.csv and a figure.

Then projects the time for ImageNet and ResNet-50 on eight GPUs from the throughput of plain
training, --images_per_second. The saving of PrAC there is unknown, so the projection is shown
without saving and with the saving measured here.
"""

from __future__ import annotations

import json
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

import common_flags
import numpy as np
from absl import app, flags
from common_flags import FLAGS

from tf_prac.storage.files import write_csv

common_flags.define("dataset", "data_dir", epochs=5)
_OUTPUT = flags.DEFINE_string("output", "scale", "Directory to write to.")
_SAMPLES = flags.DEFINE_list("samples", "10000,20000,40000", "Training samples.")
_WIDTHS = flags.DEFINE_list("widths", "1,2,4", "Factors for the widths of LeNet's layers.")
_ROUNDS = flags.DEFINE_list("rounds", "3,6,12", "Rounds.")
_IMAGES_PER_SECOND = flags.DEFINE_float(
    "images_per_second", 20_000.0, "Throughput of ResNet-50 on eight GPUs, plain training."
)
_ONE = flags.DEFINE_list("one", None, "Internal: samples, width and rounds of one search.")

AXES = ("samples", "weights", "rounds")
MEASURES = ("seconds", "megabytes", "steps")
IMAGENET, EPOCHS_IMAGENET, ROUNDS_IMAGENET = 1_281_167, 90, 10


def search(samples: int, width: int, rounds: int) -> dict[str, float]:
    """Runs and measures one search in this process."""
    import keras

    from tf_prac import PruningConfig, TicketSearch, TrainingRecipe, load_dataset

    train = load_dataset(FLAGS.dataset, data_dir=FLAGS.data_dir, limit_train=samples).train

    def model_fn():
        layers = [keras.Input(train.input_shape), keras.layers.Flatten()]
        layers += [keras.layers.Dense(width * n, activation="relu") for n in (300, 100)]
        return keras.Sequential([*layers, keras.layers.Dense(train.num_classes)])

    with tempfile.TemporaryDirectory() as directory:
        ticket_search = TicketSearch(
            model_fn,
            TrainingRecipe(epochs=FLAGS.epochs),
            PruningConfig(rounds=rounds),
            directory=f"{directory}/run",
            retrain="none",
            verbose=False,
        )
        started = time.perf_counter()
        result = ticket_search.run(train)
        seconds = time.perf_counter() - started
    return {
        "samples": samples,
        "weights": result.tickets[0].masks.size,
        "rounds": rounds,
        "seconds": seconds,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "steps": result.summary["cost"]["search_steps"],
        "saved": result.summary["cost"]["steps_saved"],
    }


def in_process(samples: int, width: int, rounds: int) -> dict[str, float]:
    """Runs one search in a new process."""
    flag = f"--one={samples},{width},{rounds}"
    command = [sys.executable, __file__, *sys.argv[1:], flag]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def power(rows: list[dict[str, float]], axis: str, measure: str) -> float:
    """Returns the exponent p of measure ~ axis ** p."""
    x, y = ([np.log(row[name]) for row in rows] for name in (axis, measure))
    return float(np.polyfit(x, y, 1)[0])


def projection(saved: float) -> dict[str, float]:
    """Returns the days of a search on ImageNet, from the throughput of the flag."""
    round_days = IMAGENET * EPOCHS_IMAGENET / _IMAGES_PER_SECOND.value / 86_400
    full = ROUNDS_IMAGENET * round_days
    return {
        "images_per_second": _IMAGES_PER_SECOND.value,
        "days_of_one_round_on_everything": round_days,
        "days_of_plain_search": full,
        "days_if_as_much_is_saved_as_here": full * (1 - saved),
        "days_of_cep_passes": ROUNDS_IMAGENET * IMAGENET / (3 * _IMAGES_PER_SECOND.value) / 86_400,
        "megabytes_of_statistics_each_device": IMAGENET * 16 / 2**20,
    }


def draw(results: dict[str, list[dict[str, float]]], path: pathlib.Path) -> None:
    """Draws seconds and memory against each size."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    for row, measure in enumerate(("seconds", "megabytes")):
        for column, axis in enumerate(AXES):
            axes = figure.add_subplot(2, 3, row * 3 + column + 1)
            x, y = ([each[name] for each in results[axis]] for name in (axis, measure))
            axes.plot(x, y, "o-", color="#2b6cb0")
            axes.set(xlabel=axis, ylabel=measure, ylim=(0, 1.1 * max(y)), xscale="log")
            axes.set_xticks(x, [f"{value:,.0f}" for value in x])
            axes.minorticks_off()
            axes.set_title(f"power {power(results[axis], axis, measure):z.1f}", fontsize=9)
    figure.savefig(path)


def main(_) -> None:
    """Runs the searches, and writes and prints their time and memory."""
    if _ONE.value:
        print(json.dumps(search(*map(int, _ONE.value))))
        return
    samples, widths, rounds = (
        [int(value) for value in flag.value] for flag in (_SAMPLES, _WIDTHS, _ROUNDS)
    )
    middle = samples[len(samples) // 2], widths[0], rounds[len(rounds) // 2]
    grid = {
        "samples": [(n, *middle[1:]) for n in samples],
        "weights": [(middle[0], width, middle[2]) for width in widths],
        "rounds": [(*middle[:2], count) for count in rounds],
    }
    sizes = sorted({size for along in grid.values() for size in along})
    done = {size: in_process(*size) for size in sizes}
    results = {axis: [done[size] for size in along] for axis, along in grid.items()}
    powers = {a: {m: power(results[a], a, m) for m in MEASURES} for a in AXES}
    for axis in AXES:
        print(f"\n{axis:>10}" + "".join(f"{m:>12}" for m in MEASURES))
        for row in results[axis]:
            print(f"{row[axis]:>10,}" + "".join(f"{row[m]:>12,.1f}" for m in MEASURES))
        print(f"{'power':>10}" + "".join(f"{powers[axis][m]:>12.2f}" for m in MEASURES))
    projected = projection(done[middle]["saved"])
    print("\nImageNet, ResNet-50, ten rounds of 90 epochs, eight GPUs (projected, not measured)")
    for name, value in projected.items():
        print(f"{name.replace('_', ' '):<40}{value:>12,.2f}")
    path = pathlib.Path(_OUTPUT.value)
    path.mkdir(parents=True, exist_ok=True)
    write_csv(path / "scale.csv", list(done.values()))
    content = {"rows": results, "powers": powers, "projection": projected}
    (path / "scale.json").write_text(json.dumps(content, indent=2) + "\n")
    draw(results, path / "scale.png")


if __name__ == "__main__":
    app.run(main)
