"""One or more cases for every layer class of `keras.layers`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
from keras import layers as L

ENGINE = keras.backend.backend()
FORMATS = ("channels_last",) if ENGINE == "tensorflow" else ("channels_last", "channels_first")


def bend(x: Any) -> Any:
    """Increasing, and not linear."""
    return x + x * x * x / 8


@dataclasses.dataclass(frozen=True)
class Case:
    """`make(*inputs)` applies the layer to symbolic inputs of these per-sample shapes.

    `kink`: has corners, so differences must be narrow. `before` keeps the layer's input from being the argument
    itself, whose buffer no operator may write into.
    """

    layer: type
    name: str
    make: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    kink: bool = False
    single: bool = False  # float32 inside, whatever was asked for
    before: Callable[[Any], Any] | None = bend
    loose: float = 1  # factor of the tolerance, where values are large
    chunk: int = 64  # seeds at a time
    engines: tuple[str, ...] = ("jax", "torch", "tensorflow")

    def model(self) -> keras.Model:
        inputs = [keras.Input(shape, name=f"x{i}") for i, shape in enumerate(self.shapes)]
        values = [L.Activation(self.before)(x) if self.before else x for x in inputs]
        return keras.Model(inputs[0] if len(inputs) == 1 else inputs, self.make(*values))


CASES: list[Case] = []


def add(name: str, make: Callable[..., Any], *shapes: tuple[int, ...], **options: Any) -> None:
    CASES.append(Case(getattr(L, name.split("-")[0]), name, make, shapes, **options))


def layer(name: str, *shapes: tuple[int, ...], options: dict[str, Any] | None = None, **arguments: Any) -> None:
    """A layer applied to its inputs: one argument, or a list of them."""
    kind = getattr(L, name.split("-")[0])

    def make(*inputs: Any) -> Any:
        return kind(**arguments)(inputs[0] if len(inputs) == 1 else list(inputs))

    add(name, make, *shapes, **(options or {}))


def spatial(name: str, shape: tuple[int, ...], options: dict[str, Any] | None = None, **arguments: Any) -> None:
    """A layer with a data format, in each one that the engine runs; `shape` has the channels last."""
    for data_format in FORMATS:
        last = data_format == "channels_last"
        placed = shape if last else (shape[-1], *shape[:-1])
        layer(f"{name}-{data_format[9:]}", placed, options=options, data_format=data_format, **arguments)


LENGTH, IMAGE, VOLUME = (6, 3), (5, 4, 3), (3, 4, 2, 2)
KINK = {"kink": True}
RESIZED = {"single": ENGINE == "tensorflow"}
# Keras on torch computes these in float32, whatever the dtype
MATMUL = {"single": ENGINE == "torch"}
NO_LANCZOS = {**RESIZED, "engines": ("jax", "tensorflow")}

# tracing a loop in batches of seeds takes TensorFlow half a minute
LOOP = {"chunk": 1} if ENGINE == "tensorflow" else {}
FLAT = {"unroll": True} if ENGINE == "tensorflow" else {}
# as long to trace, and the same operators as their neighbours
NOT_ON_TENSORFLOW = {"engines": ("jax", "torch")}

# Keras on JAX makes float32 of float64 in tanh, sqrt, mean and others (SimpleRNN in float64 fails for that)
NARROWED = {"single": ENGINE == "jax"}

# core, and what moves values about
layer("Dense", (5,), units=3, activation="gelu")
layer("Dense-rank3", (2, 3), units=2)
layer("EinsumDense", (3, 4), equation="abc,cd->abd", output_shape=(None, 2), bias_axes="d")
layer("Activation", (5,), activation="silu")
layer("ActivityRegularization", (5,), l2=0.1)
layer("Identity", (5,))
layer("Flatten", (3, 2))
layer("Permute", (3, 2, 4), dims=(3, 1, 2))
layer("RepeatVector", (4,), n=3)
layer("Reshape", (6,), target_shape=(3, 2))
layer("Masking", (4, 3), mask_value=0.0)
add("Masking-lstm", lambda x: L.LSTM(2, **FLAT)(L.Masking()(x)), (3, 2), before=None, **NARROWED)
add("Lambda", lambda x: L.Lambda(lambda t: keras.ops.exp(t) * t)(x), (4,))
add("InputLayer", lambda x: L.Rescaling(2.0)(x), (4,))
add("Wrapper", lambda x: Twice(L.Dense(3, activation="silu"))(x), (3,))
add("Layer", lambda x: Cubed()(x), (4,))

# activations
SHARP = {"kink": True, "before": None}
for activation in ("sigmoid", "softplus", "softsign", "elu", "selu", "exponential", "mish", "tanh", "log_softmax",
                   "celu", "glu", "log_sigmoid", "squareplus", "soft_shrink", "tanh_shrink", "sparse_plus",
                   "hard_tanh", "hard_sigmoid", "hard_silu", "hard_shrink", "relu6", "sparsemax"):  # fmt: skip
    layer(
        f"Activation-{activation}",
        (6,),
        activation=activation,
        options=SHARP | (NARROWED if activation == "tanh" else {}),
    )
layer("ELU", (6,), alpha=0.7, options=KINK)
layer("LeakyReLU", (6,), negative_slope=0.2, options=KINK)
layer("PReLU", (4, 3), shared_axes=[1], alpha_initializer="uniform", options=KINK)
layer("ReLU", (6,), negative_slope=0.1, max_value=0.4, threshold=0.05, options=KINK)
layer("Softmax", (3, 4), axis=1)

# convolutions
for rank, shape in ((1, LENGTH), (2, IMAGE), (3, VOLUME)):
    for padding in ("valid", "same"):
        spatial(f"Conv{rank}D-{padding}", shape, filters=2, kernel_size=2, padding=padding)
        spatial(f"Conv{rank}D-{padding}-strided", shape, filters=2, kernel_size=2, padding=padding, strides=2)
        spatial(f"Conv{rank}DTranspose-{padding}", shape, filters=2, kernel_size=3, padding=padding, strides=2)
spatial("Conv1D-dilated", LENGTH, filters=2, kernel_size=2, padding="same", dilation_rate=2)
spatial("Conv2D-dilated", IMAGE, filters=2, kernel_size=2, padding="same", dilation_rate=(2, 1))
layer("Conv1D-causal", LENGTH, filters=2, kernel_size=3, padding="causal", dilation_rate=2)
spatial("Conv2D-grouped", (3, 2, 4), filters=2, kernel_size=2, groups=2)
for padding in ("valid", "same"):
    spatial(f"DepthwiseConv1D-{padding}", LENGTH, kernel_size=3, depth_multiplier=2, padding=padding)
    spatial(f"DepthwiseConv2D-{padding}", IMAGE, kernel_size=3, depth_multiplier=2, padding=padding, strides=2)
    spatial(f"SeparableConv1D-{padding}", LENGTH, filters=2, kernel_size=3, padding=padding)
    spatial(f"SeparableConv2D-{padding}", IMAGE, filters=2, kernel_size=3, padding=padding)

# poolings
for rank, shape in ((1, LENGTH), (2, IMAGE), (3, VOLUME)):
    plain = RESIZED if rank == 3 else {}  # TensorFlow pools volumes in float32 only
    corner = plain | KINK
    for padding in ("valid", "same"):
        for strides in (1, 2):
            spatial(f"MaxPooling{rank}D-{padding}-{strides}", shape, corner, pool_size=2, strides=strides,
                    padding=padding)  # fmt: skip
            spatial(
                f"AveragePooling{rank}D-{padding}-{strides}",
                shape,
                plain,
                pool_size=2,
                strides=strides,
                padding=padding,
            )
    spatial(f"GlobalMaxPooling{rank}D", shape, KINK)
    spatial(f"GlobalAveragePooling{rank}D", shape, NARROWED, keepdims=True)
    spatial(f"AdaptiveAveragePooling{rank}D", shape, plain, output_size=2)
    spatial(f"AdaptiveMaxPooling{rank}D", shape, corner, output_size=2)
spatial("MaxPooling2D-keeps-size", (1, 1, 3), KINK, pool_size=2, strides=2, padding="same")
spatial("MaxPooling2D-of-one", IMAGE, KINK, pool_size=1, strides=1)
spatial("MaxPooling2D-overlapping", IMAGE, KINK, pool_size=3, strides=2, padding="same")
add("MaxPooling2D-between", lambda x: L.Conv2D(2, 2)(L.MaxPooling2D(3, 1, "same")(L.Conv2D(2, 2)(x))), IMAGE, **KINK)

# shapes
spatial("Cropping2D", IMAGE, cropping=((1, 0), (1, 1)))
spatial("Cropping3D", VOLUME, cropping=((1, 0), (1, 1), (0, 0)))
layer("Cropping1D", LENGTH, cropping=(1, 2))
layer("ZeroPadding1D", LENGTH, padding=(1, 2))
spatial("ZeroPadding2D", (3, 2, 2), padding=((1, 0), (2, 1)))
spatial("ZeroPadding3D", (2, 2, 1, 2), padding=1)
layer("UpSampling1D", LENGTH, size=2)
spatial("UpSampling2D", (3, 2, 2), size=(2, 3))
for interpolation in ("bilinear", "bicubic", "lanczos3", "lanczos5"):
    where = NO_LANCZOS if "lanczos" in interpolation else RESIZED
    spatial(f"UpSampling2D-{interpolation}", (3, 4, 1), where, size=2, interpolation=interpolation)
spatial("UpSampling3D", (2, 2, 1, 2), size=2)

# normalisation
layer("BatchNormalization", (3, 4), axis=1, options=NARROWED)
layer("GroupNormalization", (3, 4), groups=2, options=NARROWED)
layer("LayerNormalization", (3, 4), options=NARROWED)
layer("RMSNormalization", (3, 4), options=NARROWED)
layer("UnitNormalization", (3, 4))
layer("Normalization", (3,), mean=[0.1, 0.2, 0.3], variance=[1.0, 2.0, 3.0])
add("SpectralNormalization", lambda x: L.SpectralNormalization(L.Dense(3))(x), (4,))

# merging
for name in ("Add", "Average", "Multiply", "Subtract"):
    layer(name, (2, 3), (2, 3))
for name in ("Maximum", "Minimum"):
    layer(name, (2, 3), (2, 3), options=MATMUL | KINK)
layer("Concatenate", (2, 3), (2, 2), axis=-1)
layer("Dot", (2, 3), (4, 3), axes=2, normalize=True)

# attention
add("Attention", lambda q, v: L.Attention(score_mode="dot", use_scale=True)([q, v]), (3, 2), (4, 2))
add("Attention-causal", lambda q: L.Attention()([q, q], use_causal_mask=True), (3, 2))
add("AdditiveAttention", lambda q, v: L.AdditiveAttention()([q, v]), (3, 2), (4, 2), **NARROWED)
add("MultiHeadAttention", lambda q, v: L.MultiHeadAttention(2, 3)(q, v), (3, 2), (4, 2), **NARROWED)
add("MultiHeadAttention-self", lambda q: L.MultiHeadAttention(2, 2)(q, q, use_causal_mask=True), (4, 3), **NARROWED)
add("GroupQueryAttention", lambda q, v: L.GroupQueryAttention(3, 4, 2)(q, v), (3, 2), (4, 2), **NARROWED)

# recurrent
layer("SimpleRNN-loop", (3, 2), units=2, options=LOOP | NARROWED)
layer("LSTM-loop", (3, 2), units=2, options=LOOP | NARROWED)
layer("LSTM-sequence", (2, 3), units=2, return_sequences=True, go_backwards=True, options=NARROWED, **FLAT)
layer("GRU-loop", (3, 2), units=2, reset_after=False, options=LOOP | NARROWED)
layer("GRU-sequence", (2, 3), units=2, return_sequences=True, options=NARROWED, **FLAT)
layer("ConvLSTM1D", (2, 3, 2), filters=1, kernel_size=2, options=LOOP | NARROWED | NOT_ON_TENSORFLOW)
layer("ConvLSTM2D", (2, 2, 2, 1), filters=1, kernel_size=2, options=LOOP | NARROWED)
layer("ConvLSTM3D", (2, 2, 2, 1, 1), filters=1, kernel_size=(2, 2, 1), options=LOOP | NARROWED | NOT_ON_TENSORFLOW)
for name, make in {
    "Bidirectional": lambda x: L.Bidirectional(L.LSTM(2, **FLAT))(x),
    "RNN": lambda x: L.RNN([L.GRUCell(3), L.LSTMCell(2)], **FLAT)(x),
    "LSTMCell": lambda x: L.RNN(L.LSTMCell(2), **FLAT)(x),
    "GRUCell": lambda x: L.RNN(L.GRUCell(2), **FLAT)(x),
    "StackedRNNCells": lambda x: L.RNN(L.StackedRNNCells([L.LSTMCell(3), L.LSTMCell(2)]), **FLAT)(x),
}.items():
    add(name, make, (3, 2), **NARROWED)
add("SimpleRNNCell", lambda x: L.RNN(L.SimpleRNNCell(2), **FLAT)(x), (3, 2), **NARROWED)
add("TimeDistributed", lambda x: L.TimeDistributed(L.Dense(2, activation="silu"))(x), (3, 4))
add("TimeDistributed-pool", lambda x: L.TimeDistributed(L.MaxPooling1D(2, 1, "same"))(x), (2, 3, 2), **KINK | LOOP)

# random in training, the identity at inference
for name in ("Dropout", "AlphaDropout", "GaussianDropout"):
    layer(name, (5,), rate=0.5)
layer("GaussianNoise", (5,), stddev=0.5)
layer("SpatialDropout1D", (4, 2), rate=0.5)
layer("SpatialDropout2D", (3, 2, 2), rate=0.5)
layer("SpatialDropout3D", (2, 2, 2, 2), rate=0.5)
PHOTO = (4, 5, 3)
for name, arguments in {
    "AugMix": {}, "CutMix": {}, "MixUp": {}, "RandAugment": {},
    "RandomBrightness": {"factor": 0.2}, "RandomColorDegeneration": {"factor": 0.5}, "RandomColorJitter": {},
    "RandomContrast": {"factor": 0.2}, "RandomElasticTransform": {}, "RandomErasing": {}, "RandomFlip": {},
    "RandomGaussianBlur": {}, "RandomGrayscale": {}, "RandomHue": {"factor": 0.2}, "RandomInvert": {},
    "RandomPerspective": {}, "RandomPosterization": {"factor": 3}, "RandomRotation": {"factor": 0.2},
    "RandomSaturation": {"factor": 0.4}, "RandomSharpness": {"factor": 0.4}, "RandomShear": {"x_factor": 0.2},
    "RandomTranslation": {"height_factor": 0.2, "width_factor": 0.2}, "RandomZoom": {"height_factor": 0.2},
    "Solarization": {},
}.items():  # fmt: skip
    layer(name, PHOTO, **arguments)
add("Equalization", lambda x: Once(L.Equalization())(x), PHOTO)  # its symbolic output is its input
# active at inference too, with values up to 255
add("AutoContrast", lambda x: L.Rescaling(1 / 255)(L.AutoContrast()(x)), PHOTO, **MATMUL | KINK)
layer("RandomCrop", PHOTO, height=3, width=4)
layer("CenterCrop", PHOTO, height=2, width=3)
layer("Rescaling", PHOTO, scale=0.5, offset=0.1)
add("Pipeline", lambda x: L.Pipeline([L.Rescaling(2.0), L.RandomFlip()])(x), PHOTO)
for interpolation in ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"):
    where = NO_LANCZOS if "lanczos" in interpolation else RESIZED
    spatial(f"Resizing-{interpolation}", (4, 3, 2), where, height=3, width=5, interpolation=interpolation)
layer("STFTSpectrogram", (16, 1), mode="magnitude", frame_length=8, frame_step=4, fft_length=8, options=MATMUL)
MEL = {"fft_length": 8, "sequence_stride": 4, "sampling_rate": 80, "num_mel_bins": 3, "min_freq": 1, "max_freq": 40}
add("MelSpectrogram", lambda x: L.Rescaling(0.02)(L.MelSpectrogram(**MEL)(x)), (16,), loose=5, single=ENGINE != "jax",
    **NOT_ON_TENSORFLOW)  # fmt: skip

# layers of other frameworks
if ENGINE == "torch":
    import torch

    pair = torch.nn.Sequential(torch.nn.Linear(4, 3, dtype=torch.float64), torch.nn.Tanh())
    add("TorchModuleWrapper", lambda x: L.TorchModuleWrapper(pair, output_shape=(None, 3))(x), (4,))
if ENGINE == "jax":
    import flax.linen
    import jax.numpy as jnp

    layer(
        "JaxLayer",
        (4,),
        call_fn=lambda params, inputs: jnp.sin(params["w"] * inputs),
        init_fn=lambda rng, inputs: {"w": 1.5 * inputs[0]},
    )
    layer("FlaxLayer", (4,), module=flax.linen.Dense(3, param_dtype="float64"))


class Cubed(L.Layer):
    """A layer of one's own."""

    def call(self, x: Any) -> Any:
        return x**3


class Once(L.Wrapper):
    """A layer that a functional model cannot hold by itself."""

    def call(self, x: Any) -> Any:
        return self.layer(x, training=False)


class Twice(L.Wrapper):
    """A wrapper of one's own, with a layer that is used twice."""

    def call(self, x: Any) -> Any:
        return self.layer(self.layer(x))
