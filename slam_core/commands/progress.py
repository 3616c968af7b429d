"""What commands tell on stderr while they work: sentences, and a bar of what is encoded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")
say = Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print


def watched(
    encoded: Iterable[T], total: int | None, count: Callable[[T], int] = lambda one: 1
) -> Iterator[T]:
    """The same things, with a bar that advances by `count` of each."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("encoding", total=total)
        for one in encoded:
            progress.advance(task, count(one))
            yield one


def counted(pairs: Iterable[T]) -> Iterator[T]:
    """Say how many pairs are done, now and then."""
    for number, pair in enumerate(pairs, 1):
        yield pair
        if number % 500 == 0:
            say(f"{number} pairs")
