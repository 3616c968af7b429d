"""What is compared counts C and N alike, or is not compared."""

from __future__ import annotations

from slam_core.errors import UsageError
from slam_core.flops import Kind, convention


def same_convention(ours: str, theirs: str, kind: Kind = "FLOP") -> str:
    """The convention that both count C (or N, with `kind` parameter) in.

    `UsageError` where they differ, or where one is unknown: two conventions are never mixed.
    """
    what, option, files = "C", "--convention", ""
    if kind == "parameter":
        what, option = "N", "--params"
        files = ", and of a file with the column that does (--column n=NAME)"
    if ours == theirs == "as given":
        raise UsageError(f"what {what} counts is said on neither side; fit again with {option}")
    names = []
    for name, other in ((ours, theirs), (theirs, ours)):
        try:
            names.append(convention(name, kind))
        except UsageError:
            raise UsageError(
                f"what {what} counts is '{name}' on one side and {other} on the other; if they "
                f"count alike fit again with {option} {other}, else count both alike"
            ) from None
    if names[0] != names[1]:
        raise UsageError(
            f"{what} counts {names[0]} on one side and {names[1]} on the other; "
            f"count ours alike: fit again with {option} {names[1]}{files}"
        )
    return names[0]
