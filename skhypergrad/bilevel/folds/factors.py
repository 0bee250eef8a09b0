"""Changes of basis by LAPACK on the host, for tables with many rows and for tables with few.

Where the columns are far from dependent, by their products with each other, which is many times faster: what that loses is
the square of the condition number, in units of rounding. Otherwise by orthogonal transformations.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import scipy.linalg

# Ratio of eigenvalues of X^T X above which it may stand in for X. For triangles, of tables that may be large, condition
# numbers up to 1000, which leaves 1e-10; for singular vectors, of what is small by then, 30 and 1e-12.
TRIANGLES, VECTORS = 1e-6, 1e-3

# Columns that are multiplied at a time: they stay in the cache.
BLOCK = 1024


def _is_well_conditioned(values, bound) -> bool:
    return len(values) > 0 and bool(values[0] > bound * values[-1])


def triangle(rows) -> np.ndarray:
    """(m, p) rows, at most p of them, with the same products of columns as the (n, p) given."""
    n, p = rows.shape
    if n <= p:
        return rows
    products = rows.T @ rows
    scale = np.sqrt(np.diag(products))
    scale[scale == 0] = 1.0
    products /= np.outer(scale, scale)
    if _is_well_conditioned(np.linalg.eigvalsh(products), TRIANGLES):
        return np.linalg.cholesky(products).T * scale
    return _orthogonal_triangle(rows)


def _orthogonal_triangle(rows) -> np.ndarray:
    # in blocks, which stay in the cache
    n, p = rows.shape
    size = max(4 * p, 1024)
    if n >= 2 * size:
        rows = np.concatenate([np.asarray(np.linalg.qr(rows[i : i + size], mode="r")) for i in range(0, n, size)])
    return np.asarray(np.linalg.qr(rows, mode="r"))


def basis_of_columns(X, weight=None) -> np.ndarray:
    """An orthonormal basis (p, p) of the features of tall X (n, p), its singular vectors as well as may be.

    The products are diagonalised whatever their condition: small singular vectors are mixed among themselves, but the basis
    is orthonormal to rounding, which is all that exactness needs. `weight` (n,) of the rows, None for equal ones.
    """
    scaled = X if weight is None else np.sqrt(weight)[:, None] * X
    return np.linalg.eigh(scaled.T @ scaled)[1]


def axes_of_columns(X, y) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """d (p,), left^T y (p, n_outputs) and right (p, p) of the decomposition X = left d right^T of tall X (n, p)."""
    products, c, p = X.T @ X, X.T @ y, X.shape[1]
    values, right = np.linalg.eigh(products)
    if _is_well_conditioned(values, VECTORS):
        d = np.sqrt(values)
        return d, right.T @ c / d[:, None], right
    if _is_well_conditioned(values, TRIANGLES):
        square = np.linalg.cholesky(products).T
        c = scipy.linalg.solve_triangular(square, c, trans="T", check_finite=False)
    else:
        both = triangle(np.concatenate([X, y], axis=1))
        # a square part also where there are no more rows than features
        square, c = both[:p, :p], both[:p, p:]
    left, d, right = np.linalg.svd(square, full_matrices=False)
    return d, left.T @ c, right.T


def products_of_rows(X, center, scale=None) -> np.ndarray:
    """Products of the rows of (X - center) * scale with each other, for few rows of many features.

    A few columns at a time, so that what is multiplied need not be formed and stays in the cache.
    """
    products = np.zeros((len(X), len(X)))
    for begin in range(0, X.shape[1], BLOCK):
        part = slice(begin, begin + BLOCK)
        columns = X[:, part] - center[part]
        if scale is not None:
            columns *= scale[part]
        products += columns @ columns.T
    return products


def axes_of_rows(products, rows: Callable, null=None) -> tuple[np.ndarray, np.ndarray]:
    """d (r,) and left (n, r) of the decomposition X = left d right^T of wide X (n, p), without what is zero.

    Its right side is X^T (left / d), and need not be formed.

    Parameters
    ----------
    products : (n, n) X X^T
    rows : callable, () -> (n, p) X itself, asked for where it is ill-conditioned
    null : (n,), default=None
        A combination of the rows that is known to vanish, as their weights do where they were centred.
    """
    if null is None:
        values, left = np.linalg.eigh(products)
    else:
        values, left = _eigh_across(products, null)
    if _is_well_conditioned(values, VECTORS):
        return np.sqrt(values), left
    X = rows()
    left, d, _ = np.linalg.svd(_orthogonal_triangle(X.T).T, full_matrices=False)
    kept = d > max(X.shape) * np.finfo(float).eps * max(d[0], np.finfo(float).tiny)
    return d[kept], left[:, kept]


def _eigh_across(products, null):
    """Eigenvalues and vectors of (n, n) products with null^T products = 0, but for that vector, by a reflection."""
    v = null / np.linalg.norm(null)
    v[0] += np.copysign(1.0, v[0])
    v /= np.linalg.norm(v)

    def reflected(rows):
        return rows - 2 * np.outer(v, v @ rows)

    values, vectors = np.linalg.eigh(reflected(reflected(products).T)[1:, 1:])
    return values, reflected(np.concatenate([np.zeros((1, len(values))), vectors]))
