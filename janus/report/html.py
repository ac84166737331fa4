"""Small pieces of HTML: tables, bars, pictures. Text is escaped here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

STYLE = Path(__file__).with_name("style.css")
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""What a page may do: show what is in it. No script runs, and nothing is fetched, whatever its text says."""


class Raw(str):
    """HTML that is escaped already."""

    __slots__ = ()


def text(value: object) -> Raw:
    """`value` as HTML: escaped unless it is HTML already."""
    return value if isinstance(value, Raw) else Raw(_escape(value))


def _escape(value: object) -> str:
    """As `html.escape`; a lone surrogate (a file name that is not UTF-8) is written out, for no file can hold it."""
    return escape(str(value).encode("utf-8", "backslashreplace").decode())


def join(*parts: object) -> Raw:
    """Pieces one after the other."""
    return Raw("".join(text(part) for part in parts))


def tag(name: str, *content: object, **attributes: object) -> Raw:
    """An element. `class_` stands for class; attributes that are None are left out."""
    written = "".join(
        f' {key.rstrip("_")}="{_escape(value)}"' for key, value in attributes.items() if value is not None
    )
    return Raw(f"<{name}{written}>{join(*content)}</{name}>")


def image(uri: str, alt: str, **attributes: object) -> Raw:
    """A picture from a data URI."""
    return Raw(tag("img", src=uri, alt=alt, loading="lazy", **attributes).removesuffix("</img>"))


def table(head: Sequence[str], rows: Iterable[Sequence[object]], *, numeric: Sequence[int] = ()) -> Raw:
    """A table in a card; the columns in `numeric` are set flush right."""

    def row(cell: str, values: Sequence[object]) -> Raw:
        cells = (tag(cell, value, class_="n" if place in numeric else None) for place, value in enumerate(values))
        return tag("tr", *cells)

    body = tag("table", row("th", head), *(row("td", values) for values in rows))
    return tag("div", body, class_="card")


def stacked_bar(parts: Sequence[tuple[str, float, str]]) -> Raw:
    """A horizontal bar of (name, amount, colour) parts, in proportion; names show on hover."""
    total = sum(amount for _, amount, _ in parts) or 1
    pieces = (
        tag("i", style=f"width:{amount / total:.2%};background:{color}", title=f"{name}: {amount:g}")
        for name, amount, color in parts
        if amount
    )
    return tag("div", *pieces, class_="bar")


def section(title: str, intro: str, *content: object) -> Raw:
    """A heading, a sentence or two, and what there is to see."""
    return join(tag("h2", title), tag("p", intro, class_="soft"), *content)


def page(title: str, *content: object) -> str:
    """A whole document that needs no other file, and whose policy forbids a browser to run or fetch anything."""
    head = Raw(
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{_escape(title)}</title><style>{STYLE.read_text()}</style>"
    )
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{tag("main", *content)}</body></html>\n'
