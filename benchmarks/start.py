"""The time of `tf-prac --help` against importing TensorFlow, as whole processes.

python benchmarks/start.py
"""

from __future__ import annotations

import subprocess
import sys

import common_flags
from absl import app
from common_flags import FLAGS
from turns import rows, table, take_turns, write

common_flags.define("output", repeats=7)

COMMANDS = {
    "import tensorflow": ["-c", "import tensorflow"],
    "tf-prac --help": ["-m", "tf_prac", "--help"],
    "tf-prac search --help": ["-m", "tf_prac", "search", "--help"],
    "import tf_prac": ["-c", "import tf_prac"],
}


def main(_) -> None:
    """Times the processes and prints the table."""

    def process(arguments):
        command = [sys.executable, *arguments]
        return lambda: subprocess.run(command, check=True, capture_output=True)

    alternatives = {name: process(arguments) for name, arguments in COMMANDS.items()}
    results = rows(take_turns(alternatives, FLAGS.repeats), "import tensorflow")
    print(table(results, "import tensorflow"))
    write(FLAGS.output, results)


if __name__ == "__main__":
    app.run(main)
