"""Tables of text: rows of cells as aligned columns or as Markdown. Plain Python."""

from __future__ import annotations

import textwrap
from collections.abc import Collection, Iterable, Sequence

from tf_prac.checks import printable

WIDTH = 80
"""Columns of the text that is printed for people."""


def text_table(
    rows: Iterable[Sequence[str]], left: Collection[int] = (), width: int = WIDTH, keys: int = 1
) -> str:
    """Returns rows as lines with aligned columns, two spaces apart.

    The columns of a wider table are split into several blocks, each with the first columns, which
    tell the rows apart.

    Example:

        >>> print(text_table([("layer", "kept"), ("conv", "9"), ("dense", "1,024")], left=[0]))
        layer   kept
        conv       9
        dense  1,024

    Args:
        rows: the cells of each row; all rows have the same length.
        left: indices of the columns that are aligned to the left. Default (): none.
        width: columns of the terminal. Default 80.
        keys: the number of columns that are in every block. Default 1.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def block(columns: Sequence[int]) -> str:
        return "\n".join(
            "  ".join(
                row[index].ljust(widths[index])
                if index in left
                else row[index].rjust(widths[index])
                for index in columns
            ).rstrip()
            for row in rows
        )

    return "\n\n".join(block(columns) for columns in _blocks(widths, width, keys))


def _blocks(widths: Sequence[int], width: int, keys: int) -> list[list[int]]:
    """Returns the columns of each block; the first `keys` columns are in all of them."""
    first = list(range(min(keys, len(widths))))
    blocks = [first]
    for index in range(len(first), len(widths)):
        columns = [*blocks[-1], index]
        if sum(widths[i] + 2 for i in columns) - 2 > width and len(blocks[-1]) > len(first):
            blocks.append([*first, index])
        else:
            blocks[-1] = columns
    return blocks


def joined(parts: Iterable[str], indent: int = 0, width: int = WIDTH) -> str:
    """Returns parts two spaces apart; starts a new, indented line before one that does not fit.

    Example:

        >>> print(joined(["round  1", "20% sparse", "8 steps"], indent=10, width=24))
        round  1  20% sparse
                  8 steps
    """
    lines = [""]
    for part in map(printable, parts):
        if lines[-1].strip() and len(lines[-1]) + 2 + len(part) > width:
            lines.append(" " * indent + part)
        else:
            lines[-1] += f"  {part}" if lines[-1] else part
    return "\n".join(lines)


def wrapped(text: str, width: int = WIDTH, indent: int = 4) -> str:
    """Returns a text whose lines are wrapped between words; continued lines are indented."""
    return "\n".join(
        textwrap.fill(
            line,
            width,
            subsequent_indent=" " * indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in text.split("\n")
    )


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns rows as a Markdown table.

    Example:

        >>> print(markdown_table(("layer", "kept"), [("conv", "9")]))
        | layer | kept |
        |---|---|
        | conv | 9 |
    """
    lines = [f"| {' | '.join(map(_markdown, row))} |" for row in (head, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(head), *lines[1:]])


def _markdown(cell: str) -> str:
    """Returns a cell that neither ends early nor starts an HTML element."""
    text = printable(cell).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
    return " ".join(text.splitlines())
