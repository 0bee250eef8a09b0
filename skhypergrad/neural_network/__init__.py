"""Multilayer perceptrons that tune themselves while they are trained."""

from skhypergrad.neural_network.estimators import BilevelMLPClassifier, BilevelMLPRegressor

__all__ = ["BilevelMLPClassifier", "BilevelMLPRegressor"]
