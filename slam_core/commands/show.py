"""`python -m slam_core show RUN`: what is known of a run, on a page."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from slam_core import scratch
from slam_core.cli import RESULTS, Json, Results, in_json
from slam_core.errors import UsageError
from slam_core.journal import Event, Journal, state_of
from slam_core.results import (
    Curve,
    Result,
    Score,
    counted_in,
    in_other_units,
    in_words,
    read,
    scores_of,
)
from slam_core.spec import spec_from
from slam_core.streams import validated_rates


def show(
    run: Annotated[str, typer.Argument(help="Run id, or its first digits.")],
    as_json: Json = False,
    results: Results = RESULTS,
) -> None:
    """What is known of a run: state, progress, validation, scores, notes, spec. Of a run that is
    not below $SLAM_OUT, what the results say."""
    here = any(one.startswith(run) for one in scratch.known_runs())
    ended = [] if here else read(results, Result).values()
    stored = [one for one in ended if one.run.startswith(run)]
    facts = _stored(run, stored, results) if stored else _journal(scratch.find(run))
    run = facts["run"]
    validated = (facts["end"] or {}).get("validation", {})
    rates: dict[str, float | None] = {}
    if facts["spec"]:
        data = spec_from(facts["spec"], where=f"run {run}").data
        rates = validated_rates(data, facts["provenance"].get("sources", ()))
    if as_json:
        for name, value in validated.items():
            value |= in_other_units(value["nll"], rates.get(name))
        print(in_json(facts))
        return
    print(f"run {run}: {facts['state']}")
    for name, text in _lines(facts, validated, rates):
        print(f"  {name:11} {text}")


def _journal(run: str) -> dict[str, Any]:
    """What the folder of a run says."""
    tried = scratch.attempts(run)
    events = Journal(tried[-1]).events() if tried else []
    latest = {event["event"]: event for event in events}
    return {
        "run": run,
        "state": scratch.state(run),
        "attempts": [folder.name for folder in tried],
        "spec": latest.get("start", {}).get("spec"),
        "progress": latest.get("progress"),
        "end": latest.get(state_of(reversed(events))),
        # Once each: every start writes its own.
        "notes": list(dict.fromkeys(e["text"] for e in events if e["event"] == "note")),
        "scores": [
            s.model_dump(mode="json")
            for s in (scores_of(run, tried[-1].name, events) if tried else [])
        ],
        "provenance": latest.get("start", {}).get("provenance"),
    }


def _stored(start: str, ended: list[Result], results: Path) -> dict[str, Any]:
    """The same by the results of one run, which keep no notes, and of progress the end alone."""
    if (many := len({one.run for one in ended})) > 1:
        raise UsageError(f"{many} runs in {results} begin with '{start}'; say more of its id")
    *_, last = tried = sorted(ended, key=lambda one: one.key)
    measured: dict[str, list[float]] = {}
    if last.spec.get("dpo") and (curve := read(results, Curve).get(last.key)):
        measured = curve.measured or {}
    return {
        "run": last.run,
        "state": last.state,
        "attempts": [one.attempt for one in tried],
        "spec": last.spec,
        "progress": {
            "step": last.spent.steps,
            "tokens": last.spent.tokens,
            "seconds": last.spent.seconds,
            "loss": last.train_loss,
            **{name: values[-1] for name, values in measured.items()},
        },
        "end": last.model_dump(mode="json", include={"spent", "validation"}),
        "notes": [],
        "scores": [
            score.model_dump(mode="json")
            for score in read(results, Score).values()
            if (score.run, score.attempt) == last.key
        ],
        "provenance": last.provenance,
    }


def _lines(
    facts: dict[str, Any], validated: dict[str, Any], rates: dict[str, float | None]
) -> Iterator[tuple[str, str]]:
    made = facts["provenance"] or {}
    if facts["attempts"]:
        yield "attempts", ", ".join(facts["attempts"])
    if parent := made.get("parent"):
        yield "parent", f"run {parent['run']}, attempt {parent['attempt']}"
    if made:
        changed = ", modified" if made.get("modified") else ""
        yield "made by", f"commit {(made.get('commit') or 'unknown')[:12]}{changed}"
        yield "on", f"{made.get('device')}, torch {made.get('torch')}"
    if now := facts["progress"]:
        # A mix with speech is in units.
        yield "trained", _trained(now, "token" if set(rates.values()) == {0.0} else "unit")
    if (error := (facts["end"] or {}).get("error")) is not None:
        yield "failed", error
    for name, value in validated.items():
        nll, rate = value["nll"], rates.get(name)
        found = f"{_within(nll, value.get('stderr'), 4)} nats per {counted_in(rate)}"
        yield "validation", f"{name} {found}, {in_words(nll, rate)}"
    for score in facts["scores"]:
        found = _within(score["value"], score["stderr"], 3)
        yield "score", f"{score['benchmark']} {score['metric']} {found}"
    for note in facts["notes"]:
        yield "note", note
    spec = facts["spec"] or {}
    parts = {name: part for name, part in spec.items() if isinstance(part, dict)}
    for name, part in parts.items():
        yield name, " ".join(_fields(part))
    if spec:
        yield "and", " ".join(_fields({k: v for k, v in spec.items() if k not in parts}))


def _trained(now: Event, what: str) -> str:
    said = [f"{now['step']:,} steps", f"{now['tokens']:,} {what}s", f"{now['seconds']:,.1f} s"]
    preferences = "reward_accuracy" in now
    if (loss := now.get("loss")) is not None:
        said.append(f"loss {loss:.4f} nats a {'pair' if preferences else what}")
    if preferences:
        said.append(f"reward accuracy {now['reward_accuracy']:.2f}")
    if rate := now.get("rate"):
        said.append(f"{rate:,} {what}s/s at last")
    return ", ".join(said)


def _within(value: float, stderr: float | None, digits: int) -> str:
    """A value and its standard error, where that is known."""
    known = stderr is not None and math.isfinite(stderr)
    return f"{value:.{digits}f}" + (f" ± {stderr:.{digits}f}" if known else "")


def _fields(part: dict[str, Any] | list[Any], path: str = "") -> Iterator[str]:
    """The fields of a part of a spec, as `--set` has them."""
    for key, value in enumerate(part) if isinstance(part, list) else part.items():
        if isinstance(value, list | dict):
            yield from _fields(value, f"{path}{key}.")
        else:
            yield f"{path}{key}={value if isinstance(value, str) else json.dumps(value)}"
