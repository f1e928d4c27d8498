"""HTML elements whose text is always escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

from tf_prac.checks import printable

EMPTY = ("br", "circle", "img", "line", "meta", "path", "polyline", "rect")


class Html(str):
    """Text that is already HTML; `tag` escapes any other text."""


def tag(name: str, /, *children: Any, **attributes: Any) -> Html:
    """Returns an element.

    Example:

        >>> tag("p", "1 < 2", tag("b", "!"), class_="note")
        '<p class="note">1 &lt; 2<b>!</b></p>'

    Args:
        name: name of the element.
        *children: text, which is escaped; `Html`, which is not; None, which is ignored; or lists
            of these.
        **attributes: attributes, whose values are escaped; one that is None is omitted. In names, a
            trailing underscore is removed and others become hyphens.
    """
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in EMPTY and not children:
        return Html(f"<{name}{pairs}/>")
    return Html(f"<{name}{pairs}>{join(children)}</{name}>")


def join(children: Iterable[Any]) -> Html:
    """Concatenates children, which are treated as in `tag`."""
    return Html("".join(map(_child, children)))


def table(
    head: Sequence[str], rows: Iterable[Sequence[Any]], *, text_columns: int = 1, **attributes: Any
) -> Html:
    """Returns a table, which scrolls horizontally if it is wider than the page.

    Args:
        head: titles of the columns.
        rows: their cells.
        text_columns: number of leading columns that hold text, not numbers. Default 1.
        **attributes: attributes of the table.
    """

    def cells(kind: str, row: Sequence[Any]) -> list[Html]:
        return [tag(kind, c, class_=None if n < text_columns else "n") for n, c in enumerate(row)]

    body = [tag("tr", cells("td", row)) for row in rows]
    element = tag(
        "table", tag("thead", tag("tr", cells("th", head))), tag("tbody", body), **attributes
    )
    return tag("div", element, class_="scroll", tabindex="0")


def _child(child: Any) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    if isinstance(child, (list, tuple)):
        return join(child)
    return html.escape(printable(str(child)), quote=False)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.1f}".removesuffix(".0")
    return printable(str(value))
