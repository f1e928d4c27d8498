"""Paired differences between arms of comparisons, with their 95% intervals and a verdict.

    python benchmarks/paired.py docs/results/fast_mnist_runs.csv docs/results/prac_mnist_runs.csv

Reads the runs.csv that `tf-prac compare` writes. Arms of several comparisons can be compared if
they have the same data, network, recipe and rewind point: with the same seed, they then have the
same initial weights, split and data order. An arm is as good as another if the whole interval of
the difference in test accuracy is above -margin, and different if the interval excludes 0.
"""

import csv

from absl import app, flags

from tf_prac.analysis.paired import PairedDifference
from tf_prac.tables import text_table

_ARMS = flags.DEFINE_list("arms", "fast", "Arms to compare with each of the references.")
_REFERENCES = flags.DEFINE_list("references", "", "Default: all other arms.")
_MARGIN = flags.DEFINE_float("margin", 0.5, "Margin of the verdict, in points.")


def read(paths):
    """Returns {(arm, round): {seed: row}}; numbers are floats."""
    results = {}
    for path in paths:
        with open(path, newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                results.setdefault((row["arm"], int(row["round"])), {})[int(row["seed"])] = row
    return results


def accuracies(rows):
    """Returns the test accuracies by seed, in percent."""
    return {seed: 100 * float(row["test_accuracy"]) for seed, row in rows.items()}


def verdict(found):
    """Returns what the interval of a difference says, as text."""
    if found.low is None:
        return "one seed"
    if found.low > 0 or found.high < 0:
        different = "better" if found.low > 0 else "worse"
    else:
        different = "not different"
    matched = found.at_least(-_MARGIN.value)
    return f"{different}; {'as good' if matched else 'not shown to be as good'}"


def main(arguments) -> None:
    """Prints a table."""
    results = read(arguments[1:])
    table = [("arm", "sparsity", "reference", "steps", "difference", "95% interval", "verdict")]
    for (arm, number), rows in sorted(results.items(), key=lambda item: item[0]):
        if arm not in _ARMS.value or not number:
            continue
        for (other, other_number), other_rows in results.items():
            if other == arm or other_number != number:
                continue
            if _REFERENCES.value != [""] and _REFERENCES.value and other not in _REFERENCES.value:
                continue
            found = PairedDifference.of(accuracies(rows), accuracies(other_rows))
            if found is None:
                continue
            steps, other_steps = (
                sum(int(row["search_steps"]) for row in each.values()) / len(each)
                for each in (rows, other_rows)
            )
            interval = "" if found.low is None else f"[{found.low:+.2f}, {found.high:+.2f}]"
            sparsity = float(next(iter(rows.values()))["sparsity"])
            table.append(
                (
                    arm,
                    f"{sparsity:.2%}",
                    other,
                    f"{steps:,.0f} / {other_steps:,.0f}",
                    f"{found.mean:+.2f}",
                    interval,
                    verdict(found),
                )
            )
    print(text_table(table))


if __name__ == "__main__":
    app.run(main)
