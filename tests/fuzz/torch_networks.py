"""torch.nn.functional: which functions are asked, and why the rest of torch is not."""

from __future__ import annotations

import torch

from . import torch_matrices  # noqa: F401  (its makers)
from .torch_functions import TABLE, const, each, singly

without = TABLE.without

# networks
each("F.linear", lambda f, x: f(x, const(x, 2, 3), const(x, 2)), "h3")
each("torch.conv1d F.conv1d", lambda f, x: f(x, const(x, 2, 2, 2), const(x, 2), 1, 1), "24")
each("torch.conv2d F.conv2d", lambda f, x: f(x, const(x, 2, 2, 2, 2), None, 2, 1), "233")
each("torch.conv3d F.conv3d", lambda f, x: f(x, const(x, 2, 1, 2, 2, 2)), "1222")
each(
    "torch.conv2d:kernel", lambda f, x, w: torch.cat([f(x[i : i + 1], w[i : i + 1]) for i in range(len(x))]), "133 122"
)
each("torch.conv_transpose1d F.conv_transpose1d", lambda f, x: f(x, const(x, 2, 3, 2), None, 2), "23")
each("torch.conv_transpose2d F.conv_transpose2d", lambda f, x: f(x, const(x, 2, 2, 2, 2), None, 2), "222")
each("torch.conv_transpose3d F.conv_transpose3d", lambda f, x: f(x, const(x, 1, 1, 2, 2, 2)), "1222")
each(
    "torch.conv_tbc F.conv_tbc",
    lambda f, x: f(x.transpose(0, 1).contiguous(), const(x, 2, 3, 2), const(x, 2)).transpose(0, 1),
    "43",
)
each("torch.convolution", lambda f, x: f(x, const(x, 2, 2, 2), None, [1], [0], [1], False, [0], 1), "24")
for rank, size in ((1, "24"), (2, "243"), (3, "1332")):
    each(f"F.avg_pool{rank}d F.max_pool{rank}d", lambda f, x: f(x, 2, 1, 1), size)
    each(f"F.lp_pool{rank}d", lambda f, x: f(x, 3.0, 2), size, "positive")
    each(f"F.adaptive_avg_pool{rank}d F.adaptive_max_pool{rank}d", lambda f, x: f(x, 2), size)
    each(f"F.max_pool{rank}d_with_indices", lambda f, x: f(x, 2, 1)[0], size)
    each(f"F.adaptive_max_pool{rank}d_with_indices", lambda f, x: f(x, 2)[0], size)
    each(
        f"F.max_unpool{rank}d",
        lambda f, x, r=rank: f(
            *getattr(torch.nn.functional, f"max_pool{r}d")(x, 2, return_indices=True), 2, output_size=x.shape[2:]
        ),
        size,
    )
each("torch.avg_pool1d torch.max_pool1d", lambda f, x: f(x, 2), "24")
each("torch.max_pool2d", lambda f, x: f(x, 2), "144")
each("torch.max_pool3d", lambda f, x: f(x, 2), "1222")
each("torch.adaptive_avg_pool1d", lambda f, x: torch.adaptive_avg_pool1d(x, 2), "24")
each("torch.adaptive_max_pool1d torch.max_pool1d_with_indices", lambda f, x: f(x, 2)[0], "24")
each(
    "torch.batch_norm F.batch_norm",
    lambda f, x: f(
        x,
        const(x, 3),
        const(x, 3, low=0.5, high=2),
        const(x, 3),
        const(x, 3),
        *([False, 0.1, 1e-3, False] if f is torch.batch_norm else []),
    ),
    "3h",
)
each("F.layer_norm torch.layer_norm F.rms_norm torch.rms_norm", lambda f, x: f(x, (3,)), "h3")
each("F.group_norm torch.group_norm", lambda f, x: f(x, 2), "4h")
each("F.instance_norm", shapes="24")
each("torch.instance_norm", lambda f, x: f(x, None, None, None, None, True, 0.1, 1e-3, False), "24")
each("F.local_response_norm", lambda f, x: f(x, 2), "4h")
each("torch.native_layer_norm", lambda f, x: f(x, (3,), None, None, 1e-3)[0], "h3")
each("torch.native_group_norm", lambda f, x: f(x, None, None, len(x), 4, 2, 2, 1e-3)[0], "42")
each(
    "torch.native_batch_norm",
    lambda f, x: f(x, None, None, const(x, 3), const(x, 3, low=0.5, high=2), False, 0.1, 1e-3)[0],
    "3h",
)
each("F.scaled_dot_product_attention", shapes="2f 3f 3f")
each(
    "F.multi_head_attention_forward",
    lambda f, x: f(
        *[x.transpose(0, 1)] * 3,
        4,
        2,
        const(x, 12, 4),
        const(x, 12),
        None,
        None,
        False,
        0.0,
        const(x, 4, 4),
        const(x, 4),
        training=False,
    )[0].transpose(0, 1),
    "24",
)
each("F.interpolate F.upsample", lambda f, x: f(x, scale_factor=2), "122")
for how in ("bilinear", "bicubic", "area"):
    each(f"F.interpolate:{how}", lambda f, x, how=how: f(x, size=(3, 4), mode=how), "133")
each("F.upsample_nearest F.upsample_bilinear", lambda f, x: f(x, scale_factor=2), "122")
each("F.unfold", lambda f, x: f(x, 2), "133")
each("F.fold", lambda f, x: f(x, (3, 3), 2), "44")
each("F.affine_grid torch.affine_grid_generator", lambda f, x: f(x, [len(x), 1, 2, 2], False), "23")
each("F.grid_sample", lambda f, x, g: f(x, g, align_corners=False), "133 222", "real unit")
each("torch.grid_sampler torch.grid_sampler_2d", lambda f, x, g: f(x, g, 0, 0, False), "133 222", "real unit")
each("torch.grid_sampler_3d", lambda f, x, g: f(x, g, 0, 0, False), "1222 1123", "real unit")
each(
    "torch.gru_cell torch.rnn_tanh_cell torch.rnn_relu_cell",
    lambda f, x, h: (lambda k: f(x, h, const(x, k, 2), const(x, k, 2), const(x, k), const(x, k)))(
        6 if f is torch.gru_cell else 2
    ),
    "2 2",
)
each(
    "torch.lstm_cell",
    lambda f, x, h: f(x, (h, h * h), const(x, 8, 2), const(x, 8, 2), const(x, 8), const(x, 8))[0],
    "2 2",
)
each(
    "torch.gru torch.rnn_tanh torch.rnn_relu",
    lambda f, x: (
        lambda k: f(
            x,
            torch.zeros(1, len(x), 2, dtype=x.dtype),
            [const(x, k, 2), const(x, k, 2), const(x, k), const(x, k)],
            True,
            1,
            0.0,
            False,
            False,
            True,
        )[0]
    )(6 if f is torch.gru else 2),
    "22",
)
each(
    "torch.lstm",
    lambda f, x: f(
        x,
        [torch.zeros(1, len(x), 2, dtype=x.dtype)] * 2,
        [const(x, 8, 2), const(x, 8, 2), const(x, 8), const(x, 8)],
        True,
        1,
        0.0,
        False,
        False,
        True,
    )[0],
    "22",
)

# losses, one per sample
each(
    "F.mse_loss F.l1_loss F.smooth_l1_loss F.huber_loss F.poisson_nll_loss",
    lambda f, a, b: f(a, b, reduction="none"),
    "f f",
)
each("torch.poisson_nll_loss", lambda f, a, b: f(a, b, True, False, 1e-8, 0), "f f")
each("F.binary_cross_entropy", lambda f, a, b: f(a, b, reduction="none"), "f f", "share")
each("F.binary_cross_entropy_with_logits", lambda f, a, b: f(a, b, reduction="none"), "f f", "real share")
each("torch.binary_cross_entropy_with_logits", lambda f, a, b: f(a, b, None, None, 0), "f f", "real share")
each(
    "F.kl_div torch.kl_div",
    lambda f, a, b: f(a, b, reduction="none") if f is torch.nn.functional.kl_div else f(a, b, 0),
    "f f",
    "real share",
)
each("F.gaussian_nll_loss", lambda f, a, b, c: f(a, b, c, reduction="none"), "f f f", "real real positive")
LABELS = lambda x: torch.arange(len(x)) * 0 + 1
each("F.cross_entropy F.nll_loss F.multi_margin_loss", lambda f, x: f(x, LABELS(x), reduction="none"), "3")
each(
    "F.multilabel_soft_margin_loss F.multilabel_margin_loss",
    lambda f, x: f(
        x,
        (LABELS(x)[:, None] * torch.tensor([1, 0, 1])).to(x.dtype if "soft" in f.__name__ else torch.long),
        reduction="none",
    ),
    "3",
)
each(
    "F.cosine_embedding_loss torch.cosine_embedding_loss",
    lambda f, a, b: (
        f(a, b, LABELS(a), reduction="none")
        if f is torch.nn.functional.cosine_embedding_loss
        else f(a, b, LABELS(a), 0.0, 0)
    ),
    "3 3",
)
each(
    "F.margin_ranking_loss torch.margin_ranking_loss",
    lambda f, a, b: (
        f(a, b, torch.ones_like(a), 0.3, **({"reduction": "none"} if "functional" in f.__module__ else {}))
        if f is torch.nn.functional.margin_ranking_loss
        else f(a, b, torch.ones_like(a), 0.3, 0)
    ),
    "f f",
)
each(
    "F.hinge_embedding_loss torch.hinge_embedding_loss",
    lambda f, a: (
        f(a, torch.ones_like(a), 1.0, reduction="none")
        if f is torch.nn.functional.hinge_embedding_loss
        else f(a, torch.ones_like(a), 1.0, 0)
    ),
    "f",
)
each(
    "F.triplet_margin_loss F.triplet_margin_with_distance_loss",
    lambda f, a, b, c: f(a, b, c, reduction="none"),
    "3 3 3",
)
each("torch.triplet_margin_loss", lambda f, a, b, c: f(a, b, c, 1.0, 2.0, 1e-6, False, 0), "3 3 3")
each("torch.vmap", lambda f, x: f(lambda a: a * a.sum())(x))
each("torch.segment_reduce", lambda f, x: f(x, "sum", lengths=torch.full((len(x), 1), 3), axis=1), "3")
each("torch.block_diag:1", lambda f, x: singly(lambda a: torch.block_diag(a, a * a), x), "2")
each(
    "torch.ctc_loss F.ctc_loss",
    lambda f, x: f(
        x.log_softmax(2).transpose(0, 1),
        LABELS(x)[:, None],
        LABELS(x) * 4,
        LABELS(x),
        reduction=0 if f is torch.ctc_loss else "none",
    ),
    "43",
)

without(
    "creates an array",
    "torch.arange torch.*_window torch.empty* torch.eye torch.full* torch.linspace torch.logspace "
    "torch.ones* torch.range torch.scalar_tensor torch.tensor torch.as_tensor torch.asarray "
    "torch.tril_indices torch.triu_indices torch.zeros torch.zeros_like torch.from_* torch.frombuffer "
    "torch.sparse_*_tensor fft.fftfreq fft.rfftfreq",
)
without(
    "random",
    "torch.bernoulli torch.binomial torch.multinomial torch.normal torch.poisson torch.rand* "
    "torch.native_dropout torch.seed torch.initial_seed torch.manual_seed F.fractional_max_pool* "
    "torch.pca_lowrank torch.svd_lowrank torch.lobpcg F.gumbel_softmax",
)
without(
    "an integer, a boolean or an object comes out",
    "linalg.matrix_rank torch.all torch.allclose torch.any torch.argsort torch.argwhere torch.bincount "
    "torch.bitwise_* torch.bucketize torch.eq torch.equal torch.gcd* torch.ge torch.greater "
    "torch.greater_equal torch.gt torch.hash_tensor torch.histogram torch.histogramdd torch.int_repr "
    "torch.is* torch.lcm* torch.le torch.less torch.less_equal torch.logical_* torch.lt torch.ne "
    "torch.nonzero* torch.not_equal torch.numel torch.searchsorted torch.signbit torch.unique* "
    "torch.unravel_index torch.typename torch.result_type torch.promote_types torch.can_cast "
    "torch.broadcast_shapes F.one_hot",
)
without(
    "takes token ids; tests/matrix has the layers",
    "F.embedding F.embedding_bag torch.embedding torch.embedding_bag torch.embedding_renorm_",
)
without(
    "the processor's state, threads, files, types, scripts",
    "torch.are_deterministic* torch.autocast_* torch.clear_* torch.compile* torch.get_* torch.set_* "
    "torch.init_num_threads torch.fork torch.wait torch.import_ir* torch.load torch.save "
    "torch.merge_type* torch.parse_* torch.prepare_* torch.profiler_* torch.thread_safe_generator "
    "torch.to_dlpack torch.unify_type_list torch.use_deterministic* torch.sym_* torch.classproperty "
    "torch.choose_qparams* F.Optional F.assert_int_or_pair F.boolean_dispatch F.handle_torch_function "
    "F.has_torch_function*",
)
without(
    "other hardware, other arithmetic",
    "torch.cudnn_* torch.miopen_* torch.mkldnn_* torch.fbgemm_* torch.quantize* torch.q_* "
    "torch.dequantize torch.fused_moving* torch.batch_norm_*elem* torch.batch_norm_backward_* "
    "torch.batch_norm_gather* torch.batch_norm_stats torch.batch_norm_update* "
    "F.scaled_mm F.scaled_grouped_mm F.grouped_mm",
)
without(
    "sparse tensors",
    "torch.*_indices_copy torch.indices_copy torch.values_copy torch.dsmm torch.hsmm torch.hspmm "
    "torch.saddmm torch.smm torch.spmm torch.sspaddmm",
)
without("removed from torch: it raises", "torch.eig torch.lstsq torch.matrix_rank torch.solve torch.symeig")
without(
    "moves memory, no function of values",
    "torch.as_strided_ torch.resize_as_ torch.resize_as_sparse_ torch.slice_inverse",
)
without(
    "takes functions, or shares one number among samples",
    "torch.cond torch.while_loop torch.norm_except_dim torch.native_norm F.linear_cross_entropy",
)
without(
    "its rule is not the derivative on purpose: `wrt.check` says so",
    "torch.detach torch.detach_ torch.detach_copy torch.fake_quantize*",
)
each("F.soft_margin_loss", lambda f, a: f(a, torch.ones_like(a), reduction="none"))
