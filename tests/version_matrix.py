"""Runs version_smoke.py in environments of other versions, and prints the Markdown table.

    python version_matrix.py DIRECTORY [PYTHON/TENSORFLOW[/KERAS] ...]

Environments are created in DIRECTORY, one for each row, and are used again if they exist (700 MB to
2 GB each). Python 3.10 to 3.13 are searched for in PATH, as python3.10 and so on. Without rows, all
of `ROWS` run, one after the other.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys

from version_smoke import CELLS

ROWS = (
    "3.10/2.16.2/3.0.5",
    "3.10/2.16.2",
    "3.10/2.21.0",
    "3.11/2.17.1",
    "3.11/2.18.1",
    "3.12/2.19.1",
    "3.12/2.20.0",
    "3.11/2.21.0",
    "3.13/2.21.0",
)
ROOT = pathlib.Path(__file__).resolve().parent.parent
SMOKE = ROOT / "tests" / "version_smoke.py"
VERSIONS = """
import importlib.metadata, json, platform, sys
names = ("tensorflow", "keras", "tf-keras", "numpy")
print(json.dumps([platform.python_version(), *map(importlib.metadata.version, names)]))
"""


def environment(directory: pathlib.Path, row: str) -> pathlib.Path:
    """Returns the Python of the environment of a row, which is created if there is none."""
    python, tensorflow, *keras = row.split("/")
    path = directory / row.replace("/", "-")
    program = path / "bin" / "python"
    if not program.exists():
        subprocess.run([f"python{python}", "-m", "venv", str(path)], check=True)
        release = ".".join(tensorflow.split(".")[:2])
        pins = [f"tensorflow=={tensorflow}", f"tf-keras=={release}.*"]
        pins += [f"keras=={version}" for version in keras]
        install = [str(program), "-m", "pip", "install", "-q", f"{ROOT}[all]", *pins]
        subprocess.run(install, check=True)
    return program


def results(program: pathlib.Path, flavor: str) -> dict[str, str]:
    """Returns the result of each cell."""
    process = subprocess.run(
        [str(program), str(SMOKE), flavor],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    try:
        return json.loads(process.stdout.splitlines()[-1])
    except (IndexError, json.JSONDecodeError):
        print(process.stderr, file=sys.stderr)
        return dict.fromkeys(CELLS, f"ended with status {process.returncode}")


def main(directory: pathlib.Path, rows: list[str]) -> int:
    """Runs the rows and prints the table; returns the exit status, 1 if a cell failed."""
    header = ["Python", "TensorFlow", "Keras", "NumPy", *CELLS]
    print("| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|", flush=True)
    failed = False
    for row in rows:
        program = environment(directory, row)
        shown = subprocess.run([program, "-c", VERSIONS], capture_output=True, check=True).stdout
        python, tensorflow, keras, tf_keras, numpy = json.loads(shown)
        for flavor, version in (("keras", keras), ("tf_keras", tf_keras)):
            cells = results(program, flavor)
            failed |= any(cell not in ("yes", "-") for cell in cells.values())
            values = [python, tensorflow, f"{flavor} {version}", numpy, *cells.values()]
            print("| " + " | ".join(values) + " |", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve(), sys.argv[2:] or list(ROWS)))
