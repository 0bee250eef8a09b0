"""Sparse products, their derivatives and their batches are the dense ones, on the host and on the device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

from skhypergrad.bilevel import matrices
from skhypergrad.bilevel.matrices import Diagonal, HostMatrix, RowScaled, Sparse, TwoPrecisions, squares

SHAPE = (24, 16)
EITHER = pytest.mark.parametrize("on_host", [True, False], ids=["host", "device"])


@pytest.fixture
def hosts():
    pieces = [scipy.sparse.random(20, 12, 0.3, format="csr", random_state=k) for k in range(2)]
    return [HostMatrix(piece) for piece in pieces]


def dense(host):
    padded = np.zeros(SHAPE)
    padded[:20, :12] = host.rows.toarray()
    return padded


def first(sparse, k=0):
    return jax.tree.map(lambda x: x[k], sparse)


@EITHER
def test_products_and_derivatives(hosts, on_host, rng):
    D, w, v = dense(hosts[0]), rng.normal(size=(16, 3)), rng.normal(size=(16, 3))
    with jax.enable_x64(True):
        X = first(Sparse.stack(hosts, SHAPE, on_host))
        np.testing.assert_allclose(X @ jnp.asarray(w), D @ w, atol=1e-13)
        gradient, product = jax.linearize(jax.grad(lambda w: jnp.sum(jnp.sin(X @ w))), jnp.asarray(w))
        np.testing.assert_allclose(gradient, D.T @ np.cos(D @ w), atol=1e-13)
        np.testing.assert_allclose(jax.jit(product)(v), -D.T @ (np.sin(D @ w) * (D @ v)), atol=1e-13)
        curvature = rng.random((24, 2))
        np.testing.assert_allclose(squares(X, jnp.asarray(curvature)), (D**2).T @ curvature, atol=1e-13)


@EITHER
def test_batches_of_columns_of_matrices_and_of_both(hosts, on_host, rng):
    D = np.stack([dense(host) for host in hosts])
    w = rng.normal(size=(3, 2, 16, 1))
    with jax.enable_x64(True):
        X, W = Sparse.stack(hosts, SHAPE, on_host), jnp.asarray(w)

        def gradient(X, w):
            return jax.grad(lambda w: jnp.sum((X @ w) ** 2) / 2)(w)

        columns = jax.vmap(gradient, (None, 0))(first(X), W[:, 0])
        np.testing.assert_allclose(columns, np.einsum("np,nq,bqc->bpc", D[0], D[0], w[:, 0]), atol=1e-12)
        matrices = jax.vmap(gradient)(X, W[0])
        np.testing.assert_allclose(matrices, np.einsum("knp,knq,kqc->kpc", D, D, w[0]), atol=1e-12)
        both = jax.vmap(jax.vmap(gradient), (None, 0))(X, W)
        np.testing.assert_allclose(both, np.einsum("knp,knq,bkqc->bkpc", D, D, w), atol=1e-12)


def test_the_precision_of_a_host_product_is_that_of_float64(hosts, rng):
    # the callback runs in a thread whose JAX has float32
    w = rng.normal(size=(16, 1)) * (1 + 1e-12)
    with jax.enable_x64(True):
        product = jax.jit(lambda X, w: X @ w)(first(Sparse.stack(hosts, SHAPE, True)), jnp.asarray(w))
    np.testing.assert_allclose(product, dense(hosts[0]) @ w, rtol=1e-15, atol=1e-15)


def test_the_users_matrix_is_not_touched():
    matrix = scipy.sparse.csr_array(
        (np.array([1.0, 2.0, 3.0]), np.array([2, 0, 2]), np.array([0, 3])), shape=(1, 4)
    )  # unsorted, with a duplicate
    before = [part.copy() for part in (matrix.data, matrix.indices, matrix.indptr)]
    host = HostMatrix(matrix)
    np.testing.assert_array_equal(host.rows.toarray(), [[2, 0, 4, 0]])
    for part, copy in zip((matrix.data, matrix.indices, matrix.indptr), before, strict=True):
        np.testing.assert_array_equal(part, copy)


def test_a_host_matrix_lives_as_long_as_it_is_kept():
    host = HostMatrix(scipy.sparse.eye_array(3))
    key = host.key
    assert key in HostMatrix._living
    del host
    assert key not in HostMatrix._living


def test_diagonal(rng):
    d, w = rng.normal(size=5), rng.normal(size=(5, 2))
    np.testing.assert_allclose(Diagonal(d) @ w, np.diag(d) @ w)
    np.testing.assert_allclose(squares(Diagonal(d), w), np.diag(d**2) @ w)


def test_rows_scaled_apart(rng):
    scale, matrix, w, v = rng.random(5), rng.normal(size=(5, 3)), rng.normal(size=(3, 2)), rng.random((5, 2))
    X = RowScaled(scale, matrix)
    np.testing.assert_allclose(X @ w, np.diag(scale) @ matrix @ w)
    np.testing.assert_allclose(squares(X, v), ((scale[:, None] * matrix) ** 2).T @ v)


@pytest.mark.parametrize("n", [3, 8, 11])
def test_squares_and_products_are_summed_block_by_block(n, rng, monkeypatch):
    X, v, center = rng.normal(size=(n, 3)), rng.random((n, 2)), rng.normal(size=3)
    monkeypatch.setattr(matrices, "BLOCK", 4)
    for largest in (1 << 20, 0):
        monkeypatch.setattr(matrices, "LARGEST_SQUARES", largest)
        with jax.enable_x64(True):
            summed = squares(jnp.asarray(X), jnp.asarray(v))
            about = matrices.products(jnp.asarray(X), jnp.asarray(v[:, 0]), center)
        np.testing.assert_allclose(summed, (X**2).T @ v, rtol=1e-12)
        np.testing.assert_allclose(about, (X - center).T @ np.diag(v[:, 0]) @ (X - center), rtol=1e-11, atol=1e-13)


def test_a_product_has_the_precision_of_its_columns(rng):
    with jax.enable_x64(True):
        X = TwoPrecisions.of(rng.normal(size=(5, 3)))
        w = jnp.asarray(rng.normal(size=(3, 2)))
        exact, rough = X @ w, X @ w.astype(jnp.float32)
        assert (exact.dtype, rough.dtype) == (jnp.float64, jnp.float32)
        np.testing.assert_array_equal(exact, X.exact @ w)
        np.testing.assert_allclose(rough, exact, rtol=1e-5)
