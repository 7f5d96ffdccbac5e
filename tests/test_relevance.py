"""Relevance of features on every engine: closed forms. What does not differ: test_relevance_tables."""

import numpy as np
from subjects import close, keras_net, keras_tolerance, points, tensor, truth

import wrt

A = np.array([[1.0, 0.5, 0.0], [0.5, -1.0, 2.0], [0.0, 2.0, 0.3]])
B = np.array([1.0, 2.0, -3.0])
FORM, SLOPE, ONES = map(tensor, (A, B, np.ones((3, 1))))
X = points(11, seed=5) * [1.0, 10.0, 0.1] + [0.0, 3.0, -1.0]


def quadratic(x):
    """xᵀ A x + bᵀ x"""
    return ((x @ FORM + SLOPE) * x @ ONES)[:, 0]


def test_a_quadratic_form_in_closed_form():
    found = wrt.relevance(quadratic, tensor(X), names=["pt", "eta", "phi"], batch_size=4)
    slopes, s = 2 * X @ A + B, X.std(0)
    assert (found.order, found.samples, found.outputs) == (2, 11, ())
    close(found.scale, s, 1e-13)
    close(found.raw[0].mean, 2 * A @ X.mean(0) + B, 1e-13)
    close(found.first.mean, (2 * A @ X.mean(0) + B) * s, 1e-13)
    close(found.first.mean_abs, np.abs(slopes).mean(0) * s, 1e-13)
    close(found.first.spread, slopes.std(0, ddof=1) * s, 1e-13)
    close(found.raw[1].mean, 2 * A, 1e-13)
    close(found.second.mean, 2 * A * np.outer(s, s), 1e-13)
    close(found.second.spread, np.zeros((3, 3)), 1e-12)
    assert found.ranking(2)[0] == (1, 1)  # the most spread, squared


def test_every_class_of_a_keras_network():
    x = points(9)
    found = wrt.relevance(keras_net(), x, "all", order=1, batch_size=4, standardize=None)
    close(found.first.mean, truth(x).mean(0), keras_tolerance())
    close(found.first.rms, np.sqrt((truth(x) ** 2).mean(0)), keras_tolerance())
    assert found.outputs == ("0", "1", "2", "3")
