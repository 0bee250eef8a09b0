"""Linear models that tune their own penalties while they are fitted."""

from skhypergrad.linear_model.estimators import BilevelLogisticRegression, BilevelRidge

__all__ = ["BilevelLogisticRegression", "BilevelRidge"]
