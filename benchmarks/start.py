"""How long `tf-prac --help` takes, against importing TensorFlow, as whole processes.

python benchmarks/start.py
"""

from __future__ import annotations

import subprocess
import sys

from absl import app, flags
from turns import rows, table, take_turns, write

_REPEATS = flags.DEFINE_integer("repeats", 7, "Turns after one to warm up.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")

COMMANDS = {
    "import tensorflow": ["-c", "import tensorflow"],
    "tf-prac --help": ["-m", "tf_prac", "--help"],
    "tf-prac search --help": ["-m", "tf_prac", "search", "--help"],
    "import tf_prac": ["-c", "import tf_prac"],
}


def main(_) -> None:
    """Times the processes, and prints the table."""

    def process(arguments):
        command = [sys.executable, *arguments]
        return lambda: subprocess.run(command, check=True, capture_output=True)

    ways = {name: process(arguments) for name, arguments in COMMANDS.items()}
    found = rows(take_turns(ways, _REPEATS.value), "import tensorflow")
    print(table(found, "import tensorflow"))
    write(_OUTPUT.value, found)


if __name__ == "__main__":
    app.run(main)
