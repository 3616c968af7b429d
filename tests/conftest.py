"""Shared fixtures: a tiny corpus written by the suite's own writer, and an isolated $SLAM_OUT."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

# One thread each: tests run side by side, and a run's numbers do not depend on the neighbours.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

from slam_core import scratch
from slam_core.bits import deduplicate
from slam_core.corpora import Spoken, write_corpus
from slam_core.journal import Journal
from slam_core.results import fold
from slam_core.spec import Budget, Data, Model, Optim, RunSpec, Source


def write_tiny_corpus(folder: Path, inventory: int = 21, documents: int = 12) -> Path:
    """Documents from a sparse random Markov chain: learnable, and a few kilobytes."""
    rng = np.random.default_rng(0)
    chain = rng.dirichlet(np.full(inventory, 0.1), size=inventory)
    folder.mkdir(parents=True, exist_ok=True)

    def spoken(i: int) -> Spoken:
        units = [int(rng.integers(inventory))]
        for _ in range(int(rng.integers(150, 400))):
            units.append(int(rng.choice(inventory, p=chain[units[-1]])))
        split = ("train", "train", "validation", "test")[i % 4]
        return Spoken(f"d{i:02d}", split, deduplicate(units), len(units) / 25, "nobody")

    write_corpus(
        folder,
        [spoken(i) for i in range(documents)],
        name=folder.name,
        inventory=inventory,
        rate=25.0,
        tokeniser="none",
        provenance={"made_by": "tests"},
    )
    return folder


def of_tokeniser(corpus: Path, revision: str) -> Path:
    """The corpus, which now says what revision of a tokeniser made it."""
    manifest = json.loads((corpus / "corpus.json").read_text())
    manifest["provenance"]["tokeniser_revision"] = revision
    (corpus / "corpus.json").write_text(json.dumps(manifest))
    return corpus


def numbers(run: str) -> tuple[object, ...]:
    """All that the latest attempt at a run found out, without its times."""
    attempt = scratch.attempts(run)[-1]
    result, curve = fold(run, attempt.name, Journal(attempt).events())
    assert result is not None
    assert curve is not None
    return result.validation, result.spent.steps, curve.steps, curve.tokens, curve.loss


def events(run: str) -> list[str]:
    """What the latest attempt at a run has noted, by name; nothing before there is one."""
    tried = scratch.attempts(run)
    return [event["event"] for event in Journal(tried[-1]).events()] if tried else []


def notes(run: str) -> list[str]:
    """What the latest attempt at a run has said of how it goes."""
    told = Journal(scratch.attempts(run)[-1]).events()
    return [event["text"] for event in told if event["event"] == "note"]


@pytest.fixture(scope="session", autouse=True)
def _results_and_runs_are_left_alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Even a test that forgets its `slam_out` runs below a folder of the tests, and no test adds
    to the repository's facts."""
    facts = sorted((Path(__file__).parents[1] / "results").glob("*.jsonl"))
    before = [path.read_bytes() for path in facts]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLAM_OUT", str(tmp_path_factory.mktemp("runs")))
        yield
    assert [path.read_bytes() for path in facts] == before, "a test wrote to results/"


@pytest.fixture
def warm_server() -> None:
    """Forget the server that an earlier test's launch has left, which may not have imported torch:
    every run forked from it would."""
    from multiprocessing import forkserver

    forkserver._forkserver._stop()  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_corpus(tmp_path_factory.mktemp("corpora") / "tiny")


@pytest.fixture
def slam_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "runs"
    monkeypatch.setenv("SLAM_OUT", str(folder))
    return folder


@pytest.fixture
def tiny_spec(tiny_corpus: Path) -> RunSpec:
    """A run of a second: one layer of width 16, 60 steps of 4 sequences of 16 units."""
    return RunSpec(
        model=Model(layers=1, width=16),
        data=Data(sources=(Source(corpus=str(tiny_corpus)),), context=16, batch=64),
        optim=Optim(lr=1e-2, warmup=0.1),
        budget=Budget(amount=60, unit="steps"),
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones first: they wait much, for clusters and clocks, beside the quick ones."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
