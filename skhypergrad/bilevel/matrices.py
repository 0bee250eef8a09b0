"""Design matrices that are not dense arrays: each answers `X @ W` for W (n_features, n_columns), and its shape.

A dense array needs nothing: `X @ W` under `vmap` over W is one matrix product already. A sparse one is a primitive of its
own, because derivatives need the transposed product and tasks are batched by `vmap`: the tasks' columns go through one
product, tasks with a matrix each through one call. On CPU the product is SciPy's, on the host, which is several times
faster than gathers and scatters compiled by XLA; elsewhere it is a compressed-row product on the device.
"""

from __future__ import annotations

import functools
import itertools
import os
import weakref
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jax.experimental.buffer_callback import buffer_callback
from jax.experimental.sparse import BCSR
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

# Threads of a product on the host, each with its share of the rows.
WORKERS = min(os.cpu_count() or 1, 8)

# Cells of a table up to which its squares are formed at once, and rows of a block beyond.
LARGEST_SQUARES, BLOCK = 1 << 20, 1024


@functools.cache
def _workers():
    return ThreadPoolExecutor(WORKERS, thread_name_prefix="skhypergrad")


def in_threads(function: Callable, items: Iterable) -> list:
    """`function` of every item, some at a time: for work in NumPy, which releases the interpreter."""
    return list(_workers().map(function, items))


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
class RowScaled:
    """diag(scale) matrix, with a matrix that tasks share and a scale of each: one product serves all of them."""

    scale: Any
    matrix: Any

    @property
    def shape(self):
        return self.matrix.shape

    def __matmul__(self, columns):
        return self.scale[:, None] * (self.matrix @ columns)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ColumnScaled:
    """matrix diag(scale), with a matrix that tasks share and a scale of each."""

    scale: Any
    matrix: Any

    @property
    def shape(self):
        return self.matrix.shape

    def __matmul__(self, columns):
        return self.matrix @ (self.scale[:, None] * columns)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TwoPrecisions:
    """A dense matrix in float64 and in float32, whose products are in the precision of their columns."""

    exact: Any
    rough: Any

    @classmethod
    def of(cls, X) -> TwoPrecisions:
        return cls(X, X.astype(np.float32))

    @property
    def shape(self):
        return self.exact.shape

    def __matmul__(self, columns):
        return (self.rough if columns.dtype == jnp.float32 else self.exact) @ columns


class HostMatrix:
    """A SciPy matrix with its transpose and its squares, all by rows, under a key that compiled code can carry."""

    _living: ClassVar[weakref.WeakValueDictionary[int, HostMatrix]] = weakref.WeakValueDictionary()
    _keys: ClassVar = itertools.count()

    def __init__(self, matrix):
        self.rows = scipy.sparse.csr_array(matrix, copy=True)
        self.rows.sum_duplicates()
        self._forms: dict[tuple, list] = {}
        self.key = next(self._keys)
        self._living[self.key] = self

    def form(self, transposed: bool, squared: bool):
        """X, X^T, X * X or (X * X)^T as a list of (slice, its rows as CSR), one per worker, made on first use."""
        if (transposed, squared) not in self._forms:
            whole = self.rows.multiply(self.rows) if squared else self.rows
            whole = scipy.sparse.csr_array(whole.T if transposed else whole)
            shares = np.linspace(0, whole.nnz, WORKERS + 1)[1:-1]
            ends = [0, *np.searchsorted(whole.indptr, shares).tolist(), whole.shape[0]]
            self._forms[transposed, squared] = [
                (slice(start, stop), whole[start:stop]) for start, stop in itertools.pairwise(ends)
            ]
        return self._forms[transposed, squared]

    @classmethod
    def products(cls, keys, columns, transposed: bool, squared: bool, out) -> None:
        """Block by block, the product with (n_blocks, n_in, n_columns); `out` has zeros where it has more rows."""
        out[...] = 0.0
        forms = [cls._living[key].form(transposed, squared) for key in keys.tolist()]

        def work(worker):
            for form, part, result in zip(forms, columns, out, strict=True):
                rows, chunk = form[worker]
                part = part[: chunk.shape[1]]
                result[rows] = chunk @ part if part.shape[1] > 1 else (chunk @ part[:, 0])[:, None]

        # SciPy's products release the interpreter
        others = [_workers().submit(work, worker) for worker in range(1, WORKERS)]
        work(0)
        for other in others:
            other.result()


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Sparse:
    """A sparse matrix for the engine.

    Attributes
    ----------
    key : (1,) of the `HostMatrix`, which must be kept alive as long as this is used
    arrays : () on CPU; else values, indices and indptr of the rows and of the rows of the transpose, each (1, ...)
    shape : (n_rows, n_features), at least that of the host matrix; what lies beyond is zero
    """

    key: Any
    arrays: tuple[Any, ...]
    shape: tuple[int, int] = field(metadata={"static": True})

    @classmethod
    def stack(cls, hosts: list[HostMatrix], shape: tuple[int, int], on_host: bool | None = None) -> Sparse:
        """Matrices with a leading axis, for `vmap`; `on_host` None for the host on CPU and the device elsewhere."""
        on_host = jax.default_backend() == "cpu" if on_host is None else on_host
        arrays: tuple = ()
        if not on_host:
            nnz = max(host.rows.nnz for host in hosts)
            blocks = [
                (*_padded(host.rows, shape[0], nnz), *_padded(scipy.sparse.csr_array(host.rows.T), shape[1], nnz))
                for host in hosts
            ]
            arrays = tuple(np.stack(part)[:, None] for part in zip(*blocks, strict=True))
        return cls(np.array([[host.key] for host in hosts], np.int32), arrays, shape)

    def __matmul__(self, columns):
        return self._product(columns, transposed=False, squared=False)

    def squares_transposed(self, columns):
        return self._product(columns, transposed=True, squared=True)

    def _product(self, columns, **form):
        return sparse_product_p.bind(self.key, *self.arrays, columns[None], shape=self.shape, **form)[0]


def _padded(rows, n_rows, nnz):
    """values, indices, indptr with zeros up to `nnz` and empty rows up to `n_rows`."""
    empty = nnz - rows.nnz
    return (
        np.concatenate([rows.data, np.zeros(empty)]),
        np.concatenate([rows.indices, np.zeros(empty)]).astype(np.int32),
        np.concatenate([rows.indptr, np.full(n_rows - rows.shape[0], rows.nnz)]).astype(np.int32),
    )


def squares(X, columns):
    """(X * X)^T columns, for columns (n_rows, n_columns): the diagonals of X^T diag(column) X."""
    if isinstance(X, Diagonal):
        return Diagonal(X.entries**2) @ columns
    if isinstance(X, Sparse):
        return X.squares_transposed(columns)
    if isinstance(X, RowScaled):
        return squares(X.matrix, X.scale[:, None] ** 2 * columns)
    if isinstance(X, ColumnScaled):
        return X.scale[:, None] ** 2 * squares(X.matrix, columns)
    if isinstance(X, TwoPrecisions):
        return squares(X.rough, columns.astype(jnp.float32)).astype(columns.dtype)
    return _summed(lambda rows, weight: weight.T @ rows**2, X, columns).T


def products(X, weight, center):
    """(X - center)^T diag(weight) (X - center), for dense X, weight (n_rows,) and center (n_features,)."""

    def function(rows, weight):
        rows = rows - center
        return (weight[:, None] * rows).T @ rows

    return _summed(function, X, weight)


def _summed(function: Callable, X, weight):
    """function(X, weight), a sum over rows; of a large table in blocks, since all at once would be as much memory again."""
    n, p = X.shape
    if n <= BLOCK or n * p <= LARGEST_SQUARES:
        return function(X, weight)
    whole = n - n % BLOCK

    def add(total, begin):
        return total + function(*(jax.lax.dynamic_slice_in_dim(x, begin, BLOCK) for x in (X, weight))), None

    return jax.lax.scan(add, function(X[whole:], weight[whole:]), jnp.arange(0, whole, BLOCK))[0]


# key (b,), six arrays (b, ...) or none, columns (b, n_in, c) -> (b, n_out, c): b matrices, c columns each
sparse_product_p = Primitive("sparse_product")


@sparse_product_p.def_abstract_eval
def _abstract(key, *rest, shape, transposed, squared):
    columns = rest[-1]
    return columns.update(shape=(columns.shape[0], shape[1] if transposed else shape[0], columns.shape[2]))


def _product(key, *rest, shape, transposed, squared):
    *arrays, columns = rest
    if arrays:
        rows, oriented = (arrays[3:], shape[::-1]) if transposed else (arrays[:3], shape)
        return _device_product(rows, columns, oriented, squared)
    n_out = shape[1] if transposed else shape[0]

    # on the program's own memory: other callbacks copy what they are given, which takes longer than the product
    def on_host(context, out, keys, columns):
        HostMatrix.products(np.asarray(keys), np.asarray(columns), transposed, squared, out=np.asarray(out))

    result = jax.ShapeDtypeStruct((columns.shape[0], n_out, columns.shape[2]), jnp.float64)
    product = buffer_callback(on_host, result)(key, columns.astype(jnp.float64))
    return product.astype(columns.dtype)


def _device_product(rows, columns, shape, squared):
    """The blocks as one block-diagonal compressed-row matrix; each block's padding falls to its last row, as zeros."""
    values, indices, indptr = rows
    size, nnz = values.shape
    block = jnp.arange(size, dtype=indices.dtype)[:, None]
    ends = (indptr.at[:, -1].set(nnz)[:, 1:] + block * nnz).ravel()
    matrix = BCSR(
        (
            (values**2 if squared else values).ravel(),
            (indices + block * shape[1]).ravel(),
            jnp.concatenate([jnp.zeros(1, indptr.dtype), ends]),
        ),
        shape=(size * shape[0], size * shape[1]),
    )
    return (matrix @ columns.reshape(size * shape[1], -1)).reshape(size, shape[0], -1)


def _transpose(cotangent, *operands, transposed, **form):
    product = sparse_product_p.bind(*operands[:-1], cotangent, transposed=not transposed, **form)
    return [None] * (len(operands) - 1) + [product]


def _batch(operands, axes, **form):
    size = next(x.shape[a] for x, a in zip(operands, axes, strict=True) if a is not None)

    def leading(x, axis):
        return jnp.broadcast_to(x, (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)

    *matrix, columns = operands
    columns = leading(columns, axes[-1])
    _, b, n_in, c = columns.shape
    if all(axis is None for axis in axes[:-1]):
        wide = jnp.moveaxis(columns, 0, 2).reshape(b, n_in, size * c)
        product = sparse_product_p.bind(*matrix, wide, **form)
        return product.reshape(b, -1, size, c), 2
    batched = [leading(x, axis) for x, axis in zip(matrix, axes[:-1], strict=True)]
    merged = [x.reshape(size * b, *x.shape[2:]) for x in batched]
    product = sparse_product_p.bind(*merged, columns.reshape(size * b, n_in, c), **form)
    return product.reshape(size, b, -1, c), 0


def _jvp(primals, tangents, **form):
    # linear in the columns; a matrix is data and has no tangent
    product = sparse_product_p.bind(*primals, **form)
    tangent = ad.instantiate_zeros(tangents[-1])
    return product, sparse_product_p.bind(*primals[:-1], tangent, **form)


sparse_product_p.def_impl(jax.jit(_product, static_argnames=("shape", "transposed", "squared")))
ad.primitive_jvps[sparse_product_p] = _jvp
ad.primitive_transposes[sparse_product_p] = _transpose
batching.primitive_batchers[sparse_product_p] = _batch
mlir.register_lowering(sparse_product_p, mlir.lower_fun(_product, multiple_results=False))
