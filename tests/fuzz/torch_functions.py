"""torch, torch.special, torch.linalg: which functions are asked, and with what arguments."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional as F

from .makers import Table

TABLE = Table(torch=torch, F=F, special=torch.special, linalg=torch.linalg, fft=torch.fft)
each = TABLE.each


def const(like: Any, *shape: int, low: float = -1.0, high: float = 1.2) -> Any:
    """Fixed numbers, such as the weights of a layer."""
    count = int(torch.tensor(shape).prod())
    order = torch.randperm(count, generator=torch.Generator().manual_seed(5))
    return torch.linspace(low, high, count, dtype=torch.float64)[order].reshape(shape).to(like.dtype)


def spd(x: Any) -> Any:
    """A symmetric positive definite matrix per sample, from any square one."""
    return x @ x.mT + torch.diag(0.7 + 0.6 * torch.arange(x.shape[-1])).to(x.dtype)


def well(x: Any) -> Any:
    """A matrix that can be inverted, and is not symmetric."""
    return x / 2 + torch.diag(1.4 + 0.5 * torch.arange(x.shape[-1])).to(x.dtype)


def singly(f: Any, *x: Any) -> Any:
    """Functions without an axis for samples, one sample at a time."""
    return torch.stack([f(*row) for row in zip(*x, strict=True)])


def in_place(f: Any, x: Any) -> Any:
    return f(x * 1.25)


def parts(y: Any) -> Any:
    """Real and imaginary part beside each other."""
    return torch.view_as_real(y.resolve_conj()).flatten(1) if torch.is_complex(y) else y


def first(f: Any, *x: Any) -> Any:
    return f(*x)[0]


# entry by entry
each(
    "torch.abs torch.absolute torch.alias_copy torch.arctan torch.arcsinh torch.asinh torch.atan "
    "torch.clone torch.cos "
    "torch.cosh torch.deg2rad torch.erf torch.erfc torch.exp torch.exp2 torch.expm1 torch.i0 torch.neg "
    "torch.negative "
    "torch.positive torch.rad2deg torch.real torch.conj torch.conj_physical torch.resolve_conj torch.resolve_neg "
    "torch.relu torch.selu torch.celu torch.sigmoid torch.sin torch.sinc torch.sinh torch.square "
    "torch.tanh torch.tan "
    "torch.frac torch.nan_to_num torch.atleast_1d torch.atleast_2d torch.floor torch.ceil torch.round torch.trunc "
    "torch.fix torch.sign torch.sgn torch.hardshrink special.erf special.erfc special.erfcx "
    "special.exp2 special.expit special.expm1 special.i0 special.i0e special.i1 "
    "special.i1e special.ndtr special.log_ndtr special.sinc special.round "
    "F.celu F.elu F.gelu F.hardshrink F.hardsigmoid F.hardswish F.hardtanh F.leaky_relu F.logsigmoid "
    "F.mish F.relu "
    "F.relu6 F.selu F.sigmoid F.silu F.softplus F.softshrink F.softsign F.tanh F.tanhshrink"
)
each(
    "torch.log torch.log10 torch.log1p torch.log2 torch.sqrt torch.rsqrt torch.reciprocal torch.lgamma "
    "torch.digamma special.log1p special.gammaln special.digamma special.psi special.entr "
    "special.modified_bessel_i0 special.modified_bessel_i1 special.modified_bessel_k0 special.modified_bessel_k1 "
    "special.scaled_modified_bessel_k0 special.scaled_modified_bessel_k1 special.bessel_j0 "
    "special.bessel_j1 special.bessel_y0 special.bessel_y1 special.airy_ai special.spherical_bessel_j0",
    domain="positive",
)
each(
    "torch.acos torch.arccos torch.asin torch.arcsin torch.atanh torch.arctanh torch.erfinv special.erfinv",
    domain="unit",
)
each("torch.acosh torch.arccosh", domain="above")
each("torch.logit special.logit special.ndtri", domain="share")
each("torch.polygamma special.polygamma", lambda f, x: f(1, x), domain="positive")
each("torch.polygamma:2 special.polygamma:2", lambda f, x: f(2, x), domain="positive")
each("torch.mvlgamma special.multigammaln", lambda f, x: f(x + 1, 2), domain="positive")
each(
    "torch.abs_ torch.arctan_ torch.arcsinh_ torch.asinh_ torch.atan_ torch.ceil_ torch.celu_ "
    "torch.conj_physical_ "
    "torch.cos_ torch.cosh_ torch.deg2rad_ torch.erf_ torch.erfc_ torch.exp_ torch.exp2_ torch.expm1_ torch.fix_ "
    "torch.floor_ torch.frac_ torch.i0_ torch.nan_to_num_ torch.neg_ torch.negative_ torch.rad2deg_ "
    "torch.relu_ torch.round_ torch.selu_ torch.sigmoid_ torch.sin_ torch.sinc_ torch.sinh_ "
    "torch.square_ torch.tan_ torch.tanh_ torch.trunc_ "
    "F.celu_ F.elu_ F.hardtanh_ F.leaky_relu_ F.relu_ F.selu_",
    in_place,
)
each(
    "torch.log_ torch.log10_ torch.log1p_ torch.log2_ torch.sqrt_ torch.rsqrt_ torch.reciprocal_",
    in_place,
    domain="positive",
)
each(
    "torch.acos_ torch.arccos_ torch.asin_ torch.arcsin_ torch.atanh_ torch.arctanh_",
    lambda f, x: f(x * 1.1),
    domain="unit",
)
each("torch.acosh_ torch.arccosh_", in_place, domain="above")
each("torch.logit_", lambda f, x: f(x * 1.1), domain="share")
each("torch.clamp torch.clip", lambda f, x: f(x, -0.5, 0.7))
each("torch.clamp_ torch.clip_", lambda f, x: f(x * 1.25, -0.5, 0.7))
each("torch.clamp_max torch.clamp_min", lambda f, x: f(x, 0.31))
each("torch.clamp_max_ torch.clamp_min_", lambda f, x: f(x * 1.25, 0.31))
each("torch.threshold F.threshold", lambda f, x: f(x, 0.33, 0.2))
each("torch.threshold_ F.threshold_", lambda f, x: f(x * 1.25, 0.33, 0.2))
each("torch.rsub", lambda f, x: f(x * x, 0.5))
each("torch.fill", lambda f, x: f(x, 0.5) * x)
each("torch.fill_ torch.zero_", lambda f, x: (f(x * 2.0, 0.5) if f is torch.fill_ else f(x * 2.0)) + x)
each("torch.dropout F.dropout torch.feature_dropout torch.alpha_dropout F.alpha_dropout", lambda f, x: f(x, 0.5, False))
each("F.dropout1d", lambda f, x: f(x, 0.5, False), "cd")
each("F.dropout2d", lambda f, x: f(x, 0.5, False), "cdh")
each("F.dropout3d F.feature_alpha_dropout torch.feature_alpha_dropout", lambda f, x: f(x, 0.5, False), "cdhw")
each(
    "torch.dropout_ torch.feature_dropout_ torch.alpha_dropout_ torch.feature_alpha_dropout_",
    lambda f, x: f(x * 1.1, 0.5, False),
    "cd",
)
each("torch.rrelu F.rrelu", lambda f, x: f(x, 0.1, 0.3, False))
each("torch.rrelu_ F.rrelu_", lambda f, x: f(x * 1.1, 0.1, 0.3, False))
each("torch.prelu F.prelu", lambda f, x: f(x, const(x, 1, low=0.2, high=0.3)))
each(
    "special.chebyshev_polynomial_t special.chebyshev_polynomial_u special.chebyshev_polynomial_v "
    "special.chebyshev_polynomial_w "
    "special.hermite_polynomial_h special.hermite_polynomial_he special.laguerre_polynomial_l "
    "special.legendre_polynomial_p "
    "special.shifted_chebyshev_polynomial_t special.shifted_chebyshev_polynomial_u "
    "special.shifted_chebyshev_polynomial_v special.shifted_chebyshev_polynomial_w",
    lambda f, x: f(x, 3),
    domain="share",
)

# two and three arguments, entry by entry
each(
    "torch.add torch.sub torch.subtract torch.mul torch.multiply torch.maximum torch.minimum torch.fmax "
    "torch.fmin torch.max:2 "
    "torch.min:2 torch.logaddexp torch.logaddexp2 torch.copysign torch.hypot torch.atan2 torch.arctan2",
    shapes="f f",
)
each(
    "torch.div torch.divide torch.true_divide torch.fmod torch.remainder torch.xlogy special.xlogy special.xlog1py",
    shapes="f f",
    domain="real positive",
)
each("torch.xlogy_", lambda f, a, b: f(a * 1.1, b), "f f", domain="real positive")
each("torch.pow torch.float_power", shapes="f f", domain="positive real")
each("torch.pow:2 torch.float_power:2", lambda f, x: f(x, 2))
each("torch.pow:3", lambda f, x: f(x, 3))
each("torch.pow:base", lambda f, x: f(2.0, x))
each("torch.floor_divide", lambda f, a, b: f(a, b) * a, "f f", "real positive")
each("torch.ldexp", lambda f, a: f(a, torch.tensor(2)))
each("torch.ldexp_", lambda f, a: f(a * 1.1, torch.tensor(2)))
each("torch.heaviside", lambda f, a, b: f(a, b) * a, "f f")
each("torch.nextafter", lambda f, a: f(a, a + 1))
each(
    "torch.igamma torch.igammac special.gammainc special.gammaincc",
    lambda f, x: f(torch.tensor(1.7).to(x.dtype), x),
    domain="positive",
)
each("special.zeta", lambda f, x: f(torch.tensor(2.5).to(x.dtype), x), domain="positive")
each("torch.lerp", shapes="f f f")
each("torch.addcmul torch.addcdiv", lambda f, a, b, c: f(a, b, c, value=0.7), "f f f", "real real positive")
each("torch.where", lambda f, a, b: f(a > b, a * a, b), "f f")
each("torch.where:safe", lambda f, a: f(a > 0, torch.sqrt(torch.where(a > 0, a, 1.0)), a))
each("torch.masked_fill", lambda f, a: f(a, a > 0.3, 0.5))
each("torch.masked_scatter", lambda f, a, b: f(a, torch.ones_like(a, dtype=torch.bool), b), "f f")
each("torch.frexp", lambda f, x: f(x)[0], domain="positive")

# along axes
AXIS = lambda f, x: f(x, 1)
each(
    "torch.cumsum torch.cumprod torch.logcumsumexp torch.softmax torch.log_softmax torch.logsumexp "
    "torch.sum torch.mean torch.prod torch.nansum "
    "torch.nanmean torch.amax torch.amin torch.std torch.var torch.diff:axis special.logsumexp "
    "special.softmax special.log_softmax F.softmax F.softmin F.log_softmax torch.unsqueeze "
    "torch.unsqueeze_copy",
    lambda f, x: f(x, 1) if f is not torch.diff else f(x, dim=1),
    "3f",
)
each(
    "torch.sum:all torch.mean:all torch.amax:all torch.amin:all torch.logsumexp:all torch.std:all "
    "torch.var:all torch.nansum:all torch.nanmean:all",
    lambda f, x: f(x, (1, 2)),
    "2f",
)
each(
    "torch.max torch.min torch.median torch.nanmedian torch.cummax torch.cummin torch.sort torch.mode",
    lambda f, x: f(x, 1)[0],
    "4f",
)
each("torch.std_mean torch.var_mean", lambda f, x: torch.stack(f(x, 1), 1), "3f")
each("torch.aminmax", lambda f, x: torch.stack(f(x, dim=1), 1), "3f")
each("torch.topk torch.kthvalue", lambda f, x: f(x, 2, 1)[0], "4")
each("torch.msort", lambda f, x: f(x.T).T, "4")
each("torch.quantile torch.nanquantile", lambda f, x: f(x, 0.3, 1), "4")
each("torch.norm linalg.vector_norm", lambda f, x: f(x, 2, 1), "3")
each("torch.norm:1 linalg.vector_norm:1", lambda f, x: f(x, 1, 1), "3")
each("torch.norm:3 linalg.vector_norm:3", lambda f, x: f(x, 3, 1), "3")
each("torch.norm:inf linalg.vector_norm:inf", lambda f, x: f(x, float("inf"), 1), "3")
each("torch.norm:square linalg.norm:square", lambda f, x: f(x, 2, 1) ** 2, "3")
each("torch.renorm", lambda f, x: f(x, 2, 0, 0.7), "3")
each("torch.gradient", lambda f, x: f(x, dim=1)[0], "4")
each("torch.trapezoid torch.trapz torch.cumulative_trapezoid", lambda f, x: f(x, dim=1), "4")
each("torch.cov torch.corrcoef", lambda f, x: singly(f, x), "23")
each("torch.count_nonzero torch.argmax torch.argmin", lambda f, x: x * f(x, dim=1, **{}).unsqueeze(1), "3")
each("torch.histc", lambda f, x: singly(f, x) + x[:, :1], "3")
each("F.normalize", lambda f, x: f(x, dim=1), "3")
each("F.glu", lambda f, x: f(x, 1), "4f")

# shapes
each("torch.flatten torch.squeeze torch.squeeze_copy", lambda f, x: f(x, 1), "1f")
each("torch.reshape", lambda f, x: f(x, (x.shape[0], -1)), "hf")
each("torch.ravel", lambda f, x: f(x).reshape(x.shape))
each(
    "torch.transpose torch.transpose_copy torch.swapaxes torch.swapdims torch.moveaxis torch.movedim",
    lambda f, x: f(x, 1, 2),
    "hf",
)
each("torch.permute torch.permute_copy", lambda f, x: f(x, (0, 2, 1)), "hf")
each("torch.adjoint", shapes="hf")
each("torch.t torch.t_copy", lambda f, x: f(f(x)))
each("torch.flip", lambda f, x: f(x, (1,)), "hf")
each("torch.fliplr", shapes="hf")
each("torch.flipud torch.rot90", lambda f, x: singly(f, x), "23")
each("torch.roll", lambda f, x: f(x, 1, 1), "3f")
each("torch.cat torch.concat torch.concatenate torch.stack", lambda f, a, b: f([a, b, a], 1), "f f")
each("torch.hstack torch.column_stack torch.dstack", lambda f, a, b: f([a, b]), "hf hf")
each("torch.vstack torch.row_stack", lambda f, a, b: f([a.T, b.T]).T, "f f")
each("torch.atleast_3d", shapes="hf")
each("torch.expand_copy torch.view_copy", lambda f, x: f(x, x.shape) * x)
each("torch.broadcast_to", lambda f, x: f(x, (2, *x.shape)).transpose(0, 1))
each(
    "torch.broadcast_tensors torch.meshgrid",
    lambda f, a, b: (
        f(a, b)[0] * b
        if f is torch.broadcast_tensors
        else singly(lambda p, q: torch.stack(f(p, q, indexing="ij")), a, b)
    ),
    "2 2",
)
each("torch.tile", lambda f, x: f(x, (1, 2)))
each("torch.repeat_interleave", lambda f, x: f(x, 2, 1))
each(
    "torch.chunk torch.split torch.split_copy torch.tensor_split torch.unsafe_chunk torch.unsafe_split",
    lambda f, x: f(x, 2, 1)[0],
    "4f",
)
each(
    "torch.split_with_sizes torch.split_with_sizes_copy torch.unsafe_split_with_sizes",
    lambda f, x: f(x, [1, 3], 1)[1],
    "4f",
)
each("torch.unbind torch.unbind_copy", lambda f, x: f(x, 1)[0], "3f")
each("torch.hsplit", lambda f, x: f(x, 2)[1], "4f")
each(
    "torch.vsplit torch.dsplit",
    lambda f, x: f(x.reshape(-1, 2, 2) if f is torch.dsplit else torch.stack([x, x * x]), 2)[1].reshape(x.shape[0], -1),
    "4",
)
each("torch.unflatten", lambda f, x: f(x, 1, (2, 2)), "4f")
each("torch.narrow torch.narrow_copy", lambda f, x: f(x, 1, 1, 2), "4f")
each("torch.select torch.select_copy", lambda f, x: f(x, 1, 1), "4f")
each("torch.slice_copy", lambda f, x: f(x, 1, 0, 4, 2), "4f")
each("torch.index_select", lambda f, x: f(x, 1, torch.tensor([2, 0, 2])), "4f")
each("torch.take", lambda f, x: singly(lambda a: f(a, torch.tensor([2, 0, 2])), x), "4")
each(
    "torch.gather torch.take_along_dim",
    lambda f, x: (
        f(x, 1, torch.tensor([[2, 0, 2]]).expand(x.shape[0], 3))
        if f is torch.gather
        else f(x, torch.tensor([[2, 0, 2]]), 1)
    ),
    "4",
)
each("torch.masked_select", lambda f, x: singly(lambda a: f(a, torch.tensor([True, False, True])), x), "3")
each("torch.index_add torch.index_copy", lambda f, a, b: f(a, 1, torch.tensor([1, 0]), b), "3 2")
each("torch.index_fill", lambda f, a: f(a, 1, torch.tensor([1, 0]), 0.5), "3")
each("torch.index_reduce", lambda f, a, b: f(a, 1, torch.tensor([1, 1]), b, "prod"), "3 2", "positive")
each(
    "torch.index_put torch.index_put_",
    lambda f, a: f(a * 1.1, (torch.arange(a.shape[0]), torch.ones(a.shape[0], dtype=torch.long)), a[:, 0] ** 2),
    "3",
)
each("torch.scatter torch.scatter_add", lambda f, a, b: f(a, 1, torch.tensor([[1, 0]]).expand(a.shape[0], 2), b), "3 2")
for how in ("sum", "prod", "mean", "amax"):
    each(
        f"torch.scatter_reduce:{how}",
        lambda f, a, b, how=how: f(a, 1, torch.tensor([[1, 1]]).expand(a.shape[0], 2), b, how),
        "3 2",
    )
each("torch.put", lambda f, a: singly(lambda s: f(s, torch.tensor([1]), s[:1] ** 2), a), "3")
each(
    "torch.select_scatter torch.slice_scatter",
    lambda f, a, b: f(a, b, 1, 1) if f is torch.select_scatter else f(a, b[:, None], 1, 1, 2),
    "3 .",
)
each("torch.diagonal_scatter", lambda f, a, b: f(a, b, 0, 1, 2), "33 3")
each(
    "torch.as_strided_scatter torch.as_strided torch.as_strided_copy",
    lambda f, x: singly(
        lambda a: f(a * 1.1, *([a[:2] ** 2] if f is torch.as_strided_scatter else []), (2,), (1,), 0), x
    ),
    "4",
)
each("torch.diag torch.diagflat torch.triu torch.tril torch.trace", lambda f, x: singly(f, x), "33")
each("torch.diag_embed", shapes="f")
each("torch.diagonal torch.diagonal_copy", lambda f, x: f(x, 0, 1, 2), "34")
each("torch.block_diag torch.cartesian_prod torch.kron", lambda f, a, b: singly(f, a, b), "2 2")
each("torch.combinations torch.vander", lambda f, a: singly(f, a), "3")
each("torch.constant_pad_nd F.pad", lambda f, x: f(x, (1, 2)), "f")
for how in ("reflect", "replicate", "circular"):
    each(f"F.pad:{how}", lambda f, x, how=how: f(x, (1, 2), how), "24")
each("torch.unfold_copy", lambda f, x: f(x, 1, 2, 1), "4")
each(
    "torch.channel_shuffle torch.native_channel_shuffle F.channel_shuffle F.native_channel_shuffle",
    lambda f, x: f(x, 2),
    "4hw",
)
each("torch.pixel_shuffle F.pixel_shuffle", lambda f, x: f(x, 2), "4hw")
each("torch.pixel_unshuffle F.pixel_unshuffle", lambda f, x: f(x, 2), "122")
each("torch.view_as_real torch.view_as_real_copy", lambda f, a, b: f(torch.complex(a, b)), "f f")
each("torch.view_as_complex torch.view_as_complex_copy", lambda f, x: parts(f(x.clone()) ** 2), "f2")
each("torch.complex torch.polar", lambda f, a, b: parts(f(a, b) ** 2), "f f", "positive real")
each("torch.imag", lambda f, a, b: f(torch.complex(a, b) ** 2), "f f")
each("torch.angle", lambda f, a, b: f(torch.complex(a, b)), "f f", "positive")
