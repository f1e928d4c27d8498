"""What the terminal shows: 80 columns, colors, progress and completion."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from tf_prac.cli.completion import SHELLS, VALUES, _flags
from tf_prac.cli.main import COMMANDS, main
from tf_prac.search.callbacks import ProgressBar
from tf_prac.search.progress import round_line, summary_table, ticket_line
from tf_prac.tables import joined, text_table, wrapped

LARGE = {
    "round": 15,
    "sparsity": 0.9648,
    "train_samples": 1_281_167,
    "steps": 1_250_000,
    "stop": "mask_distance",
    "val_accuracy": 0.9105,
    "test_accuracy": 0.9105,
    "test_accuracy_last": 0.9105,
    "cet": 1_141_500,
    "cep": 1_141_500,
    "prac_size": 1_141_500,
    "seconds": 86_400.5,
    "control": "random_mask_4294967295",
    "retrain_steps": 1_250_000,
}
COST = {
    "search_steps": 10_000_000,
    "full_imp_steps": 100_000_000,
    "steps_saved": 0.9,
    "end_to_end_steps": 11_000_000,
    "end_to_end_steps_saved": 0.89,
    "retrain_steps": 1_000_000,
    "forward_samples": 1_000_000_000,
}


def fits(text):
    return max(map(len, text.splitlines())) <= 80


def test_lines_of_a_large_search_fit():
    assert fits(round_line(LARGE, 1_281_167)) and fits(ticket_line(LARGE))
    summary = {"dense": LARGE, "tickets": [LARGE], "controls": [LARGE], "cost": COST}
    assert fits(summary_table(summary))


def test_a_wide_table_is_split_into_blocks_with_the_first_column():
    rows = [("sparsity", *(f"arm number {n}" for n in range(9))), ("20%", *"123456789")]
    text = text_table(rows)
    blocks = text.split("\n\n")
    assert fits(text) and len(blocks) > 1
    assert all(block.lstrip().startswith("sparsity") for block in blocks)
    assert [cell for block in blocks for cell in block.split("\n")[1].split()[1:]] == [*"123456789"]
    assert not fits(text_table(rows, width=200))
    assert text_table([("n" * 90, "m" * 90)]) == "n" * 90 + "  " + "m" * 90


def test_the_columns_that_tell_rows_apart_are_in_all_blocks():
    rows = [(str(k), kind, *("x" * 30 for _ in range(4))) for k in (0, 7) for kind in "ab"]
    blocks = text_table(rows, keys=2).split("\n\n")
    assert len(blocks) == 2
    for block in blocks:
        assert [line.split()[:2] for line in block.split("\n")] == [list(row[:2]) for row in rows]


@pytest.mark.parametrize("count", range(0, 40, 3))
def test_no_part_is_lost_or_cut(count):
    parts = [f"part {n}" * (1 + n % 3) for n in range(count)]
    lines = joined(parts, indent=4).split("\n")
    assert [part for line in lines if line for part in line.strip().split("  ")] == parts
    assert all(len(line) <= 80 for line in lines)
    text = " ".join(parts)
    assert wrapped(text).split() == text.split() and fits(wrapped(text) + "\n")


def test_the_bar_shows_round_and_steps_saved():
    bar = ProgressBar()
    bar.on_search_begin(
        {
            "train_samples": 100,
            "recipe": {"epochs": 10, "batch_size": 10},
            "pruning": {"rounds": 3, "rewind": "10it", "lr_rewind": True},
        }
    )
    assert bar._title("round 0") == "round 0 of 3"
    bar._steps += [100]
    assert bar._title("round 1") == "round 1 of 3, 0% saved"
    bar._steps += [9]  # of 90, as rounds start at step 10
    assert bar._title("retrain ticket 2") == "retrain ticket 2, 43% saved"


@pytest.mark.parametrize(
    ("environment", "terminal", "colored"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"TERM": "dumb"}, True, False),
    ],
)
def test_errors_are_colored_on_a_terminal_only(environment, terminal, colored, monkeypatch, capsys):
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    assert main(["serach\x1b[31m"]) == 2
    line = capsys.readouterr().err
    assert ("\x1b[1;31merror\x1b[0m" in line) == colored
    assert line.count("\x1b") == (2 if colored else 0), "the name is shown escaped"


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_has_every_command_flag_and_value(shell, capsys, tmp_path):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(command in script for command in COMMANDS)
    assert all(word in script for words in VALUES.values() for word in words)
    for command in COMMANDS:
        assert all(flag.name in script for flag in _flags(command))
    if shutil.which(shell):
        (tmp_path / "script").write_text(script, encoding="utf-8")
        checked = subprocess.run([shell, "-n", tmp_path / "script"], capture_output=True, text=True)
        assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["se"], ["search"]),
        (["help", "con"], ["connectivity"]),
        (["search", "--prune_r"], ["--prune_rate="]),
        (["search", "--nolr"], ["--nolr_rewind"]),
        (["search", "--keras", "="], ["keras", "tf_keras"]),
        (["search", "--model", "=", "conv"], ["conv2", "conv4", "conv6"]),
        (["info", "--j"], ["--json"]),
        (["info", "runs"], []),
        (["export", "--milestones"], []),
    ],
)
def test_bash_completes(words, completed, capsys):
    assert main(["completion", "bash"]) == 0
    script = capsys.readouterr().out + (
        'COMP_WORDS=(tf-prac "$@"); COMP_CWORD=$#; _tf_prac; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script, "bash", *words], capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (completed, "")
