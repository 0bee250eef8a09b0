"""Design matrices that are not dense arrays: each answers `X @ W` for W (n_features, n_columns), and its shape.

Derivatives need the transposed product too, and tasks are batched by `vmap`: `Sparse` therefore is a primitive of its
own. The tasks' columns go through one product; tasks with a matrix each become one block-diagonal matrix.

A dense array needs nothing: `X @ W` under `vmap` over W is one matrix product already.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.experimental.sparse import BCSR
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Diagonal:
    """A square diagonal matrix: a fold's training rows in the basis of its own singular vectors."""

    entries: Any

    @property
    def shape(self):
        return (self.entries.shape[-1],) * 2

    def __matmul__(self, columns):
        return self.entries[:, None] * columns


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Sparse:
    """A compressed sparse row matrix together with its transpose, so that both products run along rows.

    Attributes
    ----------
    values, indices, indptr : (nnz,), (nnz,), (n_rows + 1,)
        The rows; entries from `indptr[-1]` on are padding.
    values_t, indices_t, indptr_t
        The rows of the transpose.
    """

    values: Any
    indices: Any
    indptr: Any
    values_t: Any
    indices_t: Any
    indptr_t: Any
    shape: tuple[int, int] = field(metadata={"static": True})

    @classmethod
    def from_scipy(cls, matrix, shape=None, nnz=None) -> Sparse:
        """From any SciPy sparse matrix, padded with empty rows and columns to `shape` and with zeros to `nnz`."""
        shape = matrix.shape if shape is None else shape
        nnz = matrix.nnz if nnz is None else nnz

        def arrays(m, n_rows):
            m = scipy.sparse.csr_array(m, copy=True)
            m.sum_duplicates()
            empty = nnz - m.nnz
            return (
                np.concatenate([m.data, np.zeros(empty)]),
                np.concatenate([m.indices, np.zeros(empty)]).astype(np.int32),
                np.concatenate([m.indptr, np.full(n_rows - m.shape[0], m.nnz)]).astype(np.int32),
            )

        rows, columns = arrays(matrix, shape[0]), arrays(matrix.T, shape[1])
        return cls(rows[0], rows[1], rows[2], columns[0], columns[1], columns[2], shape)

    @property
    def T(self) -> Sparse:  # noqa: N802  (NumPy's name)
        return Sparse(
            self.values_t, self.indices_t, self.indptr_t, self.values, self.indices, self.indptr, self.shape[::-1]
        )

    def map(self, function) -> Sparse:
        """`function` of the stored values; it must keep zero."""
        return replace(self, values=function(self.values), values_t=function(self.values_t))

    def __matmul__(self, columns):
        forward = (self.values, self.indices, self.indptr)
        transpose = (self.values_t, self.indices_t, self.indptr_t)
        return sparse_product_p.bind(*forward, *transpose, columns, shape=self.shape)


def squares(X, columns):
    """(X * X)^T columns, for columns (n_rows, n_columns): the diagonals of X^T diag(column) X."""
    if isinstance(X, Diagonal):
        return Diagonal(X.entries**2) @ columns
    if isinstance(X, Sparse):
        return X.map(jnp.square).T @ columns
    return (X**2).T @ columns


sparse_product_p = Primitive("sparse_product")


def _lowered(values, indices, indptr, values_t, indices_t, indptr_t, columns, *, shape):
    return BCSR((values, indices, indptr), shape=shape, indices_sorted=True) @ columns


@sparse_product_p.def_abstract_eval
def _abstract(values, indices, indptr, values_t, indices_t, indptr_t, columns, *, shape):
    return columns.update(shape=(shape[0], columns.shape[1]))


def _transpose(cotangent, *operands, shape):
    *matrix, _ = operands
    forward, transposed = matrix[:3], matrix[3:]
    columns = sparse_product_p.bind(*transposed, *forward, cotangent, shape=shape[::-1])
    return [None] * 6 + [columns]


def _batch(operands, axes, *, shape):
    *matrix, columns = operands
    *matrix_axes, columns_axis = axes
    size = next(x.shape[a] for x, a in zip(operands, axes, strict=True) if a is not None)
    if columns_axis is None:
        columns = jnp.broadcast_to(columns, (size, *columns.shape))
    else:
        columns = jnp.moveaxis(columns, columns_axis, 0)
    if all(a is None for a in matrix_axes):
        wide = jnp.moveaxis(columns, 0, 1).reshape(shape[1], -1)
        product = sparse_product_p.bind(*matrix, wide, shape=shape)
        return product.reshape(shape[0], size, -1), 1
    matrix = [
        jnp.broadcast_to(x, (size, *x.shape)) if a is None else jnp.moveaxis(x, a, 0)
        for x, a in zip(matrix, matrix_axes, strict=True)
    ]
    blocks = (*_block_diagonal(matrix[:3], shape[1]), *_block_diagonal(matrix[3:], shape[0]))
    tall = columns.reshape(size * shape[1], -1)
    product = sparse_product_p.bind(*blocks, tall, shape=(size * shape[0], size * shape[1]))
    return product.reshape(size, shape[0], -1), 0


def _block_diagonal(matrices, n_columns):
    """Matrices (size, ...) of equal storage as one; each block's padding falls to its last row, as zeros."""
    values, indices, indptr = matrices
    size, nnz = values.shape
    block = jnp.arange(size, dtype=indices.dtype)[:, None]
    ends = indptr.at[:, -1].set(nnz)[:, 1:] + block * nnz
    starts = jnp.zeros(1, indptr.dtype)
    return values.ravel(), (indices + block * n_columns).ravel(), jnp.concatenate([starts, ends.ravel()])


sparse_product_p.def_impl(jax.jit(_lowered, static_argnames="shape"))
ad.defjvp(sparse_product_p, *[None] * 6, lambda tangent, *operands, shape: _along(tangent, *operands, shape=shape))
ad.primitive_transposes[sparse_product_p] = _transpose
batching.primitive_batchers[sparse_product_p] = _batch
mlir.register_lowering(sparse_product_p, mlir.lower_fun(_lowered, multiple_results=False))


def _along(tangent, *operands, shape):
    return sparse_product_p.bind(*operands[:6], tangent, shape=shape)
