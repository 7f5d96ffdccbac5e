"""Derivatives of neural networks with respect to their inputs."""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

from wrt import methods as methods, rules as rules
from wrt.analysis.lipschitz import lipschitz as lipschitz
from wrt.analysis.profile import profile as profile
from wrt.analysis.relevance import relevance as relevance
from wrt.analysis.support import support as support
from wrt.analysis.surface import surface as surface
from wrt.derive.check import Check as Check, check as check
from wrt.derive.first import (
    JacobianPlan as JacobianPlan,
    gradient as gradient,
    jacobian as jacobian,
    jvp as jvp,
    plan_jacobian as plan_jacobian,
    vjp as vjp,
)
from wrt.derive.operator import JacobianOperator as JacobianOperator, linearize as linearize
from wrt.derive.second import hessian as hessian, hvp as hvp, laplacian as laplacian
from wrt.derive.taylor import taylor as taylor
from wrt.derive.verification import verification as verification
from wrt.errors import (
    DerivativeError as DerivativeError,
    DerivativeWarning as DerivativeWarning,
    NonFiniteWarning as NonFiniteWarning,
    OwnRuleWarning as OwnRuleWarning,
)
from wrt.io import load_model as load_model
from wrt.maximize import (
    objectives as objectives,
    parametrizations as parametrizations,
    regularizers as regularizers,
    transforms as transforms,
)
from wrt.maximize.ascend import maximize as maximize
from wrt.maximize.attack import attack as attack
from wrt.methods import filters as filters, metrics as metrics
from wrt.methods.explain import explain as explain
from wrt.methods.noise import smooth as smooth, tta as tta
from wrt.models import penalties as penalties
from wrt.models.derivative import backward_model as backward_model, jacobian_model as jacobian_model
from wrt.models.export import export as export
from wrt.models.penalties import penalize as penalize
from wrt.results import (
    Attack as Attack,
    Curve as Curve,
    Explanation as Explanation,
    Lipschitz as Lipschitz,
    Maximization as Maximization,
    Support as Support,
    Taylor as Taylor,
)
from wrt.select import (
    layer as layer,
    logit as logit,
    objective as objective,
    output as output,
    top as top,
)
from wrt.slices import Profile as Profile, Surface as Surface
from wrt.summary import Moments as Moments, Relevance as Relevance

__version__ = "0.1.0"

if TYPE_CHECKING:
    from wrt import plots as plots
    from wrt.models.keras import AugNet as AugNet


def __getattr__(name: str) -> object:
    """`AugNet` is a class of Keras, and `plots` are for who draws: both are imported when they are asked for."""
    if name == "AugNet":
        from wrt.models.keras import AugNet

        return AugNet
    if name == "plots":
        return _import_module("wrt.plots")
    raise AttributeError(f"module 'wrt' has no attribute {name!r}")
