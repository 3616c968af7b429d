"""`report`: one page about a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from analysis.commands.figures import say
from analysis.options import LawName, Name, fitted
from slam_core.cli import RESULTS, Json, Results
from slam_core.errors import UsageError


def report(
    out: Annotated[Path, typer.Option(help="Folder to write to.")],
    name: Name = None,
    law: LawName = "cuervo-speech",
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """Write one page about a study, FOLDER/NAME.md, with its figures beside it: what was run, what
    came out and how sure it is, from stored facts. Exit 0 where a usable fit came out."""
    from analysis import page, published

    chosen = published.law(law)
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out} is a file: name a folder, which may be a new one")
    done = fitted(name, results, quiet=as_json)
    written, left_out = page.write(done, chosen, results, out)
    say(written, left_out, as_json)
    done.check_usable()
