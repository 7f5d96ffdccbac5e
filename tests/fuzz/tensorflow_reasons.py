"""What TensorFlow exports and the fuzz does not ask, each with its reason; a few functions over several samples."""

from __future__ import annotations

import tensorflow as tf

from . import tensorflow_networks  # noqa: F401  (its makers)
from .tensorflow_functions import TABLE, each

without = TABLE.without

each("tf.fill", lambda f, x: f([2], tf.constant(0.5, x.dtype)) * x, "2")
each("tf.truncatediv", lambda f, x: x * tf.cast(f(tf.cast(x * 3, tf.int32), 2), x.dtype))
each("tf.tuple", lambda f, x: f([x * x, x])[0])
each("tf.ones_like tf.zeros_like", lambda f, x: f(x) * x)
each("tf.grad_pass_through:same", lambda f, x: f(lambda a: a)(x) ** 2)
each(
    "nn.space_to_batch tf.space_to_batch tf.space_to_batch_nd",
    lambda f, x: tf.reshape(
        tf.transpose(
            tf.reshape(
                f(x[..., None, None], [2, 1], [[0, 0], [0, 0]])
                if "nd" not in f.__name__
                else f(x[..., None], [2], [[0, 0]]),
                [2, -1, 2],
            ),
            [1, 0, 2],
        ),
        [-1, 4],
    ),
    "4",
)
each("image.convert_image_dtype", lambda f, x: f(x, x.dtype) * x)

without(
    "creates an array",
    "linalg.eye tf.eye tf.constant tf.linspace tf.range tf.ones tf.zeros tf.sequence_mask "
    "signal.*_window signal.inverse_stft_window_fn signal.linear_to_mel_weight_matrix math.sobol_sample",
)
without(
    "random",
    "image.random_* image.stateless_* image.sample_* nn.all_candidate_sampler "
    "nn.compute_accidental_hits nn.fixed_unigram_* nn.fractional_* nn.learned_unigram_* nn.nce_loss "
    "nn.sampled_softmax_loss tf.random_index_shuffle",
)
without(
    "an integer, a boolean or an object comes out",
    "linalg.matrix_rank math.argmax math.argmin math.bincount math.confusion_matrix math.count_nonzero "
    "math.equal math.greater* math.in_top_k math.invert_permutation math.is_* math.less* math.logical_* "
    "math.not_equal math.reduce_all math.reduce_any math.zero_fraction nn.zero_fraction nn.in_top_k "
    "tf.argmax tf.argmin tf.argsort tf.approx_top_k tf.as_string tf.equal tf.greater* tf.less* "
    "tf.logical_* tf.not_equal tf.reduce_all tf.reduce_any tf.histogram_* tf.searchsorted tf.unique* "
    "tf.unravel_index tf.shape* tf.size tf.rank tf.one_hot tf.edit_distance tf.fingerprint tf.is_tensor "
    "tf.is_symbolic_tensor nn.collapse_repeated nn.ctc_*decoder nn.ctc_unique_labels image.non_max_* "
    "image.combined_non_max* image.generate_bounding_box* image.is_jpeg image.extract_jpeg_shape",
)
without(
    "bytes of files, or drawn for people",
    "image.decode_* image.encode_* image.adjust_jpeg_quality image.draw_bounding_boxes",
)
without(
    "one number for all samples",
    "linalg.global_norm tf.clip_by_global_norm nn.compute_average_loss nn.scale_regularization_loss "
    "tf.batch_to_space image.ssim_multiscale",
)
without("no kernel on a processor, in some versions", "signal.*fftnd tf.*fftnd *.approx_max_k *.approx_min_k")
without("takes token ids", "nn.embedding_lookup_sparse nn.safe_embedding_lookup_sparse")
without(
    "the derivative of a kernel, over all samples",
    "nn.depthwise_conv2d_backprop_filter tf.conv2d_backprop_filter_v2 tf.conv2d_backprop_input_v2",
)
without(
    "its rule is not the derivative on purpose: `wrt.check` says so",
    "tf.stop_gradient tf.custom_gradient tf.no_gradient",
)
without(
    "graphs, devices, assertions, types",
    "tf.Assert tf.as_dtype tf.assert_* tf.broadcast_*_shape tf.check_pinned tf.control_dependencies "
    "tf.device tf.executing_eagerly tf.function tf.get_* tf.gradients tf.hessians tf.group "
    "tf.import_graph_def tf.init_scope tf.inside_function tf.load_* tf.make_* tf.no_op "
    "tf.nondifferentiable_batch_function tf.numpy_function tf.py_function tf.parallel_stack tf.print "
    "tf.ragged_* tf.register_* tf.required_* tf.timestamp tf.type_spec_from_value "
    "tf.variable_creator_scope nn.with_space_to_batch",
)
