"""The ledger: every study's points as trials, in any storage, made again from the runs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages.journal import JournalFileSymlinkLock
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from slam_core import scratch
from slam_core.errors import SlamError, UsageError
from slam_core.journal import Journal
from slam_core.spec import RunSpec, resolve
from sweeps import studies
from sweeps.__main__ import main
from sweeps.grid import Grid, IsoFlop, Study, Together
from sweeps.ledger import Ledger, importances, keep
from sweeps.points import Outcome, points
from sweeps.search import Search
from sweeps.space import LogUniform
from sweeps.storage import journal, shown


@pytest.fixture
def grid(tiny_spec: RunSpec, slam_out: Path) -> Grid:
    cross = {"optim.lr": (1e-3, 3e-3, 1e-2, 3e-2), "optim.beta2": (0.9, 0.99), "seed": (0, 1)}
    return Grid(name="grid", base=tiny_spec, cross=cross)


def finish(spec: RunSpec, nll: float, end: str = "done") -> None:
    """Write what a run that came to its end leaves."""
    spec = resolve(spec)
    attempt = scratch.new_attempt(spec.id)
    (attempt / "spec.json").write_text(spec.canonical())
    journal = Journal(attempt)
    tree = spec.model_dump(mode="json", exclude_none=True)
    counts = spec.counts.model_dump()
    journal.write("start", spec=tree, counts=counts, steps=60, provenance={"device": "none"})
    for step in range(6, 61, 6):
        so_far = {"tokens": 64 * step, "seconds": 0.1 * step, "loss": nll + 1 / step}
        journal.write("progress", step=step, **so_far)
    spent = {"steps": 60, "tokens": 3840, "seconds": 6.0}
    found = {"tiny": {"nll": nll, "stderr": 0.1, "units": 100}} if end == "done" else {}
    journal.write(end, spent=spent, validation=found)


def facts(trials: list[FrozenTrial]) -> list[tuple[Any, ...]]:
    return sorted(
        (t.user_attrs["runs"], t.state.name, t.value, t.params, t.intermediate_values, t.user_attrs)
        for t in trials
    )


def some(grid: Grid, results: Path, ledger: Ledger) -> list[FrozenTrial]:
    """Half of the grid done, one diverged, one at half its seeds; in the ledger."""
    for k, (label, spec) in enumerate(grid.runs().items()):
        if k < 9 and "lr=0.003,beta2=0.99" not in label:
            finish(spec, 2.0 + spec.optim.lr + 0.01 * spec.seed)
        elif k < 9:
            finish(spec, 9.0, "diverged")
    keep(grid, results, ledger)
    return ledger.trials()


def test_points_of_a_grid_are_trials_with_replicates_as_one(grid: Grid, tmp_path: Path) -> None:
    trials = some(grid, tmp_path, Ledger("grid"))
    assert [t.state.name for t in trials].count("COMPLETE") == 3
    by_label = {t.user_attrs["label"]: t for t in trials}
    assert len(trials) == len(by_label) == 8
    done = by_label["lr=0.001,beta2=0.9,seed=0"]
    assert done.params == {"optim.lr": 1e-3, "optim.beta2": 0.9}
    assert done.value == pytest.approx(2.006)
    assert list(done.intermediate_values) == list(range(10, 100, 10))
    runs = [s.id for s in grid.runs().values() if (s.optim.lr, s.optim.beta2) == (1e-3, 0.9)]
    assert done.user_attrs["runs"].split() == runs
    assert by_label["lr=0.003,beta2=0.99,seed=0"].state.name == "PRUNED"
    assert by_label["lr=0.003,beta2=0.99,seed=0"].user_attrs["state"] == "diverged"
    assert by_label["lr=0.01,beta2=0.9,seed=0"].state.name == "RUNNING"
    assert by_label["lr=0.03,beta2=0.9,seed=0"].state.name == "WAITING"


def test_a_deleted_or_contradicting_storage_is_made_again(grid: Grid, tmp_path: Path) -> None:
    ledger = Ledger("grid")
    before = facts(some(grid, tmp_path, ledger))
    Path(ledger.where).unlink()
    keep(grid, tmp_path, Ledger("grid"))
    assert facts(Ledger("grid").trials()) == before
    # Nothing happens to what is right already, and the rest goes on.
    size = Path(ledger.where).stat().st_size
    keep(grid, tmp_path, Ledger("grid"))
    assert Path(ledger.where).stat().st_size < size + 200
    for spec in grid.runs().values():
        if scratch.state(spec.id) == "missing":
            finish(spec, 3.0)
    keep(grid, tmp_path, Ledger("grid"))
    assert [t.state.name for t in Ledger("grid").trials()].count("COMPLETE") == 7
    # A finished trial that says otherwise than its runs.
    first = next(iter(grid.runs().values()))
    shutil.rmtree(scratch.run_folder(first.id))
    keep(grid, tmp_path, Ledger("grid"))
    assert [t.state.name for t in Ledger("grid").trials()].count("COMPLETE") == 6


def test_a_search_is_made_again_from_specs_alone(
    tiny_spec: RunSpec, slam_out: Path, tmp_path: Path
) -> None:
    space = {"optim.lr": LogUniform(low=1e-4, high=1e-1)}
    search = Search(name="s", base=tiny_spec, space=space, seeds=(0, 1))
    for lr in (1e-3, 2e-3, 5e-3):
        for seed in (0, 1):
            finish(tiny_spec.but({"optim.lr": lr, "seed": seed}), 2 + lr)
    finish(tiny_spec.but({"optim.lr": 0.5}), 1.0)  # outside the space
    keep(search, tmp_path, Ledger("s"))
    trials = Ledger("s").trials()
    assert sorted((t.params["optim.lr"], t.value) for t in trials) == [
        (1e-3, 2.001),
        (2e-3, 2.002),
        (5e-3, 2.005),
    ]
    main(["collect", "--results", str(tmp_path)])
    shutil.rmtree(slam_out)
    keep(search, tmp_path, Ledger("s"))
    assert facts(Ledger("s").trials()) == facts(trials)


def test_other_studies_have_sizes_as_numbers_and_importances(
    tiny_spec: RunSpec, slam_out: Path, tmp_path: Path
) -> None:
    base = tiny_spec.but({"model.layers": None, "model.width": None})
    parts = [
        IsoFlop(name=family, base=base, budgets=(1e9, 4e9), sizes=sizes, families=(family,))
        for family, sizes in (("llama", ("20k", "40k", "80k")), ("qwen2", ("30k",)))
    ]
    study: Study = Together(name="two", parts=tuple(parts))
    for spec in study.runs().values():
        finish(spec, 2 + 1e4 / spec.counts.total)
    keep(study, tmp_path, Ledger("two"))
    trials = Ledger("two").trials()
    assert len(trials) == 8
    assert set(trials[0].params) == {"model.family", "parameters", "budget.amount"}
    shares = importances(study, tmp_path)
    assert next(iter(shares)) == "parameters"
    # Optuna's own way, on the stored study.
    backend = optuna.storages.journal.JournalFileBackend(Ledger("two").where)
    stored = optuna.load_study(study_name="two", storage=optuna.storages.JournalStorage(backend))
    assert optuna.importance.get_param_importances(stored) == pytest.approx(shares)
    assert stored.best_value == min(t.value for t in trials)


def test_a_torn_journal_is_mended_and_a_copy_kept(grid: Grid, tmp_path: Path) -> None:
    before = facts(some(grid, tmp_path, Ledger("grid")))
    path = Path(Ledger("grid").where)
    whole = path.read_bytes()
    for torn in (whole[:-7], whole + b'{"op_code":4,"wor', whole + b"\0" * 64):
        path.write_bytes(torn)
        keep(grid, tmp_path, Ledger("grid"))
        assert facts(Ledger("grid").trials()) == before
    copies = sorted(path.parent.glob("journal.log.torn-*"))
    assert [copy.read_bytes() for copy in copies] == [
        whole[:-7],
        whole + b'{"op_code":4,"wor',
        whole + b"\0" * 64,
    ]


def test_a_line_that_another_process_is_writing_is_not_cut_off(slam_out: Path) -> None:
    path = slam_out / "journal.log"
    journal(path).create_new_study([StudyDirection.MINIMIZE], "before")
    lock, before = JournalFileSymlinkLock(str(path)), path.read_bytes()
    lock.acquire()
    with path.open("ab", buffering=0) as writer:
        writer.write(before[:9])
        other = threading.Thread(target=journal, args=[path])
        other.start()
        other.join(0.3)
        writer.write(before[9:])
    lock.release()
    other.join()
    assert path.read_bytes() == 2 * before
    assert not list(path.parent.glob("journal.log.torn-*"))


def test_a_file_that_studies_share_is_not_taken_from_the_others(
    tiny_spec: RunSpec, slam_out: Path, tmp_path: Path
) -> None:
    """One that has to start again does not remove what another is about to write to."""
    shared = tmp_path / "ours.log"
    grid = Grid(name="grid", base=tiny_spec, cross={"optim.lr": (1e-3, 3e-3)})
    first, _ = grid.runs().values()
    finish(first, 2.0)
    keep(grid, tmp_path, Ledger("grid", str(shared)))
    other = journal(shared)
    shutil.rmtree(scratch.run_folder(first.id))
    keep(grid, tmp_path, Ledger("grid", str(shared)))
    other.create_new_study([StudyDirection.MINIMIZE], "other")
    assert [one.study_name for one in journal(shared).get_all_studies()] == ["grid", "other"]


def test_a_study_that_another_process_deletes_is_told_in_words(grid: Grid, tmp_path: Path) -> None:
    """A dashboard, or a launch with another $SLAM_OUT: a search goes on without its ledger."""
    url = f"sqlite:///{tmp_path}/ours.db"
    ledger = Ledger("grid", url)
    keep(grid, tmp_path, ledger)
    optuna.delete_study(study_name="grid", storage=url)
    point = points(grid, tmp_path)[0]
    with pytest.raises(SlamError, match="another process has changed or deleted its study 'grid'"):
        ledger.note(point, Outcome("running", None, {10: 2.0}, {}))


def test_a_study_of_somebody_else_of_that_name_is_left_as_it_is(grid: Grid, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ours.db"
    theirs = optuna.create_study(study_name="grid", storage=url)
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(SlamError, match="has a study 'grid' with trials that are not of this"):
        keep(grid, tmp_path, Ledger("grid", url))
    assert [list(trial.params) for trial in theirs.get_trials()] == [["x"]]


@pytest.mark.parametrize(
    ("storage", "said"),
    [
        ("sqlite:///ledger.db?password=geheim", '--storage "$SLAM_STORAGE"'),
        ("my ledger.log", "--storage 'my ledger.log'"),
    ],
)
def test_the_next_command_names_the_storage_as_a_shell_reads_it(
    storage: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def conduct(*given: Any, command: str, **how: Any) -> int:
        told.append(command)
        return 0

    monkeypatch.setattr("sweeps.conduct.conduct", conduct)
    assert main(["search", "demo-rates", "--on", "local", "--storage", storage]) == 0
    assert told == [f"python -m sweeps search demo-rates --on local {said}"]


@pytest.mark.timeout(60)
def test_a_lock_left_by_a_killed_writer_is_taken_over(
    grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLAM_OUT", "runs")  # as where nothing is said
    path = Path(Ledger("grid").where)
    with monkeypatch.context() as patch:
        patch.setattr(JournalFileSymlinkLock, "release", lambda lock: None)
        journal(path).create_new_study([StudyDirection.MINIMIZE], "grid")
    assert path.with_name("journal.log.lock").is_symlink()
    some(grid, tmp_path, Ledger("grid"))
    first = next(spec for spec in grid.runs().values() if scratch.state(spec.id) == "missing")
    finish(first, 3.0)
    keep(grid, tmp_path, Ledger("grid"))
    assert not path.with_name("journal.log.lock").is_symlink()


def check_database(base: RunSpec, results: Path, url: str) -> None:
    grid = Grid(name="small", base=base, cross={"optim.lr": (1e-3, 3e-3, 1e-2)})
    first, second, _ = grid.runs().values()
    finish(first, 2.0)
    keep(grid, results, Ledger("small", url))
    finish(second, 3.0)
    keep(grid, results, Ledger("small", url))
    before = facts(Ledger("small", url).trials())
    assert [state for _, state, *_ in before].count("COMPLETE") == 2
    optuna.delete_study(study_name="small", storage=url)
    keep(grid, results, Ledger("small", url))
    assert facts(Ledger("small", url).trials()) == before
    keep(grid, results, Ledger("small"))
    assert facts(Ledger("small").trials()) == before


def test_sqlite(tiny_spec: RunSpec, slam_out: Path, tmp_path: Path) -> None:
    check_database(tiny_spec, tmp_path, f"sqlite:///{tmp_path}/ledger.db")


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[str]:
    """A server of its own on a free port; its URL, with a password."""
    driver = next((d for d in ("psycopg", "psycopg2") if find_spec(d)), None)
    if driver is None:
        pytest.skip("neither psycopg nor psycopg2 is installed")
    missing = [name for name in ("initdb", "pg_ctl") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"PostgreSQL is not installed ({', '.join(missing)} not on PATH)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = Path("/tmp") / f"slam-postgres-{os.getpid()}"
    home.mkdir(mode=0o700)
    secret = home.with_suffix(".password")
    secret.write_text("s3cr:t/word")
    as_user: list[str] = []
    if os.getuid() == 0:  # the server refuses to run as root
        as_user = ["runuser", "-u", "postgres", "--"]
        for path in (home, secret):
            shutil.chown(path, "postgres")

    def run(*command: str) -> None:
        done = subprocess.run([*as_user, *command], cwd="/", capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    try:
        run(
            "initdb",
            "-D",
            str(home),
            "-U",
            "slam",
            "-A",
            "scram-sha-256",
            "--no-sync",
            f"--pwfile={secret}",
        )
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {home}"
        run("pg_ctl", "-D", str(home), "-l", str(home / "log"), "-w", "-o", options, "start")
        try:
            yield f"postgresql+{driver}://slam:s3cr%3At%2Fword@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-D", str(home), "-m", "immediate", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)
        secret.unlink()


def test_postgresql(
    grid: Grid,
    tmp_path: Path,
    postgres: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    check_database(grid.base, tmp_path, postgres)
    monkeypatch.setitem(studies.STUDIES, "grid", grid)
    monkeypatch.setenv("SLAM_STORAGE", postgres)
    assert main(["ledger", "grid", "--results", str(tmp_path)]) == 0
    assert "SLAM_STORAGE" not in os.environ
    wrong = postgres.replace("s3cr", "wr0ng")
    assert main(["ledger", "grid", "--results", str(tmp_path), "--storage", wrong]) == 1
    said = capsys.readouterr()
    assert "://slam:***@127.0.0.1" in said.out
    assert 'optuna-dashboard "$SLAM_STORAGE"' in said.out
    assert "password authentication failed" in said.err
    for text in (said.out, said.err):
        assert "s3cr" not in text
        assert "wr0ng" not in text


def test_secrets_are_not_shown_and_strange_storages_refused(grid: Grid, tmp_path: Path) -> None:
    assert shown("mysql://u:geheim@h/d?password=geheim") == "mysql://u:***@h/d"
    with pytest.raises(UsageError, match="read through pickles"):
        keep(grid, tmp_path, Ledger("grid", "redis://h"))
    nowhere = f"sqlite:///{tmp_path}/none/ledger.db?password=geheim"
    with pytest.raises(SlamError, match="cannot be written") as refused:
        keep(grid, tmp_path, Ledger("grid", nowhere))
    assert "geheim" not in str(refused.value)
    assert str(refused.value).endswith('sweeps ledger grid --storage "$SLAM_STORAGE"')
    if find_spec("MySQLdb") is None:
        with pytest.raises(SlamError, match="pip install mysqlclient") as refused:
            keep(grid, tmp_path, Ledger("grid", "mysql://u:geheim@h/d"))
        assert "geheim" not in str(refused.value)


def test_the_command_says_where_the_ledger_is_and_what_matters(
    grid: Grid,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(studies.STUDIES, "grid", grid)
    options = ["--results", str(tmp_path)]
    assert main(["importance", "grid", *options]) == 1
    assert "importances need at least 4" in capsys.readouterr().err
    for spec in grid.runs().values():
        finish(spec, 2 + spec.optim.lr)
    assert main(["ledger", "grid", *options]) == 0
    said = capsys.readouterr().out
    assert "grid: 8 trials: 8 done, in " in said
    assert said.rstrip().endswith(f"optuna-dashboard {Ledger('grid').where}")
    assert main(["importance", "grid", *options]) == 0
    assert "optim.lr" in capsys.readouterr().out.splitlines()[0]
