"""Saliency and attribution: which inputs an output depends on, and how much."""

from wrt.methods.cam import (
    cam as cam,
    grad_cam as grad_cam,
    grad_cam_pp as grad_cam_pp,
    hires_cam as hires_cam,
    layer_cam as layer_cam,
)
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
from wrt.methods.perturb import occlusion as occlusion, rise as rise
from wrt.methods.score_cam import guided_grad_cam as guided_grad_cam, score_cam as score_cam
from wrt.methods.shares import full_gradient as full_gradient
