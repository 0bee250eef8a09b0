"""Every representation of the folds is the same problem."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

from skhypergrad.bilevel import Implicit, LinearModel, criteria, held_out, losses
from skhypergrad.bilevel.folds import Affine, Parts, Table, affine, choice, cut, factors, tables
from skhypergrad.bilevel.folds import squared as condensing
from skhypergrad.bilevel.folds.data import padded
from skhypergrad.bilevel.matrices import TwoPrecisions
from skhypergrad.bilevel.tune import _start, _step


def alpha(hyper):
    return hyper["alpha"]


def table(n, p, rng, K=3, weighted=False, binary=False):
    X = rng.normal(size=(n, p)) + 1
    y = X @ rng.normal(size=(p, 1)) / np.sqrt(p) + rng.normal(size=(n, 1)) + 2
    if binary:
        y = (y > y.mean()).astype(float)
    test = np.arange(n) % K == np.arange(K)[:, None]
    s = rng.integers(n < 50, 3, n) / 2 if weighted else np.ones(n)
    return Table(X, y, ~test * s, test * s, np.zeros((K, 1)), np.ones(K))


def solve(table, squared, fit_intercept, strength=0.5):
    loss, criterion = (losses.squared, criteria.r2) if squared else (losses.logistic, criteria.log_loss)
    with jax.enable_x64(True):
        folds = cut(table, squared=squared, fit_intercept=fit_intercept)
        problem = held_out(LinearModel(loss, alpha, folds.fit_intercept), criterion)
        hyper, method = {"alpha": jnp.asarray(strength)}, Implicit(tol=1e-12)
        carry = _start(problem, folds.axes, method, hyper, folds.data)
        value, gradient, carry = _step(problem, folds.axes, method, hyper, folds.data, carry, 1e-12)
        coef, intercept = folds.restore(carry.params)
    return np.array([value, gradient["alpha"]]), coef, intercept


def same(a, b, tolerance=1e-8):
    for ours, theirs in zip(a, b, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance * max(np.abs(theirs).max(), 1e-4))


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize(("n", "p", "fit_intercept"), [(200, 4, True), (30, 6, False), (24, 40, True)])
def test_dense_rows_in_a_new_basis_are_the_sparse_rows_in_their_own(n, p, fit_intercept, squared, rng):
    dense = table(n, p, rng, weighted=True, binary=not squared)
    sparse = dense._replace(X=scipy.sparse.csr_array(dense.X))
    same(solve(dense, squared, fit_intercept), solve(sparse, squared, fit_intercept))


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize(("n", "p"), [(200, 4), (12, 40)])
def test_folds_with_their_own_x_equal_shared_ones(n, p, squared, rng):
    shared = table(n, p, rng, binary=not squared)
    same(solve(shared._replace(X=[Parts.of(shared.X)] * 3), squared, True), solve(shared, squared, True))


@pytest.mark.parametrize("squared", [True, False])
def test_folds_scaled_apart_share_rows_exactly(squared, rng, monkeypatch):
    base = table(90, 5, rng, binary=not squared)
    scales, shifts = rng.uniform(0.5, 2, (3, 5)), rng.normal(size=(3, 5))
    apart = base._replace(X=[Parts.of(base.X * s + m) for s, m in zip(scales, shifts, strict=True)])
    assert affine(apart.X) is not None
    found = solve(apart, squared, True)
    same(found, solve(base._replace(X=Affine(base.X, scales, shifts)), squared, True))
    monkeypatch.setattr(choice, "affine", lambda matrices: None)
    same(found, solve(apart, squared, True))


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize(("n", "p", "fit_intercept"), [(90, 5, False), (24, 40, True), (24, 40, False), (90, 5, True)])
def test_scales_and_shifts_are_those_of_tables_that_were_made(n, p, fit_intercept, squared, rng, monkeypatch):
    base = table(n, p, rng, weighted=True, binary=not squared)
    known = Affine(base.X, rng.uniform(0.5, 2, (3, p)), rng.normal(size=(3, p)))
    made = base._replace(X=[Parts.of(base.X * s + m) for s, m in zip(known.scale, known.shift, strict=True)])
    found = solve(base._replace(X=known), squared, fit_intercept)
    monkeypatch.setattr(choice, "affine", lambda matrices: None)
    same(found, solve(made, squared, fit_intercept))
    monkeypatch.setattr(choice, "LARGEST_BASIS", 3)
    same(solve(base._replace(X=known), squared, fit_intercept), found)


@pytest.mark.parametrize("squared", [True, False])
def test_rows_that_are_there_twice_are_factorised_by_rotations(squared, rng):
    few = table(12, 40, rng, binary=not squared)
    twice = Table(
        np.repeat(few.X, 2, axis=0), np.repeat(few.y, 2, axis=0), *(np.repeat(w, 2, axis=1) for w in few[2:4]), *few[4:]
    )
    weighted = few._replace(train_weight=2 * few.train_weight, test_weight=2 * few.test_weight)
    same(solve(twice, squared, True), solve(weighted, squared, True))


def test_a_rough_first_solution_changes_nothing(rng, monkeypatch):
    rows = table(90, 5, rng, binary=True)
    apart = rows._replace(X=[Parts.of(rows.X * s) for s in (1.0, 2.0, 3.0)])
    plain = solve(apart, False, True)
    monkeypatch.setattr(choice, "MANY_CELLS", 0)
    same(solve(apart, False, True), plain)


def test_more_classes_are_more_work_and_worth_another_precision(rng):
    X = rng.normal(size=(1024, 64))
    for outputs, two in ((1, False), (7, False), (8, True)):
        assert isinstance(choice._held(X, outputs), TwoPrecisions) is two


def test_the_held_out_rows_are_not_held_twice(rng):
    rows = table(90, 5, rng, binary=True)
    fold = cut(rows, squared=False, fit_intercept=True).data
    assert fold.test.X is None
    held = fold.held_out()
    assert held.X is fold.train.X
    np.testing.assert_array_equal(held.weight[:, :90], rows.test_weight)


def test_preprocessing_that_does_more_than_scale_is_not_mistaken(rng):
    X = rng.normal(size=(20, 3))
    assert affine([Parts.of(X), Parts.of(X)]) is not None
    assert affine([Parts.of(X), Parts.of(X**2)]) is None
    assert affine([Parts.of(X), Parts.of(X[:, ::-1])]) is None
    assert affine([Parts.of(X), Parts.of(X[:, :2])]) is None
    nearly = X.copy()
    nearly[3, 1] += 1e-6
    assert affine([Parts.of(X), Parts.of(nearly)]) is None
    constant = np.column_stack([X, np.ones(20)])
    assert affine([Parts.of(constant), Parts.of(2 * constant)]) is not None


def test_a_table_in_pieces_is_the_table(rng):
    X, (train, test) = rng.normal(size=(30, 4)), np.split(rng.permutation(30), [22])
    pieces = Parts(30, ((train, X[train]), (test, X[test])))
    assert pieces.is_complete
    np.testing.assert_array_equal(pieces.whole(), X)
    for index in (train, test, np.arange(0, 30, 3)):
        np.testing.assert_array_equal(pieces.take(index), X[index])
    rows, columns = rng.integers(30, size=9), rng.integers(4, size=9)
    np.testing.assert_array_equal(pieces.cells(rows, columns), X[rows, columns])
    np.testing.assert_array_equal(pieces.largest(), np.abs(X).max(axis=0))
    assert affine([pieces, Parts.of(2 * X + 1)]) is not None
    assert affine([pieces, Parts.of(X**3)]) is None
    lacking = Parts(30, ((train, X[train]),))
    assert not lacking.is_complete
    assert not lacking.whole()[test].any()
    assert affine([Parts.of(X), lacking]) is None


def test_folds_with_different_columns_are_padded(rng):
    base = table(40, 6, rng)
    ragged = base._replace(X=[Parts.of(X) for X in (base.X, base.X[:, :5], base.X)])
    other = np.column_stack([base.X[:, :5], np.zeros(40)])
    wide = base._replace(X=[Parts.of(X) for X in (base.X, other, base.X)])
    same(solve(ragged, True, True), solve(wide, True, True))


@pytest.mark.parametrize("squared", [True, False])
def test_a_row_of_weight_zero_is_no_row_even_an_extreme_one(squared, rng):
    full = table(60, 4, rng, weighted=True, binary=not squared)
    kept = full.train_weight.sum(axis=0) + full.test_weight.sum(axis=0) > 0
    X = full.X.copy()
    X[~kept] = 1e9
    few = Table(
        full.X[kept], full.y[kept], full.train_weight[:, kept], full.test_weight[:, kept], full.offset, full.share
    )
    same(solve(full._replace(X=X), squared, True), solve(few, squared, True))


def test_blocks_of_rows_change_nothing(rng, monkeypatch):
    long = table(400, 3, rng, weighted=True)
    assert len(condensing.Source.of(long).condensed().ones) < 200
    found = solve(long, True, True)
    monkeypatch.setattr(condensing.Source, "condensed", lambda source: source)
    same(found, solve(long, True, True), 1e-10)


def test_a_larger_than_factorisable_matrix_keeps_its_basis(rng, monkeypatch):
    small = table(60, 7, rng, binary=True)
    found = solve(small, False, True)
    monkeypatch.setattr(choice, "LARGEST_BASIS", 3)
    same(solve(small, False, True), found)


def test_features_of_very_different_scale(rng):
    """The result on standardised data, mapped back: features times 1e-12 ... 1e12 with penalties to match would be the
    same; with one penalty the large ones are free and the small ones zero, and every number stays finite."""
    wild = table(80, 5, rng)
    found = solve(wild._replace(X=wild.X * 10.0 ** np.array([-12, -6, 0, 6, 12])), True, True)
    assert all(np.isfinite(part).all() for part in found)
    free = solve(wild._replace(X=wild.X[:, 2:] * 10.0 ** np.array([0, 6, 12])), True, True)
    np.testing.assert_allclose(found[0][0], free[0][0], rtol=1e-6)


@pytest.mark.parametrize("n", [1, 8, 9, 100, 1000, 12345])
def test_padding_wastes_at_most_a_quarter(n):
    assert n <= padded(n) <= max(8, 1.25 * n + 1)
    assert padded(padded(n)) == padded(n)


def test_a_fold_without_a_share_is_solved_and_not_judged(rng):
    three = table(60, 4, rng)
    rows = np.ones((1, 60))
    four = Table(
        three.X,
        three.y,
        np.vstack([three.train_weight, rows]),
        np.vstack([three.test_weight, rows]),
        np.zeros((4, 1)),
        np.array([4 / 3, 4 / 3, 4 / 3, 0.0]),
    )
    scores, coef, intercept = solve(four, True, True)
    same((scores, coef[:3], intercept[:3]), solve(three, True, True))
    centred = three.X - three.X.mean(axis=0)
    oracle = np.linalg.solve(centred.T @ centred + 0.5 * np.eye(4), centred.T @ (three.y - three.y.mean()))
    np.testing.assert_allclose(coef[3], oracle, rtol=1e-9)


@pytest.mark.parametrize("condition", [10, 900, 1100, 1e7])
def test_triangles_are_as_exact_as_their_condition_allows(condition, monkeypatch):
    rng = np.random.default_rng(0)
    U, V = np.linalg.qr(rng.normal(size=(300, 8)))[0], np.linalg.qr(rng.normal(size=(8, 8)))[0]
    rows = (U * np.geomspace(1, 1 / condition, 8)) @ V
    scales = 10.0 ** rng.integers(-6, 6, 8)
    asked = []
    orthogonal = factors._orthogonal_triangle
    monkeypatch.setattr(factors, "_orthogonal_triangle", lambda rows: asked.append(1) or orthogonal(rows))
    triangle = factors.triangle(rows * scales)
    # an orthogonal matrix leads from the triangle back to the rows, whatever the units of the columns
    left = rows @ np.linalg.inv(triangle / scales)
    assert np.abs(left.T @ left - np.eye(8)).max() <= (1e-9 if condition < 1e4 else 1e-3)
    assert bool(asked) == (condition > 1000)


def test_the_extremes_of_a_column_with_one_large_cell():
    X = np.random.default_rng(0).normal(size=(5000, 3))
    X[17, 1] = 1e3
    top, bottom = tables._extremes(X)
    assert top[1] == 17
    spans = X[top, np.arange(3)] - X[bottom, np.arange(3)]
    assert np.all(10 * spans >= np.ptp(X, axis=0))


def test_columns_that_are_alike_are_found(rng):
    few = rng.integers(0, 2, size=(6, 5)).astype(float)
    columns = few[:, rng.integers(0, 5, size=200)]
    pattern, group = condensing._alike(columns)
    np.testing.assert_array_equal(pattern[:, group], columns)
    assert pattern.shape[1] == len(np.unique(columns, axis=1).T)
    different = rng.normal(size=(3, 50))
    pattern, group = condensing._alike(different)
    np.testing.assert_array_equal(pattern[:, group], different)
