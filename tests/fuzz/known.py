"""What the fuzz may meet besides right derivatives: refusals, and rules that the frameworks themselves have wrong.

Plain data; a run fails where it meets anything else, and `docs/trust.md` tells the reasons.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable

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
        "a loop that JAX cannot reverse": "splinalg.polar splinalg.eigh_tridiagonal ops.while_loop ops.fori_loop",
    },
    "torch": {
        "torch has no derivative": (
            "special.*bessel_* special.airy_ai special.*_polynomial_* torch.acosh_ torch.arccosh_ torch.arcsinh_ "
            "torch.arctanh_ torch.asinh_ torch.atanh_ *.floor_divide *.heaviside *.nextafter torch.geqrf *.ldl_* "
            "*.native_channel_shuffle torch.view_as_complex_copy ops.view"
        ),
    },
    "tensorflow": {
        "constant in pieces": (
            "*.ceil *.floor *.rint *.round *.sign *.floordiv *.floor_divide *.truncatediv ops.trunc *.heaviside"
        ),
        "TensorFlow has no derivative": (
            "tf.bitcast ops.view tf.guarantee_const tf.truncatemod signal.*fft3d image.adjust_contrast "
            "image.adjust_saturation image.hsv_to_rgb image.resize:* linalg.lu* linalg.logm tf.conv ops.lu_factor "
            "*.nextafter"
        ),
    },
}

# rules of the frameworks that are wrong in the frameworks too
OWN: Names = {
    "jax": {
        "not a number in reverse": "special.spence",
        "second order at special values": "jnp.i0 special.spence jnp.ldexp jnp.vander",
    },
    "torch": {
        "reverse mode": "torch.as_strided_scatter",
        "second order at special values": (
            "torch.sinc torch.sinc_ special.sinc torch.pow torch.float_power ops.power "
            "torch.norm:square linalg.norm:square linalg.vector_norm torch.dist *.det:any"
        ),
        "not a number at special values": "linalg.householder_product torch.orgqr torch.ormqr",
    },
    "tensorflow": {"second order at special values": "math.bessel_i1"},
}

# mended on branches that this one does not have yet: to be emptied
UNMERGED: Names = {
    "jax": {"a foreign error at second order": "special.gammainc* special.expn jnp.roots lax.igamma*"},
    "torch": {
        "forward mode": (
            "torch.scatter_reduce:prod *.cholesky_inverse torch.triangular_solve ops.segment_prod torch.index_reduce"
        ),
        "a foreign error of the double pull": (
            "*.hardsigmoid ops.hard_sigmoid torch.cdist* *.pdist F.multi_margin_loss F.multilabel_margin_loss "
            "torch.segment_reduce *.ctc_loss torch.vander ops.vander *.conv_tbc"
        ),
    },
    "tensorflow": {
        "x = 0": "math.xlogy math.xlog1py math.xdivy",
        "cumprod and kin": "*.cumprod* ops.nancumprod *.reduce_prod* ops.prod* ops.nanprod *.segment_prod",
        "a foreign error of the double pull": "nn.dilation2d nn.erosion2d nn.max_pool_with_argmax tf.recompute_grad",
    },
}


def listed(names: Iterable[str], table: dict[str, str]) -> str:
    """The reason why one of these functions is in the table, or nothing."""
    for reason, patterns in table.items():
        if any(fnmatch.fnmatchcase(name, p) for name in names for p in patterns.split()):
            return reason
    return ""
