"""What the fuzz may meet besides right derivatives: refusals, and rules that the frameworks have wrong.

Plain data; a run fails where it meets anything else, and `docs/trust.md` tells the reasons.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterable

from .asks import FIRST, SECOND, Outcome

Names = dict[str, dict[str, str]]  # engine: {reason: names, `*` for any letters}

REFUSED: Names = {
    "jax": {
        "constant in pieces": (
            "*.ceil *.floor *.rint *.round *.around *.sign *.trunc *.floor_divide *.heaviside jnp.copysign jnp.divmod"
        ),
        "JAX has no derivative": (
            "*.nextafter jnp.spacing *.zeta lax.scatter_mul lax.scatter_apply linalg.eig ops.eig splinalg.sqrtm "
            "splinalg.solve_sylvester splinalg.qr_multiply"
        ),
        "no second derivative": "special.gammainc*:both special.expn jnp.roots linalg.eigvals",
        "a loop that JAX cannot reverse": "splinalg.polar splinalg.eigh_tridiagonal ops.while_loop ops.fori_loop",
    },
    "torch": {
        "torch has no derivative": (
            "special.*bessel_* special.airy_ai special.*_polynomial_* torch.acosh_ torch.arccosh_ torch.arcsinh_ "
            "torch.arctanh_ torch.asinh_ torch.atanh_ *.floor_divide *.heaviside *.nextafter torch.geqrf *.ldl_* "
            "*.native_channel_shuffle torch.view_as_complex_copy ops.view"
        ),
        "forward and reverse mode disagree": "torch.as_strided_scatter",
        "torch's derivative fails": "torch.vander ops.vander *.conv_tbc",
        "no second derivative": (
            "*.hardsigmoid ops.hard_sigmoid torch.cdist* *.pdist F.multi_margin_loss F.multilabel_margin_loss "
            "torch.segment_reduce *.ctc_loss torch.scatter_reduce:prod"
        ),
    },
    "tensorflow": {
        "only compiled": "tf.recompute_grad",
        "constant in pieces": (
            "*.ceil *.floor *.rint *.round *.sign *.floordiv *.floor_divide *.truncatediv ops.trunc *.heaviside"
        ),
        "TensorFlow has no derivative": (
            "tf.bitcast ops.view tf.guarantee_const tf.truncatemod signal.*fft3d image.adjust_contrast "
            "image.adjust_saturation image.hsv_to_rgb image.adjust_hue image.resize:* linalg.lu* linalg.logm tf.conv "
            "ops.lu_factor *.nextafter"
        ),
        "sizes that TensorFlow does not know before it computes": "ops.associative_scan",
        "TensorFlow's derivative goes through a bisection": "linalg.eigh_tridiagonal",
        "not in a graph": "ops.nanpercentile ops.nanmedian ops.corrcoef",
        "no second derivative": "nn.dilation2d nn.erosion2d nn.max_pool_with_argmax math.igamma*:both",
    },
}


@dataclasses.dataclass(frozen=True)
class Own:
    """A rule that is wrong in the framework too: of which functions, by their whole names, where, and how.

    The first call warns of it, except in `silent` questions: there it may pass, as the values decide.
    """

    names: str
    where: str
    what: str
    silent: tuple[str, ...] = ()

    def excuses(self, outcome: Outcome) -> bool:
        """A wrong number, or a warning of an entry that differences do not judge; at points of that kind only."""
        case = outcome.case
        points = [case.inner] * case.special + [case.outer]
        named = any(maker and maker.name in self.names.split() for maker in points)
        return named and outcome.question in self.silent and outcome.kind in ("wrong", "false alarm")


OWN: dict[str, tuple[Own, ...]] = {
    "jax": (
        Own("special.spence", "x = 1", "0 for -1", (*FIRST, *SECOND)),
        Own("special.spence", "reverse mode and second order, x from 1.5 to 2", "NaN"),
        Own("jnp.i0", "second order, x = 0", "0 for 1/2"),
        Own("jnp.ldexp", "x = 0", "1 for 2 to the exponent"),
        Own("jnp.vander", "x = 0", "NaN"),
    ),
    "torch": (
        Own("torch.as_strided_scatter", "everywhere", "of something else", (*FIRST, *SECOND)),
        Own("torch.pow torch.float_power ops.power", "second order, exponent 0", "0 for 1/x", SECOND),
        Own("torch.sinc torch.sinc_ special.sinc ops.sinc", "second order, x = 0", "NaN, or 0 for -pi^2/3", SECOND),
        Own("torch.det:any linalg.det:any", "singular matrices", "rounding, or NaN", (*FIRST, *SECOND)),
        Own("linalg.householder_product torch.orgqr torch.ormqr", "tau = 0", "NaN"),
    ),
    "tensorflow": (
        Own("nn.weighted_cross_entropy_with_logits", "logits of 0", "off by half the weight", (*FIRST, *SECOND)),
        Own("ops.hypot", "second order, one argument 0", "0 for 1 by the other", SECOND),
    ),
}


def listed(names: Iterable[str], table: dict[str, str]) -> str:
    """The reason why one of these functions is in the table, or nothing."""
    for reason, patterns in table.items():
        if any(fnmatch.fnmatchcase(name, p) for name in names for p in patterns.split()):
            return reason
    return ""
