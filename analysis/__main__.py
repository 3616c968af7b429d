"""`python -m analysis`: fit scaling laws, compare them with published ones, draw the figures."""

from __future__ import annotations

import sys

from analysis.commands.agree import agree
from analysis.commands.compare import compare
from analysis.commands.downstream import downstream
from analysis.commands.effects import effects
from analysis.commands.extrapolate import extrapolate
from analysis.commands.figures import figures
from analysis.commands.fit import fit
from analysis.commands.plan import plan
from analysis.commands.predict import predict
from analysis.commands.profile import profile
from analysis.commands.report import report
from analysis.commands.table import table
from analysis.commands.tuned import tuned
from analysis.commands.warm import warm
from slam_core.cli import application
from slam_core.errors import exit_code

app = application(__doc__)
for command in (
    fit,
    table,
    predict,
    compare,
    figures,
    report,
    agree,
    downstream,
    effects,
    warm,
    tuned,
    extrapolate,
    profile,
    plan,
):
    app.command()(command)


def main() -> int:
    """Exit code of the command line."""
    return exit_code(app)


if __name__ == "__main__":
    sys.exit(main())
