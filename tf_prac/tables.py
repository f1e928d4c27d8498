"""Tables of text: rows of cells as aligned columns or as Markdown. Plain Python."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from tf_prac.checks import printable


def text_table(rows: Iterable[Sequence[str]], left: Collection[int] = ()) -> str:
    """Returns rows as lines with aligned columns, two spaces apart.

    Example:

        >>> print(text_table([("layer", "kept"), ("conv", "9"), ("dense", "1,024")], left=[0]))
        layer   kept
        conv       9
        dense  1,024

    Args:
        rows: the cells of each row; all rows have the same length.
        left: indices of the columns that are aligned to the left. Default (): none.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index in left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
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
