"""Cross-validation folds as the engine's tasks: rows held once, a pair of row weights per fold.

A weight of 0 leaves a row out, so folds of any size have one shape, and one product `X @ W` serves all of them. What can
be computed once is computed here, exactly, by a change of basis that the L2 penalty does not notice:

* Rotation: the features in the basis of their own singular vectors, at most min(n_samples, n_features) of them. Any
  loss; the Hessian of every fold becomes nearly diagonal, and p >> n costs no more than p = n.
* `Affine`: folds whose preprocessing only centres and scales the columns share one matrix; the penalty sees each scale.
* For squared loss, every fold in the basis of its *own* singular vectors: the inner problem becomes a diagonal one with
  min(n, p) rows, the held-out rows a triangle. The number of samples disappears.

This is done once, by LAPACK on the host, so that nothing is compiled for it. Shapes are rounded up to a few sizes
(`padded`), so that a slightly larger table compiles nothing new.
"""

from skhypergrad.bilevel.folds.choice import cut
from skhypergrad.bilevel.folds.data import Fold, Folds, Rows
from skhypergrad.bilevel.folds.tables import Affine, Parts, Rescaled, Table, affine

__all__ = ["Affine", "Fold", "Folds", "Parts", "Rescaled", "Rows", "Table", "affine", "cut"]
