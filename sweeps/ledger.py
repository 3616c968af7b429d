"""The ledger of a study: an Optuna study in which every point is a trial, in any storage.

It is written, never believed: what a trial says follows from the declaration and the facts, so the
storage may be deleted, and one that contradicts them is made again.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import DuplicatedStudyError, UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError

from slam_core import scratch
from slam_core.errors import SlamError
from sweeps.grid import Study, as_folder
from sweeps.points import Facts, Outcome, Point, objective, points
from sweeps.space import Distribution, Int, LogUniform, OneOf, Uniform
from sweeps.storage import database, hidden, journal, shown

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)

STATES: dict[str, TrialState] = {
    "missing": TrialState.WAITING,
    "running": TrialState.RUNNING,
    "interrupted": TrialState.RUNNING,
    "done": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "diverged": TrialState.PRUNED,
    "failed": TrialState.FAIL,
    "excluded": TrialState.FAIL,
}


def frozen(point: Point, outcome: Outcome, state: TrialState | None = None) -> FrozenTrial:
    """A point as a trial, by default in the state that its outcome has."""
    state = STATES[outcome.state] if state is None else state
    losses = dict(outcome.losses)
    value = outcome.value if state == TrialState.COMPLETE else None
    if state == TrialState.PRUNED and losses:
        value = losses[max(losses)]
    if state == TrialState.COMPLETE and value is None:
        state = TrialState.FAIL  # done, but not scored on the objective's corpus
    return create_trial(
        state=state,
        value=value,
        params=dict(point.params),
        distributions={n: distribution(d) for n, d in point.distributions.items()},
        user_attrs={
            "runs": point.key,
            "label": point.label,
            "state": outcome.state,
            **{f"nll {run}": nll for run, nll in outcome.seeds.items() if len(point.runs) > 1},
        },
        intermediate_values=losses,
    )


def distribution(part: Distribution) -> BaseDistribution:
    match part:
        case Uniform():
            return FloatDistribution(part.low, part.high, step=part.step)
        case LogUniform():
            return FloatDistribution(part.low, part.high, log=True)
        case Int():
            return IntDistribution(part.low, part.high, log=part.log)
        case OneOf():
            return CategoricalDistribution(part.values)


def keep(study: Study, results: Path, ledger: Ledger) -> list[str]:
    """Make `ledger` say what the facts say of a study; the states of its points."""
    found, facts = points(study, results), Facts(results, study)
    corpus = objective(study, found)
    outcomes = {point.key: facts.outcome(point, corpus) for point in found}
    ledger.write(found, outcomes, f"validation NLL on {corpus}, nats per unit")
    return [outcome.state for outcome in outcomes.values()]


def importances(study: Study, results: Path) -> dict[str, float]:
    """Field -> its share of what tells a study's better trials from the others, the most first.

    PED-ANOVA (Watanabe et al. 2023), which also takes conditional fields. `SlamError` if fewer than
    four trials are done.
    """
    found, facts = points(study, results), Facts(results, study)
    corpus = objective(study, found)
    trials = [frozen(point, facts.outcome(point, corpus)) for point in found]
    done = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if len(done) < 4:
        raise SlamError(f"{study.name} has {len(done)} done trials; importances need at least 4")
    memory = optuna.create_study(study_name=study.name)
    memory.add_trials(done)
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    return optuna.importance.get_param_importances(memory, evaluator=evaluator)


class Ledger:
    """The Optuna study called `study` in a storage: by default a journal file below $SLAM_OUT,
    else a file's path or a database's URL. One process writes at a time (`held`). `typed`: how
    commands name the study, if by a file."""

    def __init__(self, study: str, storage: str | None = None, typed: str | None = None):
        self.study, self.typed = study, typed or study
        self._claim = f"ledgers/{as_folder(study)}"
        self._file: Path | None = None
        if storage is None:
            self._file = scratch.run_folder(self._claim) / "journal.log"
        elif "://" not in storage:
            self._file = Path(storage)
        self._url = storage
        self._opened: BaseStorage | None = None
        self._trials: dict[str, FrozenTrial] = {}

    @property
    def where(self) -> str:
        """The storage as it may be shown: without its password."""
        return str(self._file) if self._file else shown(self._url or "")

    @property
    def option(self) -> str:
        """The storage as a command may repeat it, quoted."""
        secret = self._file is None and self.where != self._url
        return '"$SLAM_STORAGE"' if secret else quote(self.where)

    @property
    def dashboard(self) -> str:
        """The command that shows it in a browser."""
        return f"optuna-dashboard {self.option}"

    @contextmanager
    def held(self) -> Iterator[None]:
        """The right to write; `Busy` while another process has it."""
        with scratch.claim(self._claim):
            yield

    def write(self, points: Sequence[Point], outcomes: Mapping[str, Outcome], about: str) -> None:
        """Make the storage say what the outcomes (by point key) say, and nothing else.

        `SlamError` if it cannot be reached or written, or has somebody else's study of that name.
        """
        wanted = {point.key: frozen(point, outcomes[point.key]) for point in points}
        with self._errors():
            self._open()
            if set(self._trials) - set(wanted) or any(
                not _may_become(self._trials[key], trial)
                for key, trial in wanted.items()
                if key in self._trials
            ):
                self._start_again()
            self._storage.set_study_user_attr(self._id, "about", about)
            for key, trial in wanted.items():
                self._put(key, trial)

    def note(self, point: Point, outcome: Outcome) -> bool:
        """Write how one point stands; False if the storage contradicts it: then `write` all."""
        trial = frozen(point, outcome)
        with self._errors():
            before = self._trials.get(point.key)
            if before is not None and not _may_become(before, trial):
                return False
            self._put(point.key, trial)
        return True

    def trials(self) -> list[FrozenTrial]:
        """What the storage says."""
        with self._errors():
            self._open()
            return self._storage.get_all_trials(self._id)

    def _put(self, key: str, trial: FrozenTrial) -> None:
        before = self._trials.get(key)
        if before is None:
            number = self._storage.create_new_trial(self._id, trial)
        elif before.state.is_finished():
            return
        else:
            number = before._trial_id
            for step, loss in trial.intermediate_values.items():
                if before.intermediate_values.get(step) != loss:
                    self._storage.set_trial_intermediate_value(number, step, loss)
            for name, said in trial.user_attrs.items():
                if before.user_attrs.get(name) != said:
                    self._storage.set_trial_user_attr(number, name, said)
            if before.state == TrialState.WAITING and trial.state != TrialState.WAITING:
                self._storage.set_trial_state_values(number, TrialState.RUNNING)
            if trial.state.is_finished():
                self._storage.set_trial_state_values(number, trial.state, trial.values)
        trial._trial_id = number
        self._trials[key] = trial

    @property
    def _storage(self) -> BaseStorage:
        assert self._opened is not None
        return self._opened

    def _open(self) -> None:
        if self._opened is None:
            self._opened = journal(self._file) if self._file else database(self._url or "")
        names = {one.study_name: one._study_id for one in self._storage.get_all_studies()}
        if self.study not in names:
            names[self.study] = self._storage.create_new_study(
                [StudyDirection.MINIMIZE], self.study
            )
        self._id = names[self.study]
        self._trials = {
            trial.user_attrs.get("runs", f"trial {trial.number}"): trial
            for trial in self._storage.get_all_trials(self._id)
        }

    def _start_again(self) -> None:
        if any("runs" not in trial.user_attrs for trial in self._trials.values()):
            raise SlamError(
                f"{self.where} has a study '{self.study}' with trials that are not of this suite, "
                "which is left as it is; say another --storage, or name the study otherwise"
            )
        self._storage.delete_study(self._id)
        # A file that was asked for may be other studies', too, which write to it as they like.
        if self._file and self._url is None:
            self._file.unlink(missing_ok=True)
            self._opened = None
        self._open()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """A storage that does not answer, in words and without its password."""
        try:
            yield
        except (SQLAlchemyError, optuna.exceptions.OptunaError, KeyError, OSError) as error:
            cause = error.__cause__ or error
            said = str(getattr(cause, "orig", cause)).strip().partition("\n")[0]
            if isinstance(error, KeyError | UpdateFinishedTrialError | DuplicatedStudyError):
                said = f"another process has changed or deleted its study '{self.study}'"
            there = f" --storage {self.option}" if self._url else ""
            raise SlamError(
                f"the ledger in {self.where} cannot be written: {hidden(said, self._url)}; mend "
                f"it, then: python -m sweeps ledger {self.typed}{there}"
            ) from None


def _may_become(before: FrozenTrial, after: FrozenTrial) -> bool:
    """Whether Optuna lets the one trial become the other: what is finished is not edited."""
    if before.params != after.params or before.distributions != after.distributions:
        return False
    if before.state.is_finished():
        return (before.state, before.values, before.intermediate_values, before.user_attrs) == (
            *(after.state, after.values, after.intermediate_values, after.user_attrs),
        )
    if before.state == TrialState.RUNNING and after.state == TrialState.WAITING:
        return False
    lost = set(before.intermediate_values) - set(after.intermediate_values)
    return not (after.state.is_finished() and lost)
