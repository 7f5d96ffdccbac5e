"""torch.linalg and torch.fft: which functions are asked, and with what."""

from __future__ import annotations

import torch

from .torch_functions import const, each, first, parts, singly, spd, well

# matrices
each("torch.matmul torch.bmm linalg.matmul", shapes="hk kf")
each("torch.mm", lambda f, a, b: singly(torch.mm, a, b), "hk kf")
each(
    "torch.mv torch.dot torch.vdot torch.inner torch.outer torch.ger",
    lambda f, a, b: singly(lambda p, q: f(torch.outer(p, q), q) if f is torch.mv else f(p, q), a, b),
    "3 3",
)
each(
    "torch.addmm torch.addmv torch.addr torch.addmv_",
    lambda f, a, b: singly(
        lambda p, q: {
            torch.addmm: lambda: f(p, p, q),
            torch.addmv: lambda: f(p[0], p, q[0]),
            torch.addr: lambda: f(p, p[0], q[0]),
            torch.addmv_: lambda: f(p[0] * 1.1, p, q[0]),
        }[f](),
        a,
        b,
    ),
    "33 33",
)
each("torch.baddbmm", lambda f, a, b: f(a, a, b), "33 33")
each("torch.addbmm", lambda f, a, b: singly(lambda p, q: f(p, p[None], q[None]), a, b), "33 33")
each(
    "torch.chain_matmul linalg.multi_dot",
    lambda f, a, b: singly(lambda p, q: f([p, q, p]) if f is torch.linalg.multi_dot else p @ q @ p, a, b),
    "33 33",
)
each("torch.einsum", lambda f, a, b: f("nij,njk->nki", a, b), "hk kf")
each("torch.tensordot", lambda f, a, b: singly(lambda p, q: f(p, q, 1), a, b), "hk kf")
each("torch.cross linalg.cross", lambda f, a, b: f(a, b, dim=1), "3 3")
each("linalg.vecdot", shapes="hf hf")
each("torch.cdist", shapes="2f 3f")
each("torch.cdist:1", lambda f, a, b: f(a, b, p=1.0), "2f 3f")
each("torch.cdist:3", lambda f, a, b: f(a, b, p=3.0), "2f 3f")
each("torch.pdist F.pdist", lambda f, x: singly(f, x), "32")
each("torch.dist", lambda f, a, b: singly(f, a, b), "3 3")
each("torch.cosine_similarity F.cosine_similarity torch.pairwise_distance F.pairwise_distance", shapes="3 3")
each("torch.bilinear F.bilinear", lambda f, a, b: f(a, b, const(a, 2, 3, 3), const(a, 2)), "3 3")
each(
    "torch.det linalg.det torch.inverse linalg.inv torch.pinverse linalg.pinv torch.matrix_exp "
    "linalg.matrix_exp torch.logdet linalg.svdvals",
    lambda f, x: f(well(x)),
    "22",
)
each("linalg.det:3 linalg.inv:3", lambda f, x: f(well(x)), "33")
each("torch.det:any linalg.det:any", lambda f, x: f(x), "33")
each("torch.slogdet linalg.slogdet", lambda f, x: f(well(x))[1], "33")
each("linalg.inv_ex", lambda f, x: f(well(x))[0], "22")
each("torch.matrix_power linalg.matrix_power", lambda f, x: f(x, 3), "22")
each("linalg.matrix_power:inverse", lambda f, x: f(well(x), -2), "22")
each("torch.cholesky linalg.cholesky", lambda f, x: torch.linalg.cholesky(spd(x)), "33")
each("linalg.cholesky_ex", lambda f, x: f(spd(x))[0], "22")
each("torch.cholesky_inverse", lambda f, x: f(torch.linalg.cholesky(spd(x))), "22")
each("torch.cholesky_solve", lambda f, b, x: f(b, torch.linalg.cholesky(spd(x))), "21 22")
each("linalg.eigh", lambda f, x: f(spd(x))[0], "33")
each("linalg.eigh:projector", lambda f, x: (lambda v: v[..., :1] @ v[..., :1].mT)(f(spd(x))[1]), "22")
each("linalg.eigvalsh", lambda f, x: f(spd(x)), "33")
each("linalg.eig", lambda f, x: f(spd(x))[0].real.sum(1) ** 2, "22")
each("linalg.eigvals", lambda f, x: (f(well(x)) ** 2).real.sum(1), "22")
each("torch.svd linalg.svd", lambda f, x: f(well(x))[1], "22")
each(
    "torch.svd:low linalg.svd:low", lambda f, x: (lambda u, s, v: u[..., :1] * s[..., None, :1])(*f(well(x))) ** 2, "22"
)
each("torch.qr linalg.qr", lambda f, x: torch.cat(f(well(x)), 1), "22")
each("linalg.lu", lambda f, x: torch.cat(f(well(x))[1:], 1), "22")
each("torch.lu linalg.lu_factor linalg.lu_factor_ex", lambda f, x: f(well(x))[0], "22")
each(
    "torch.lu_solve linalg.lu_solve",
    lambda f, b, x: (lambda lu, p: f(b, lu, p) if f is torch.lu_solve else f(lu, p, b))(
        *torch.linalg.lu_factor(well(x))
    ),
    "21 22",
)
each("torch.lu_unpack", lambda f, x: f(*torch.linalg.lu_factor(well(x)))[1], "22")
each("linalg.solve", lambda f, x, b: f(well(x), b), "22 21")
each("linalg.solve_ex", lambda f, x, b: f(well(x), b)[0], "22 21")
each(
    "linalg.tensorsolve linalg.tensorinv",
    lambda f, x: singly(lambda a: f(well(a), a[0]) if f is torch.linalg.tensorsolve else f(well(a), 1), x),
    "22",
)
each("linalg.lstsq", lambda f, x, b: f(well(x), b)[0], "22 21")
each("linalg.solve_triangular", lambda f, x, b: f(well(x).triu(), b, upper=True), "22 21")
each("torch.triangular_solve", lambda f, x, b: f(b, well(x))[0], "22 21")
each("linalg.householder_product torch.orgqr", lambda f, x, t: f(x, t), "32 2")
each("torch.ormqr", lambda f, x, t: f(x, t, torch.ones(3, 2, dtype=x.dtype).expand(len(x), 3, 2)), "32 2")
each("torch.geqrf", lambda f, x: first(f, well(x)), "22")
each("linalg.matrix_norm", lambda f, x: f(x), "23")
each("linalg.matrix_norm:nuc linalg.matrix_norm:2", lambda f, x: f(well(x), "nuc"), "22")
each("torch.nuclear_norm torch.frobenius_norm", lambda f, x: f(well(x), (1, 2)), "22")
each("linalg.norm", lambda f, x: f(x, dim=(1, 2)), "22")
each("linalg.cond", lambda f, x: torch.linalg.cond(well(x)), "22")
each("linalg.diagonal", shapes="34")
each("linalg.vander", shapes="3")
each("linalg.ldl_factor linalg.ldl_factor_ex", lambda f, x: f(spd(x))[0], "22")
each("linalg.ldl_solve", lambda f, x, b: f(*torch.linalg.ldl_factor(spd(x)), b), "22 21")

# transforms; complex results are seen by their parts
each("fft.fft fft.rfft fft.ifft fft.ihfft fft.hfft", lambda f, x: parts(f(x)), "4")
each("fft.fft2 fft.fftn fft.ifft2 fft.ifftn fft.rfft2 fft.rfftn", lambda f, x: parts(f(x, dim=(1, 2))), "23")
each("fft.ihfft2 fft.ihfftn fft.hfft2 fft.hfftn", lambda f, x: parts(f(x, dim=(1, 2))), "24")
each("fft.irfft", lambda f, x: f(torch.fft.rfft(x) ** 2), "4")
each("fft.irfft2 fft.irfftn", lambda f, x: f(torch.fft.rfft2(x) ** 2, dim=(1, 2)), "24")
each("fft.fftshift fft.ifftshift", lambda f, x: f(x, 1), "4")
each(
    "torch.stft",
    lambda f, x: parts(f(x, 4, 2, window=torch.ones(4, dtype=x.dtype), center=False, return_complex=True)),
    "8",
)
each(
    "torch.istft",
    lambda f, x: f(
        torch.stft(x, 4, 1, window=torch.ones(4, dtype=x.dtype), return_complex=True) ** 2,
        4,
        1,
        window=torch.ones(4, dtype=x.dtype),
    ),
    "8",
)
