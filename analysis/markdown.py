"""Markdown as GitHub renders it, to be read as text, too."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stdout

# What would begin emphasis, code, a tag or a deletion; N* and slam_core do not.
_MARKUP = re.compile(r"[\\`<\[]|(?<!\w)[*_]|\*(?=\w)|~(?=\S)")


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], aligned: str) -> str:
    """A table of GitHub's Markdown, padded to be read as text; `aligned`: l or r a column."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (headers, *rows)]
    widths = [max(3, *(len(row[k]) for row in cells)) for k in range(len(headers))]

    def line(row: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if side == "r" else cell.ljust(width)
            for cell, width, side in zip(row, widths, aligned, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    rule = [
        "-" * (width - 1) + (":" if side == "r" else "-")
        for width, side in zip(widths, aligned, strict=True)
    ]
    return "\n".join([line(cells[0]), line(rule), *map(line, cells[1:])])


def listed(lines: Iterable[str]) -> str:
    """Sentences as a list."""
    return "\n".join(f"- {plain(line)}" for line in lines)


def fenced(show: Callable[[], None]) -> str:
    """What a command prints, as it prints it."""
    with redirect_stdout(io.StringIO()) as said:
        show()
    lines = said.getvalue().rstrip().split("\n")
    return "```text\n" + "\n".join(line.rstrip() for line in lines) + "\n```"


def plain(text: str) -> str:
    """Words that Markdown is to leave as they are."""
    return _MARKUP.sub(r"\\\g<0>", text)


def code(text: str) -> str:
    """A label or an id, letter by letter."""
    return f"`{text}`"
