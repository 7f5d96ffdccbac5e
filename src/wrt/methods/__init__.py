"""Saliency and attribution: which inputs an output depends on, and how much."""

from wrt.methods.gradient import (
    deconvnet as deconvnet,
    gradient as gradient,
    guided_backprop as guided_backprop,
)
from wrt.methods.method import METHODS as METHODS, Method as Method, register as register
from wrt.methods.path import (
    expected_gradients as expected_gradients,
    input_x_gradient as input_x_gradient,
    integrated_gradients as integrated_gradients,
)
