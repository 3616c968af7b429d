"""`predict`: the best size, data, loss and hours for a budget, or what a loss takes."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from analysis.options import Name, fitted, unused
from slam_core.cli import RESULTS, Json, Results, in_json
from slam_core.devices import MFU
from slam_core.errors import UsageError


def predict(
    name: Name = None,
    flops: Annotated[
        list[float] | None, typer.Option("--flops", help="Budget in FLOPs. Repeatable.")
    ] = None,
    hours: Annotated[
        list[float] | None,
        typer.Option("--hours", help="Budget in GPU-hours, at Cuervo & Marxer's measured speed."),
    ] = None,
    loss: Annotated[
        list[float] | None,
        typer.Option(
            "--loss", help="Loss to reach at the least FLOPs, in place of a budget. Repeatable."
        ),
    ] = None,
    law: Annotated[
        str | None, typer.Option("--law", help="A published law instead of our own fits.")
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(help="Whose hours: V100, A100, H100-PCIE, ...", show_default="A100"),
    ] = None,
    mfu: Annotated[
        float | None,
        typer.Option(help="Share of the GPU's peak that training gets.", show_default="0.4"),
    ] = None,
    exact: Annotated[
        str | None, typer.Option(help="Count the FLOPs of this family's shapes exactly.")
    ] = None,
    context: Annotated[
        int | None, typer.Option(help="Of --exact, in units.", show_default="1024")
    ] = None,
    serve: Annotated[float, typer.Option(help="Units of inference to pay for too.")] = 0.0,
    unique: Annotated[float, typer.Option(help="Units of data there are, at most.")] = math.inf,
    extrapolate: Annotated[
        bool, typer.Option("--extrapolate", help="Go on beyond the sizes a price is known for.")
    ] = False,
    results: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """Best size, data, loss and hours for a budget, with intervals where they are our own; by
    approach 3 also under other prices than 6ND, and the budget that a loss takes."""
    from analysis import predict as predicting
    from analysis import printed, published
    from analysis.laws import PublishedLaw
    from analysis.spend import prices

    if hours and exact:
        raise UsageError("--hours are at measured speeds; leave --exact out")
    if sum(map(bool, (flops, hours, loss))) != 1:
        raise UsageError("say budgets with --flops or with --hours, or a --loss to reach")
    if not (serve >= 0 and unique > 0):
        raise UsageError(f"--serve {serve:g} and --unique {unique:g} are amounts of units, above 0")
    is_priced = bool(hours or loss or exact or serve or math.isfinite(unique))
    unused("context", context is not None and not exact, "--exact")
    if context is not None and context < 1:
        raise UsageError(f"--context {context}: a number of units, 1 or more")
    unused("extrapolate", extrapolate and not (hours or exact), "--hours or --exact")
    unused("mfu", mfu is not None and is_priced, "--flops and none of --exact, --serve, --unique")
    unused("gpu", gpu is not None and is_priced and not hours, "--hours, or --flops alone")
    gpu, mfu, context = gpu or "A100", MFU if mfu is None else mfu, context or 1024
    source = published.law(law) if law else fitted(name, results, quiet=as_json)
    if is_priced:
        basis = predicting.Basis.of(source)
        if hours:
            price = prices.cuervo_hours(gpu, extrapolate)
        elif exact:
            low, high = basis.sampled.n or (1e7, 1e9)
            sizes = (low / 10, 30 * high)
            vocab = 502  # 500 units and two signs, as the published models have
            counted = "total" if basis.params == "as given" else basis.params
            price = prices.family_flops(
                exact, vocab, context, params=counted, sizes=sizes, extrapolate=extrapolate
            )
        else:
            price = prices.training_flops(basis.law.cost)
        price = price.serving(serve) if serve else price
        if loss:
            rows = [predicting.reaching(basis, aim, price, unique) for aim in loss]
        else:
            rows = [predicting.priced(basis, b, price, unique) for b in flops or hours or ()]
        if as_json:
            print(in_json(predicting.priced_record(rows)))
        else:
            printed.show_priced(rows, basis.unit.title, basis.params)
        return
    unit = "nats per unit of its own"
    if isinstance(source, PublishedLaw):
        found = [predicting.published(source, c, gpu, mfu) for c in flops or ()]
    else:
        found = predicting.at_each(source, flops or (), gpu, mfu)
        unit = source.unit.title
    if as_json:
        print(in_json(predicting.record(found)))
    else:
        printed.show_predictions(found, unit)
