"""The solver: its losses and derivatives, its bounds, and many problems as if each were alone."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from analysis.laws import Floats
from analysis.solve import solver
from analysis.solve.solver import Formula, Loss, Reduced, condition, descend, distinct
from slam_core.errors import UsageError

X = np.linspace(0.0, 3.0, 25)
WIDE = np.full(3, 20.0)
LOSSES = [
    Loss("huber", 1e-3),
    Loss("huber", 0.3),
    Loss("huber", 0.3, above=4.0),
    Loss("mse"),
    Loss("mse", above=0.25),
    Loss("mae"),
    Loss("mae", above=3.0),
]


def decay(lower: Floats = -WIDE, upper: Floats = WIDE) -> Formula:
    """a exp(-b x) + c."""

    def f(t: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        return t[:, :1] * np.exp(-t[:, 1:2] * X) + t[:, 2:3]

    return Formula(f, lower, upper)


def decay_slopes(t: Floats) -> Floats:
    e = np.exp(-t[:, 1:2] * X)
    return np.stack([e, -t[:, :1] * X * e, np.ones_like(e)], axis=1)


def planted(many: int, sd: float, seed: int) -> tuple[Floats, Floats, Floats]:
    """Starts, data and weights of so many decays with noise."""
    rng = np.random.default_rng(seed)
    true = np.stack(
        [rng.uniform(1, 3, many), rng.uniform(0.5, 2, many), rng.uniform(-1, 1, many)], axis=1
    )
    z = decay().at(true).value + rng.normal(0, sd, (many, len(X)))
    return true * rng.uniform(0.7, 1.3, true.shape), z, rng.uniform(0.5, 2, z.shape)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_forces_are_the_derivatives_of_the_objective(loss: Loss) -> None:
    rng = np.random.default_rng(0)
    r = np.append(rng.normal(0, 1, 60), rng.normal(0, 0.1, 60))
    r = r[np.abs(np.abs(r) - loss.delta) > 1e-5]  # not astride the knee
    r, w = r[None], rng.uniform(0.1, 3, (1, len(r)))
    value, pull, inside = loss.forces(r, w)
    assert value.shape == (1,)
    step = 1e-6
    for i in range(r.shape[1]):
        ahead, behind = r.copy(), r.copy()
        ahead[0, i] += step
        behind[0, i] -= step
        above, below = loss.forces(ahead, w), loss.forces(behind, w)
        assert pull[0, i] == pytest.approx(
            (above[0] - below[0])[0] / (2 * step), rel=1e-5, abs=1e-6
        )
        bend = (above[1] - below[1])[0, i] / (2 * step)
        assert inside[0, i] == pytest.approx(bend, rel=1e-5, abs=1e-6)


def test_losses_are_what_they_are_called() -> None:
    r, w = np.array([[0.1, -0.2, 0.5, -2.0]]), np.array([[1.0, 2.0, 3.0, 4.0]])
    assert Loss("mse").total(r, w)[0] == pytest.approx(0.5 * (0.01 + 0.08 + 0.75 + 16), rel=1e-14)
    assert Loss("mae").total(r, w)[0] == pytest.approx(0.1 + 0.4 + 1.5 + 8, rel=1e-14)
    knee = 0.25
    huber = 0.5 * 0.01 + 0.5 * 0.08 + 3 * knee * (0.5 - knee / 2) + 4 * knee * (2 - knee / 2)
    assert Loss("huber", knee).total(r, w)[0] == pytest.approx(huber, rel=1e-14)
    # Only what lies above its point, r > 0, is multiplied.
    above = 3 * (0.005 + 3 * knee * 0.375) + 0.04 + 4 * knee * 1.875
    assert Loss("huber", knee, above=3).total(r, w)[0] == pytest.approx(above, rel=1e-14)
    assert Loss("mae", above=2).total(r, w)[0] == pytest.approx(0.2 + 0.4 + 3 + 8, rel=1e-14)
    assert Loss("huber", 1e9).total(r, w) == pytest.approx(Loss("mse").total(r, w), rel=1e-14)
    sharp = Loss("huber", 1e-9)
    assert sharp.total(r, w) / 1e-9 == pytest.approx(Loss("mae").total(r, w), rel=1e-8)


@pytest.mark.parametrize("wrong", [{"delta": 0.0}, {"delta": -1.0}, {"above": 0.0}])
@pytest.mark.parametrize("value", [None, np.nan])
def test_a_loss_needs_a_delta_and_a_side(wrong: dict[str, float], value: float | None) -> None:
    given = {name: number if value is None else value for name, number in wrong.items()}
    with pytest.raises(UsageError, match=r"has to be above 0 and finite"):
        Loss(**given)  # type: ignore[arg-type]


@settings(max_examples=50, deadline=None)
@given(st.tuples(st.floats(0.2, 4), st.floats(0.1, 3), st.floats(-2, 2)), st.integers(0, 999))
def test_a_formula_has_exact_derivatives(theta: tuple[float, float, float], seed: int) -> None:
    """Slopes to rounding by complex steps; curvature by differences of those."""
    rng = np.random.default_rng(seed)
    t = np.array([theta])
    pull, inside = rng.normal(size=(1, len(X))), rng.uniform(0, 1, (1, len(X)))
    state = decay().at(t)
    slopes = decay_slopes(t)
    a, b = t[0, :2]
    e = np.exp(-b * X)
    assert state.value[0] == pytest.approx(a * e + t[0, 2], rel=1e-14)
    assert state.slopes() == pytest.approx(slopes, rel=1e-13, abs=1e-15)
    assert state.gradient(pull)[0] == pytest.approx(slopes[0] @ pull[0], rel=1e-11, abs=1e-13)
    lengths = np.sqrt((slopes[0] ** 2) @ inside[0])
    assert state.lengths(inside)[0] == pytest.approx(lengths, rel=1e-12)
    second = np.zeros((3, 3, len(X)))
    second[0, 1] = second[1, 0] = -X * e
    second[1, 1] = a * X**2 * e
    expected = (slopes[0] * inside[0]) @ slopes[0].T + second @ pull[0]
    assert state.hessian(inside, pull)[0] == pytest.approx(expected, rel=1e-7, abs=1e-7)


def test_a_reduced_model_ties_and_pins() -> None:
    """a = c and b = 0.7: one unknown in place of three, its bounds those that both allow."""
    inner = decay(np.array([-1.0, -5, -3]), np.array([4.0, 5, 2]))
    model = Reduced(inner, np.array([0.0, 0.7, 0.0]), np.array([[1.0, 0.0, 1.0]]))
    assert (model.lower.tolist(), model.upper.tolist()) == ([-1.0], [2.0])
    assert model.full(np.array([[1.5]])).tolist() == [[1.5, 0.7, 1.5]]

    def tied(t: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        return t[:, :1] * (np.exp(-0.7 * X) + 1)

    alone = Formula(tied, model.lower, model.upper)
    rng = np.random.default_rng(0)
    phi, pull = np.array([[1.5], [-0.5]]), rng.normal(size=(2, len(X)))
    inside = rng.uniform(0, 1, pull.shape)
    one, other = model.at(phi), alone.at(phi)
    assert one.value == pytest.approx(other.value, rel=1e-14)
    assert one.slopes() == pytest.approx(other.slopes(), rel=1e-13)
    assert one.gradient(pull) == pytest.approx(other.gradient(pull), rel=1e-12)
    assert one.lengths(inside) == pytest.approx(other.lengths(inside), rel=1e-12)
    assert one.hessian(inside, pull) == pytest.approx(other.hessian(inside, pull), rel=1e-6)
    z = alone.at(np.array([[1.2]])).value[0] + rng.normal(0, 0.1, len(X))
    found = [descend(m, phi, z, np.ones(len(X)), Loss("mse")) for m in (model, alone)]
    basis = np.exp(-0.7 * X) + 1
    for theta, value, converged in found:
        assert converged.all()
        assert theta[:, 0] == pytest.approx(basis @ z / (basis @ basis), rel=1e-9)
        assert value == pytest.approx(0.5 * ((theta[0, 0] * basis - z) ** 2).sum(), rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), kind=st.sampled_from(["mse", "huber"]))
def test_the_ends_are_those_of_scipy(seed: int, kind: str) -> None:
    start, z, w = planted(1, 0.05, seed)
    loss = Loss("mse") if kind == "mse" else Loss("huber", 0.02)
    theta, value, converged = descend(decay(), start, z, w, loss)
    assert converged.all()

    def residuals(t: Floats) -> Floats:
        return np.asarray(decay().at(t[None]).value[0] - z[0])

    if kind == "mse":  # weights by their roots
        root = np.sqrt(w[0])
        known = least_squares(
            lambda t: root * residuals(t), start[0], xtol=1e-15, ftol=1e-15, gtol=1e-15
        )
        assert value[0] == pytest.approx(known.cost, rel=1e-9)
        assert theta[0] == pytest.approx(known.x, rel=1e-5, abs=1e-6)
        return
    theta, value, converged = descend(decay(), start, z, np.ones(len(X)), loss)
    options = {"loss": "huber", "f_scale": 0.02, "xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
    known = least_squares(residuals, start[0], **options)
    assert converged.all()
    assert value[0] <= known.cost * (1 + 1e-9)
    better = least_squares(residuals, theta[0], **options)
    assert better.cost == pytest.approx(value[0], rel=1e-9)


def test_an_absolute_loss_ends_at_the_median() -> None:
    """And with `above` at the quantile that it weighs for: 1 / (1 + 3) of the points below."""
    z = np.random.default_rng(0).normal(2, 1, 401)
    model = Formula(lambda t: t[:, :1] + 0 * z, np.array([-9.0]), np.array([9.0]))
    start = np.array([[0.0], [5.0]])
    theta, value, _ = descend(model, start, z, np.ones(401), Loss("mae"))
    assert theta[:, 0] == pytest.approx([np.median(z)] * 2, abs=1e-6)
    assert value == pytest.approx(np.abs(z - np.median(z)).sum(), rel=1e-7)
    theta, _, _ = descend(model, start, z, np.ones(401), Loss("mae", above=3.0))
    assert ((z < theta[0, 0] - 1e-6).sum(), (z > theta[0, 0] + 1e-6).sum()) == (100, 300)


@pytest.mark.parametrize("loss", [Loss("huber", 0.02), Loss("mse"), Loss("mse", above=5)], ids=str)
def test_more_problems_than_fit_the_window_are_solved_as_if_alone(loss: Loss) -> None:
    many = 3 * solver._WINDOW + 17
    start, z, w = planted(many, 0.05, seed=5)
    theta, value, converged = descend(decay(), start, z, w, loss)
    assert converged.all()
    for i in [*range(0, many, 23), many - 1]:
        alone, least, fine = descend(decay(), start[i : i + 1], z[i], w[i], loss)
        assert fine.all()
        assert theta[i] == pytest.approx(alone[0], rel=1e-7, abs=1e-8)
        assert value[i] == pytest.approx(least[0], rel=1e-11)
    order = np.random.default_rng(0).permutation(many)
    again, values, _ = descend(decay(), start[order], z[order], w[order], loss)
    assert values == pytest.approx(value[order], rel=1e-11)
    assert again == pytest.approx(theta[order], rel=1e-7, abs=1e-8)


def test_shared_data_are_the_same_as_a_copy_for_each() -> None:
    start, z, w = planted(300, 0.05, seed=6)
    one = descend(decay(), start, z[0], w[0], Loss("mse"))
    for shape in (z[:1], w[:1]), (np.tile(z[0], (300, 1)), np.tile(w[0], (300, 1))):
        other = descend(decay(), start, *shape, Loss("mse"))
        assert other[1] == pytest.approx(one[1], rel=1e-12)
        assert other[0] == pytest.approx(one[0], rel=1e-7)


def test_the_units_of_the_unknowns_and_weights_change_nothing() -> None:
    start, z, w = planted(20, 0.05, seed=7)
    loss = Loss("huber", 0.02)
    theta, value, _ = descend(decay(), start, z, w, loss)
    scale = np.array([1e-6, 1e4, 1e3])

    def f(t: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        return decay().f(t / scale)

    other = Formula(f, -WIDE * scale, WIDE * scale)
    scaled, least, converged = descend(other, start * scale, z, w * 1e-8, loss)
    assert converged.all()
    assert scaled / scale == pytest.approx(theta, rel=1e-6)
    assert least == pytest.approx(1e-8 * value, rel=1e-9)


def test_an_end_at_a_bound_is_on_it_and_the_best_in_the_box() -> None:
    start, z, w = planted(40, 0.01, seed=8)
    lower, upper = np.array([-20.0, -20.0, 0.3]), np.array([20.0, 0.9, 20.0])
    theta, value, converged = descend(decay(lower, upper), start, z, w, Loss("mse"))
    assert converged.all()
    assert (theta >= lower).all()
    assert (theta <= upper).all()
    held = (theta[:, 1] == 0.9) | (theta[:, 2] == 0.3)
    assert held.sum() > 20
    for i in np.flatnonzero(held)[:10]:
        root = np.sqrt(w[i])
        known = least_squares(
            lambda t, root=root, i=i: root * (decay().at(t[None]).value[0] - z[i]),  # type: ignore[misc]
            np.clip(theta[i], lower + 1e-3, upper - 1e-3),
            bounds=(lower, upper),
            xtol=1e-15,
            ftol=1e-15,
            gtol=1e-15,
        )
        assert value[i] <= known.cost * (1 + 1e-8)
    outside = descend(decay(lower, upper), np.full((1, 3), 99.0), z[0], w[0], Loss("mse"))
    assert (outside[0] <= upper).all()


def hole(t: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """exp(t) at four points; no number beyond t = 5."""
    return np.where(np.real(t[:, :1]) > 5, np.nan, np.exp(t[:, :1])) * np.ones(4)


@pytest.mark.parametrize("bad", [np.nan, 6.0])
def test_a_start_without_a_value_is_given_up_and_said(bad: float) -> None:
    """A NaN start, or one at which the model has none, ends at once and is not called converged,
    wherever in the queue it stands; the others are not disturbed."""
    model = Formula(hole, np.array([-10.0]), np.array([10.0]))
    start = np.ones((2 * solver._WINDOW + 5, 1))
    at = [0, 1, solver._WINDOW + 3, len(start) - 1]
    start[at] = bad
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theta, value, converged = descend(model, start, 2 * np.ones(4), np.ones(4), Loss("mse"))
    fine = np.delete(np.arange(len(start)), at)
    assert converged[fine].all()
    assert theta[fine, 0] == pytest.approx(np.log(2), rel=1e-9)
    assert not np.isfinite(value[at]).any()
    assert not converged[at].any()


def test_steps_into_a_hole_are_shortened() -> None:
    """A full Newton step from -3 would land where the model has no value."""
    model = Formula(hole, np.array([-10.0]), np.array([10.0]))
    theta, _, converged = descend(
        model, np.array([[-3.0]]), 2 * np.ones(4), np.ones(4), Loss("mse")
    )
    assert converged.all()
    assert theta[0, 0] == pytest.approx(np.log(2), rel=1e-9)


def test_nothing_to_do_is_done() -> None:
    start, z, w = planted(3, 0.0, seed=9)
    exact = decay().at(start).value
    theta, value, converged = descend(decay(), start, exact, w, Loss("mse"))
    assert converged.all()
    assert value == pytest.approx(0, abs=1e-25)
    assert theta == pytest.approx(start, rel=1e-9)
    _, value, converged = descend(decay(), start, z, np.zeros_like(w), Loss("mse"))
    assert converged.all()
    assert value.tolist() == [0, 0, 0]


def test_distinct_optima_are_told_apart_best_first() -> None:
    theta = np.array([[1.0, 0], [1.0, 9], [2.0, 0], [1.0005, 0], [5.0, 0], [3.0, 0]])
    value = np.array([1.0, 1.0, 0.5, 0.9, 0.7, 0.5])
    converged = np.array([True, True, True, True, False, False])
    # 4 is neither stationary nor lowest; 5 is as low as the best but not stationary.
    assert distinct(theta, value, converged) == [2, 5, 3, 1]
    assert distinct(theta, value, converged, slice(0, 1)) == [2, 5, 3]
    assert distinct(theta[:1], value[:1], converged[4:5]) == [0]


def test_the_condition_number_is_of_directions_not_of_units() -> None:
    one, other = np.array([1.0, 0, 0]), np.array([0, 1.0, 0])
    assert condition(np.stack([one, other])) == pytest.approx(1)
    assert condition(np.stack([1e9 * one, 1e-9 * other])) == pytest.approx(1)
    # At 60 degrees the Gram matrix has eigenvalues 1.5 and 0.5.
    assert condition(np.stack([one, 0.5 * one + np.sqrt(0.75) * other])) == pytest.approx(3)
    assert condition(np.stack([one, 0 * other])) == np.inf
