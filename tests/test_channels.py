"""Where channels are: the same network in both layouts, closed forms, what cannot be known, and the way out of it."""

import keras
import numpy as np
import pytest
import torch
from conftest import ENGINE
from subjects import array, close, tensor

import wrt
from wrt import methods
from wrt.derive import layout
from wrt.engines import adapt
from wrt.errors import OptionError, SelectionError
from wrt.methods.cam import prepared

RNG = np.random.default_rng(11)
W, V = RNG.normal(size=3), RNG.normal(size=(4, 5))  # of channels and of places
X = RNG.normal(size=(2, 3, 4, 5))
FORMATS = ("channels_first", "channels_last")
TERMS = np.einsum("nchw,c,hw->nhw", X, W, V)  # what every place adds to the output


def convolution(first):
    """(N, H, W): a convolution of one place, in this layout, with the engine's own operator."""
    kernel = tensor(W.reshape(1, 3, 1, 1) if ENGINE == "torch" else W.reshape(1, 1, 3, 1), "float32")
    if ENGINE == "jax":
        import jax

        form = "NCHW" if first else "NHWC"
        own = lambda x: jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=(form, "HWIO", form))
        return lambda x: own(x)[:, 0] if first else own(x)[..., 0]
    if ENGINE == "torch":
        return lambda x: torch.nn.functional.conv2d(x if first else x.movedim(-1, 1), kernel)[:, 0]
    import tensorflow as tf

    return lambda x: tf.nn.conv2d(tf.transpose(x, [0, 2, 3, 1]) if first else x, kernel, 1, "SAME")[..., 0]


def network(first):
    """sum_p V[p] sum_c W[c] x[c, p], of (N, C, H, W) or (N, H, W, C)."""
    places, convolved, engine = tensor(V, "float32"), convolution(first), wrt.engines.registry.engine(ENGINE)
    return lambda x: engine.sum(convolved(x) * places, (1, 2))


def bare(first):
    """The same without a convolution: nothing shows where the channels are."""
    weights = V * W[:, None, None]
    weights = tensor(weights if first else np.moveaxis(weights, 0, -1), "float32")
    engine = wrt.engines.registry.engine(ENGINE)
    return lambda x: engine.sum(x * weights, (1, 2, 3))


def laid(value, first, axis=1):
    """Channels, at this axis, where the layout has them."""
    return tensor(value if first else np.moveaxis(value, axis, -1), "float32")


def spread(maps):
    """(N, C, H, W): the same for all channels."""
    return np.repeat(maps[:, None], 3, 1)


MASKS = RNG.integers(0, 2, (6, 4, 5)).astype(float)
SEEN = np.einsum("nhw,mhw->nm", TERMS, MASKS)
TOTAL = np.abs(np.diff(X, axis=2)).mean((1, 2, 3)) + np.abs(np.diff(X, axis=3)).mean((1, 2, 3))
GRADIENT = np.broadcast_to(W[:, None, None] * V, X.shape)
ORDER = np.argsort(-V.ravel())


def total_variation(f, x, **options):
    found = wrt.maximize(f, lambda y: y, init=x, steps=1, regularizers=PENALTY, **options)
    return found.history["loss"][0] + found.history["objective"][0]


PENALTY = wrt.regularizers.total_variation(1.0)
CASES = {  # a function of the model and x; what it gives, with channels (axis 1) or without
    "occlusion": (lambda f, x, **o: methods.occlusion(f, x, window=1, **o), spread(TERMS)),
    "rise": (
        lambda f, x, **o: methods.rise(f, x, masks=MASKS, **o),
        spread(np.einsum("nm,mhw->nhw", SEEN, MASKS) / len(MASKS) / 0.5),
    ),
    "tta": (lambda f, x, **o: wrt.tta("gradient")(f, x, **o), (GRADIENT + GRADIENT[..., ::-1]) / 2),
    "deletion": (
        lambda f, x, **o: wrt.metrics.deletion(f, x, np.stack([V, V]), steps=20, **o).outputs,
        np.stack([TERMS.reshape(2, -1)[:, ORDER[s:]].sum(1) for s in range(21)], 1),
    ),
    "maximize": (total_variation, TOTAL),
    "penalty": (
        lambda f, x, data_format=None: wrt.penalties.TotalVariation(of=None, data_format=data_format)(f, x),
        np.abs(np.diff(GRADIENT[:1], axis=2)).sum() + np.abs(np.diff(GRADIENT[:1], axis=3)).sum(),
    ),
    "explain": (
        lambda f, x, **o: wrt.explain("gradient", f, x, postprocess="reduce_channels", **o).maps,
        np.abs(GRADIENT).max(1),
    ),
}


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_found_in_the_program(name, first):
    call, wanted = CASES[name]
    wanted = np.moveaxis(wanted, 1, -1) if wanted.ndim == 4 and not first else wanted
    close(call(network(first), laid(X, first)), wanted, 1e-4)


@pytest.mark.parametrize("name", CASES)
def test_refused_with_a_way_out(name):
    call, wanted = CASES[name]
    for first in (True, False) if ENGINE == "torch" else (True,):
        with pytest.raises(OptionError, match=r"data_format= is needed: x has shape \(N, .*'channels_first' or"):
            call(bare(first), laid(X, first))
        laid_out = np.moveaxis(wanted, 1, -1) if wanted.ndim == 4 and not first else wanted
        close(call(bare(first), laid(X, first), data_format=FORMATS[not first]), laid_out, 1e-4)


def test_what_the_user_says_wins():
    x = laid(X, True)
    found = array(methods.occlusion(network(True), x, window=1, data_format="channels_last"))
    assert np.ptp(found, axis=-1).max() == 0
    assert np.ptp(found, axis=1).max() > 0
    for call, _ in CASES.values():
        with pytest.raises(OptionError, match=r"'channel_first' is not a choice\. Did you mean 'channels_first'"):
            call(network(True), x, data_format="channel_first")


def test_no_question_where_there_are_no_channels():
    table = np.array([[1.0, 2.0, 3.0]])
    assert methods.occlusion(lambda x: x.sum(1), table, window=1).tolist() == table.tolist()
    with pytest.raises(OptionError, match="'first' is not a choice"):
        methods.occlusion(lambda x: x.sum(1), table, window=1, data_format="first")
    whole = methods.occlusion(bare(True), laid(X, True), window=(1, 1, 1))  # says how many channels by itself
    close(whole, X * GRADIENT, 1e-4)


def test_grey_images_have_none():
    """A convolution that is given a channel axis: every place counts by itself."""
    engine, colored, grey = wrt.engines.registry.engine(ENGINE), network(True), X[:, 0]
    f = lambda x: colored(engine.concatenate([x[:, None]] * 3, 1))
    found = methods.occlusion(f, tensor(grey, "float32"), window=1)
    close(found, grey * V * W.sum(), 1e-4)


def heads(first):
    """A model's end as a function of the activation (N, C, H, W): global average pooling and a linear layer."""
    engine, w = wrt.engines.registry.engine(ENGINE), tensor(np.stack([W, -W], 1), "float32")
    return lambda a: engine.mean(a, (2, 3) if first else (1, 2)) @ w


@pytest.mark.parametrize("first", [True, False])
def test_cam_of_an_activation(first):
    """A global pooling shows the channels; NumPy shows nothing."""
    maps = {k: np.maximum(s * np.einsum("nchw,c->nhw", X, W) / 20, 0) for k, s in enumerate((1, -1))}
    for unit, wanted in maps.items():
        close(methods.grad_cam(heads(first), laid(X, first), unit, wrt=0), wanted, 1e-4)
    head = lambda a: a.mean((2, 3) if first else (1, 2)) @ np.stack([W, -W], 1)
    a = X if first else np.moveaxis(X, 1, -1)
    with pytest.raises(OptionError, match="data_format= is needed"):
        methods.grad_cam(head, a, 0, wrt=0)
    for name in ("grad_cam", "hires_cam", "layer_cam"):
        found = getattr(methods, name)(head, a, 0, wrt=0, data_format=FORMATS[not first])
        assert found.shape == (2, 4, 5)
    close(methods.cam(head, a, 0, wrt=0, data_format=FORMATS[not first]), maps[0] * 20, 1e-6)


# --- layers


class Mixed(torch.nn.Module):
    """A convolution, and then channels or tokens last, as in Swin and ViT."""

    def __init__(self, tokens):
        super().__init__()
        self.tokens = tokens
        self.embed, self.norm, self.head = torch.nn.Conv2d(3, 6, 2, 2), torch.nn.LayerNorm(6), torch.nn.Linear(6, 4)
        self.block = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.Tanh())
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, x):
        a = self.embed(x).permute(0, 2, 3, 1)
        a = self.drop(self.norm(a.flatten(1, 2) if self.tokens else a))
        a = a + self.block(a)
        return self.head(a.mean(1) if self.tokens else a.mean((1, 2)))


if ENGINE == "torch":

    @pytest.mark.parametrize("tokens", [False, True])
    def test_layers_with_channels_last(tokens):
        model, x, seen = Mixed(tokens).eval(), torch.randn(2, 3, 8, 12), {}
        hooks = [
            inner.register_forward_hook(lambda m, args, out, name=name: seen.__setitem__(name, out))
            for name, inner in model.named_children()
        ]
        y = model(x)[:, 2].sum()
        [hook.remove() for hook in hooks]
        for name in ("embed", "norm", "drop", "block"):
            a = seen[name].detach()
            (g,) = torch.autograd.grad(y, seen[name], retain_graph=True)
            last = a.dim() - 1 if name != "embed" else 1
            places = tuple(k for k in range(1, a.dim()) if k != last)
            wanted = torch.relu((a * g.mean(places, keepdim=True)).sum(last))
            close(methods.grad_cam(model, x, 2, wrt=wrt.layer(name)), wanted, 1e-4)
        maps = wrt.explain("grad_cam", model, x, 2, wrt=wrt.layer("norm"), postprocess=None).maps
        assert maps.shape == ((2, 24) if tokens else (2, 8, 12))  # tokens have no grid
        if tokens:
            with pytest.raises(wrt.errors.InputError, match="over tokens has a grid only after"):
                wrt.explain("grad_cam", model, x, 2, wrt=wrt.layer("norm"), resize=(8, 12))
        assert methods.score_cam(model, x, 2, wrt=wrt.layer("norm" if not tokens else "embed")).shape == (2, 4, 6)

    def test_the_word_is_about_the_layer():
        """And the input, of which the convolution tells, is resized to as before."""
        model, x = Mixed(False).eval(), torch.randn(2, 3, 8, 12)
        found = wrt.explain("grad_cam", model, x, 2, wrt=wrt.layer("norm"), data_format="channels_last")
        close(found.maps, wrt.explain("grad_cam", model, x, 2, wrt=wrt.layer("norm")).maps, 1e-6)
        flipped = wrt.tta("grad_cam")(model, x, 2, wrt=wrt.layer("norm"), data_format="channels_last")
        close(flipped, wrt.tta("grad_cam")(model, x, 2, wrt=wrt.layer("norm")), 1e-6)

    def test_a_layer_that_shows_nothing():
        class Odd(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.inner, self.head = torch.nn.Identity(), torch.nn.Linear(60, 2)

            def forward(self, x):
                return self.head(self.inner(torch.fft.fft2(x).real).flatten(1))

        model, x = Odd(), torch.randn(2, 3, 4, 5)
        with pytest.raises(OptionError, match="data_format= is needed: layer 'inner' has shape"):
            methods.grad_cam(model, x, 1, wrt=wrt.layer("inner"))
        for word, shape in zip(FORMATS, ((2, 4, 5), (2, 3, 4)), strict=True):
            assert methods.grad_cam(model, x, 1, wrt=wrt.layer("inner"), data_format=word).shape == shape

    NN, F = torch.nn, torch.nn.functional
    CONV, LSTM, LINEAR = NN.Conv2d(3, 4, 1), NN.LSTM(3, 2, batch_first=True), NN.Linear(3, 2)
    SHOWN = {
        "permuted": (lambda x: CONV(x.permute(0, 3, 1, 2)), (2, 4, 5, 3), 3),
        "in the middle": (lambda x: CONV(x.flatten(0, 1)).unflatten(0, x.shape[:2]), (2, 6, 3, 4, 5), 2),
        "mT": (lambda x: CONV(x.transpose(1, 2).mT), (2, 5, 3, 4), 2),
        "einops' reshapes": (
            lambda x: x.reshape(2, 3, 2, 2, 2, 3).permute(0, 2, 4, 3, 5, 1).reshape(2, 4, 18) @ torch.ones(18, 1),
            (2, 3, 4, 6),
            1,
        ),
        "vmap": (torch.func.vmap(lambda v: CONV(v[:, None] if v.dim() == 2 else v.movedim(-1, 0))), (2, 4, 5, 3), 3),
        "in place": (lambda x: CONV((x / 2).clamp_(0).sub_(0.5)), (2, 3, 4, 5), 1),
        "repeated": (lambda x: CONV(x.expand(-1, 3, -1, -1)), (2, 1, 4, 5), 1),
        "pooled": (lambda x: F.max_pool2d(x, 2), (2, 3, 4, 6), 1),
        "padded, cropped": (lambda x: CONV(F.pad(x, (1, 1, 1, 1))[:, :, 1:, :-1]), (2, 3, 4, 5), 1),
        "lstm": (lambda x: LSTM(x)[0], (2, 7, 3), 2),
        "linear": (LINEAR, (2, 7, 3), 2),
        "linear over time": (lambda x: LINEAR(x.transpose(1, 2)), (2, 3, 7), "refused"),
        "scripted": (torch.jit.script(NN.Sequential(CONV)), (2, 3, 4, 5), 1),
        "compared": (lambda x: CONV(torch.max(x, x * 2)), (2, 3, 4, 5), 1),
        "two views": (lambda x: CONV(x) + CONV(x.transpose(1, 3)), (2, 3, 3, 3), "refused"),
    }

    @pytest.mark.parametrize("name", SHOWN)
    def test_what_a_torch_program_shows(name):
        f, shape, wanted = SHOWN[name]
        if wanted == "refused":
            with pytest.raises(OptionError, match="data_format= is needed"):
                layout.of_input(f, torch.randn(shape))
        else:
            assert layout.of_input(f, torch.randn(shape)) == wanted

    class Gated(NN.Module):
        """Channel attention by a convolution along the channels, whose own axis of channels has size one."""

        def __init__(self):
            super().__init__()
            self.along = NN.Conv1d(1, 1, 3, padding=1)

        def forward(self, x):
            y = self.along(F.adaptive_avg_pool2d(x, 1).squeeze(-1).transpose(-1, -2))
            return x * y.transpose(-1, -2).unsqueeze(-1).sigmoid()

    class Mixing(NN.Module):
        """Maps along tokens and along channels in turn, as in an MLP-Mixer."""

        def __init__(self):
            super().__init__()
            self.tokens, self.channels = NN.Linear(16, 16), NN.Linear(8, 8)

        def forward(self, x):
            x = x.flatten(2).mT
            x = x + self.tokens(x.mT).mT
            return self.channels(x)

    LAYERS = {  # what comes behind a convolution (8, 4, 4), the layer, and the axis of its channels
        "gated": (Gated(), "1", 1),
        "mixer": (Mixing(), "1.channels", 2),
        "mixed tokens": (Mixing(), "1.tokens", 1),
        "pixels": (NN.PixelShuffle(2), "1", 1),
        "larger": (NN.Upsample(scale_factor=2), "1", 1),
        "cut and joined": (NN.Sequential(NN.Flatten(2), NN.Unflatten(2, (4, 4)), NN.Dropout(0.1)), "1.2", 1),
    }

    @pytest.mark.parametrize("name", LAYERS)
    def test_what_a_layer_gives(name):
        behind, site, wanted = LAYERS[name]
        model = NN.Sequential(NN.Conv2d(3, 8, 2, 2), behind, NN.Flatten(), NN.LazyLinear(2)).eval()
        x = torch.randn(2, 3, 8, 8)
        model(x)
        assert layout.wrt_axis(prepared(model, x, 0, wrt.layer(site), False, {})) == wanted

    def test_the_layout_of_a_module_is_found_once():
        model, calls = torch.nn.Sequential(torch.nn.Conv2d(3, 1, 1), torch.nn.Flatten(), torch.nn.Linear(20, 1)), []
        model[0].register_forward_pre_hook(lambda *_: calls.append(1))
        x = torch.randn(2, 3, 4, 5)
        counts = []
        for _ in range(3):
            calls.clear()
            methods.occlusion(model, x, 0, window=2)
            counts.append(len(calls))
        assert counts[1] == counts[2] < counts[0]
        assert not torch.overrides._get_current_function_mode_stack()


if ENGINE == "jax":
    import jax
    import jax.numpy as jnp

    def test_modules_of_jax():
        equinox, nnx = pytest.importorskip("equinox"), pytest.importorskip("flax.nnx")
        conv = equinox.nn.Conv2d(3, 4, 3, key=jax.random.PRNGKey(0))
        pool = equinox.nn.MaxPool2d(2, 2)
        flax = nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0))
        vmapped = lambda x: jax.vmap(lambda v: jax.nn.relu(conv(v)).mean((1, 2)))(x)
        grey = lambda x: jax.vmap(lambda v: conv(jnp.repeat(v[None], 3, 0)).sum())(x)
        scanned = lambda x: jax.lax.scan(lambda c, v: (c, conv(v).sum()), 0.0, x)[1]
        cases = [
            (vmapped, (2, 3, 8, 10), 1),
            (jax.jit(vmapped), (2, 3, 8, 10), 1),
            (lambda x: vmapped(jnp.moveaxis(x, -1, 1)), (2, 8, 10, 3), 3),
            (lambda x: jax.checkpoint(flax)(x / 2), (2, 8, 10, 3), 3),
            (jax.vmap(pool), (2, 3, 8, 10), 1),
            (grey, (2, 8, 10), None),
            (scanned, (2, 3, 8, 10), 1),
        ]
        for f, shape, wanted in cases:
            assert layout.of_input(f, jnp.ones(shape)) == wanted

    def test_inside_jit():
        x = laid(X, True)
        f = network(True)
        found = jax.jit(lambda x: methods.occlusion(f, x, window=1))(x)
        close(found, spread(TERMS), 1e-4)


if ENGINE != "tensorflow":  # whose convolutions take channels first on no CPU

    def test_keras_with_channels_first():
        L = keras.layers
        layers = [L.Conv2D(6, 2, 2, data_format="channels_first", name="embed"), L.Activation("tanh", name="act")]
        layers += [L.Permute((2, 3, 1)), L.LayerNormalization(name="norm"), L.Activation("tanh", name="after")]
        ends = [L.GlobalAveragePooling2D(data_format="channels_last"), L.Dense(4)]
        model = keras.Sequential([keras.Input((3, 8, 12)), *layers, *ends])
        x = RNG.normal(size=(2, 3, 8, 12)).astype("float32")
        for name in ("embed", "act", "norm", "after"):
            assert methods.grad_cam(model, x, 1, wrt=wrt.layer(name)).shape == (2, 4, 6), name
        inner = keras.Model(model.inputs[0], model.get_layer("after").output)
        a, w = array(inner(x)), array(model.layers[-1].kernel.value)
        wanted = np.maximum((a * w[:, 1] / 24).sum(-1), 0)
        close(methods.grad_cam(model, x, 1, wrt=wrt.layer("after")), wanted, 1e-4)


def test_keras_without_convolutions_follows_its_configuration():
    L = keras.layers
    model = keras.Sequential([keras.Input((4, 5, 3)), L.Flatten(), L.Dense(1)])
    x = RNG.normal(size=(2, 4, 5, 3)).astype("float32")
    kernel = array(model.layers[-1].kernel.value).reshape(4, 5, 3)
    wanted = np.repeat((x * kernel).sum(-1, keepdims=True), 3, -1)
    close(methods.occlusion(model, x, 0, window=1), wanted, 1e-4)
    close(
        wrt.explain("gradient", model, x, 0, postprocess="reduce_channels").maps,
        np.stack([abs(kernel).max(-1)] * 2),
        1e-5,
    )


def test_a_cam_needs_channels():
    engine, colored = wrt.engines.registry.engine(ENGINE), network(True)
    f = lambda x: colored(engine.concatenate([x[:, None]] * 3, 1))
    with pytest.raises(SelectionError, match="to which the model adds channels"):
        methods.grad_cam(f, tensor(X[:, 0], "float32"), wrt=0)


def test_reduced_channels_take_the_word():
    maps = RNG.normal(size=(2, 3, 4, 5))
    reduce = wrt.filters.reduce_channels
    close(reduce(maps, "sum", data_format="channels_first"), maps.sum(1), 1e-9)
    close(reduce(maps, "sum", data_format="channels_first", lead=2), maps.sum(2), 1e-9)
    close(reduce(maps, "sum", data_format="channels_last"), maps.sum(-1), 1e-9)
    with pytest.raises(OptionError, match="both say where"):
        reduce(maps, "sum", 1, data_format="channels_first")


def test_nothing_is_kept_alive():
    """The layout is kept with the model, and a function's with its description."""
    f = network(True)
    methods.occlusion(f, laid(X, True), window=1)
    assert layout.of_input(f, laid(X, True)) == 1
    assert adapt.adapt(f, laid(X, True), wrt.engines.registry.engine(ENGINE)).cache
