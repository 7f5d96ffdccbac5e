"""Random models, and engines broken on purpose: what the first call of a plan has to notice, and what it must not."""

from __future__ import annotations

import contextlib
import importlib
import os
import warnings

import keras
import numpy as np
import torch

import wrt
from wrt.derive import programs, run as runs
from wrt.engines import registry

ENGINE = os.environ["KERAS_BACKEND"]
FRAMEWORK = importlib.import_module(ENGINE)
SIDES = (4, 6, 8)
KINDS = ("dense", "convolution", "attention", "recurrence")


class Residual(torch.nn.Module):
    def __init__(self, *inner):
        super().__init__()
        self.inner = torch.nn.Sequential(*inner)

    def forward(self, x):
        return x + self.inner(x)


class Attention(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        self.heads = torch.nn.MultiheadAttention(width, 2, batch_first=True)

    def forward(self, x):
        return x + self.heads(x, x, x, need_weights=False)[0]


class Recurrence(torch.nn.Module):
    def __init__(self, width, hidden, kind):
        super().__init__()
        self.cell = getattr(torch.nn, kind)(width, hidden, batch_first=True)

    def forward(self, x):
        return self.cell(x)[0][:, -1]


def torch_activation(rng):
    kinds = ("ReLU", "ReLU", "ReLU", "Tanh", "GELU", "SiLU", "ELU", "LeakyReLU", "Softplus")
    return getattr(torch.nn, str(rng.choice(kinds)))()


def torch_model(rng, kind):
    """A module and the shape of one sample."""
    outputs = int(rng.integers(1, 6))
    if kind == "dense":
        width, n = int(rng.integers(4, 40)), int(rng.integers(2, 20))
        layers = [torch.nn.Linear(n, width), torch_activation(rng)]
        more = range(int(rng.integers(0, 3)))
        layers += [Residual(torch.nn.Linear(width, width), torch_activation(rng)) for _ in more]
        layers += [torch.nn.LayerNorm(width)] * int(rng.integers(0, 2)) + [torch.nn.Linear(width, outputs)]
        return torch.nn.Sequential(*layers), (n,)
    if kind == "convolution":
        side, c, w = int(rng.choice(SIDES)), int(rng.integers(1, 4)), int(rng.integers(2, 9))
        layers = [torch.nn.Conv2d(c, w, 3, padding=1), torch.nn.BatchNorm2d(w), torch_activation(rng)]
        layers.append(torch.nn.MaxPool2d(2) if rng.random() < 0.6 else torch.nn.AvgPool2d(2))
        layers.append(Residual(torch.nn.Conv2d(w, w, 3, padding=1), torch_activation(rng)))
        layers += [torch.nn.Flatten(), torch.nn.Linear(w * (side // 2) ** 2, outputs)]
        return torch.nn.Sequential(*layers), (c, side, side)
    steps, width = int(rng.integers(3, 8)), 2 * int(rng.integers(2, 6))
    if kind == "attention":
        layers = [
            Attention(width),
            torch.nn.LayerNorm(width),
            Residual(torch.nn.Linear(width, width), torch_activation(rng)),
        ]
        return torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(steps * width, outputs)), (steps, width)
    hidden, cell = int(rng.integers(3, 10)), str(rng.choice(["RNN", "GRU", "LSTM"]))
    return torch.nn.Sequential(Recurrence(width, hidden, cell), torch.nn.Linear(hidden, outputs)), (steps, width)


def keras_activation(rng):
    return str(rng.choice(["relu", "relu", "relu", "tanh", "gelu", "silu", "elu", "softplus"]))


def keras_model(rng, kind, dtype):
    layers, outputs = keras.layers, int(rng.integers(1, 5))
    make = {"dtype": {"bfloat16": "mixed_bfloat16"}.get(dtype, dtype)}
    if kind == "dense":
        i = keras.Input((int(rng.integers(2, 12)),))
        h = layers.Dense(width := int(rng.integers(4, 20)), activation=keras_activation(rng), **make)(i)
        h = layers.Add(**make)([h, layers.Dense(width, activation=keras_activation(rng), **make)(h)])
        h = layers.LayerNormalization(**make)(h)
    elif kind == "convolution":
        i = keras.Input((side := int(rng.choice(SIDES)), side, int(rng.integers(1, 4))))
        h = layers.Conv2D(
            width := int(rng.integers(2, 6)), 3, padding="same", activation=keras_activation(rng), **make
        )(i)
        h = layers.BatchNormalization(**make)(h)
        h = (layers.MaxPooling2D if rng.random() < 0.6 else layers.AveragePooling2D)(2, **make)(h)
        h = layers.Add(**make)(
            [h, layers.Conv2D(width, 3, padding="same", activation=keras_activation(rng), **make)(h)]
        )
        h = layers.Flatten(**make)(h)
    elif kind == "attention":
        i = keras.Input((int(rng.integers(3, 6)), width := int(rng.integers(3, 7))))
        h = layers.Add(**make)([i, layers.MultiHeadAttention(2, 3, **make)(i, i)])
        h = layers.Flatten(**make)(layers.LayerNormalization(**make)(h))
    else:
        i = keras.Input((int(rng.integers(3, 6)), int(rng.integers(2, 6))))
        cell = getattr(layers, str(rng.choice(["SimpleRNN", "GRU", "LSTM"])))
        h = cell(int(rng.integers(3, 8)), **make)(i)
    return keras.Model(i, layers.Dense(outputs, **make)(h)), tuple(i.shape[1:])


def jax_model(rng, kind, dtype):
    """A function over weights of its own; the shape of one sample."""
    import jax
    import jax.numpy as jnp

    names = ("relu", "relu", "relu", "tanh", "gelu", "silu", "elu", "softplus")
    act, again = (getattr(jax.nn, str(rng.choice(names))) for _ in range(2))
    n, w, m = int(rng.integers(2, 12)), int(rng.integers(4, 20)), int(rng.integers(1, 5))

    def weight(*shape):
        return jnp.asarray(rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1])), dtype)

    if kind == "convolution":
        side, c = int(rng.choice(SIDES)), int(rng.integers(1, 4))
        k, k2, out = weight(3, 3, c, w), weight(3, 3, w, w), weight(w * (side // 2) ** 2, m)
        conv = lambda x, k: jax.lax.conv_general_dilated(
            x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

        def model(x):
            h = act(conv(x, k))
            h = jax.lax.reduce_window(h, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
            h = h + again(conv(h, k2))
            return h.reshape(len(x), -1) @ out

        return model, (side, side, c)
    a, b, out = weight(n, w), weight(w, w), weight(w, m)
    if kind == "dense":
        return (lambda x: (lambda h: (h + again(h @ b)) @ out)(act(x @ a))), (n,)
    steps = int(rng.integers(3, 7))
    if kind == "attention":
        q = weight(w, w)

        def model(x):
            h = x @ a
            weights = jax.nn.softmax((h @ q) @ jnp.swapaxes(h @ b, 1, 2) / w**0.5, -1)
            return (h + weights @ h).mean(1) @ out

        return model, (steps, n)

    def recurrent(x):
        start = jnp.zeros((len(x), w), x.dtype)
        return jax.lax.scan(lambda h, row: (jnp.tanh(row @ a + h @ b), None), start, jnp.swapaxes(x, 0, 1))[0] @ out

    return recurrent, (steps, n)


def random_case(seed, low=0.15):
    """A model, samples, and a call of wrt on them, with words for them."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    keras.utils.set_random_seed(seed % 2**31)
    kind, dtype = str(rng.choice(KINDS)), "bfloat16" if rng.random() < low else "float32"
    samples = int(rng.choice([1, 2, 3, 8, 16, 33, 64]))
    if ENGINE == "torch":
        model, shape = torch_model(rng, kind)
        model = model.eval().to(getattr(torch, dtype))
    elif ENGINE == "jax" and rng.random() < 0.6:
        model, shape = jax_model(rng, kind, dtype)
    else:
        model, shape = keras_model(rng, kind, dtype)
    x = rng.normal(size=(samples, *shape)).astype("float32")
    if rng.random() < 0.2:
        x *= rng.random(x.shape) > 0.5  # a black background
    if not isinstance(model, (torch.nn.Module, keras.Model)):
        x = registry.engine(ENGINE).asarray(x, dtype)
    what = str(rng.choice(["gradient", "gradient", "jacobian", "jacobian", "vjp", "jvp"]))
    return Case(model, x, what, rng, f"seed {seed}: {kind} {dtype} N={samples} {what}")


class Case:
    def __init__(self, model, x, what, rng, words):
        self.model, self.x, self.what, self.rng, self.words = model, x, what, rng, words

    def run(self):
        if self.what == "gradient":
            return wrt.gradient(self.model, self.x, 0)
        if self.what == "jacobian":
            return wrt.jacobian(self.model, self.x)
        if self.what == "jvp":
            return wrt.jvp(self.model, self.x, np.random.default_rng(1).normal(size=self.x.shape))
        with wrt.verification("off"):
            y = wrt.jvp(self.model, self.x, self.x)
        return wrt.vjp(self.model, self.x, np.random.default_rng(2).normal(size=y.shape))

    def noticed(self):
        """The warnings of the first call, and its result; an error about derivatives is one too."""
        with warnings.catch_warnings(record=True) as said, wrt.verification("warn"):
            warnings.simplefilter("always")
            try:
                found = self.run()
            except wrt.errors.DerivativeError as error:
                return [str(error)], None
        return [str(w.message) for w in said if issubclass(w.category, wrt.DerivativeWarning)], found


# engines broken on purpose: context managers, in force while a plan is made and run


@contextlib.contextmanager
def replaced(owner, name, value):
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if name in vars(type(owner)) or any(name in vars(k) for k in type(owner).__mro__):
            delattr(owner, name)
        else:
            setattr(owner, name, before)


def products(change):
    """Break what pulls and pushes give."""

    @contextlib.contextmanager
    def broken(case):
        engine = registry.engine(ENGINE)
        pull, push = engine.pull, engine.push

        def pulled(f, primals, *args, **kwargs):
            y, back = pull(f, primals, *args, **kwargs)
            return y, lambda u: [change(engine, a, case) for a in back(u)]

        def pushed(f, primals, tangents):
            y, dy = push(f, primals, tangents)
            return y, [change(engine, a, case) for a in dy]

        with replaced(engine, "pull", pulled), replaced(engine, "push", pushed):
            yield

    return broken


def mask(engine, value, keep):
    return value * engine.asarray(
        np.broadcast_to(keep, tuple(value.shape)).astype("float32"), engine.dtype(value), value
    )


def one_sample(engine, value, case):
    """One sample's product is dropped."""
    keep = np.arange(value.shape[0]) != int(len(case.x) * 0.6) % value.shape[0]
    return mask(engine, value, keep.reshape(-1, *(1,) * (len(value.shape) - 1)))


def one_sample_scaled(engine, value, case):
    """One sample's product is off by 5 %."""
    factor = np.where(np.arange(value.shape[0]) == int(len(case.x) * 0.6) % value.shape[0], 1.05, 1.0)
    return mask(engine, value, factor.reshape(-1, *(1,) * (len(value.shape) - 1)))


def twentieth(engine, value, case):
    """Every twentieth entry of the product is dropped, and the first."""
    keep = np.arange(int(np.prod(value.shape[1:]))) % 20 != 0
    return mask(engine, value, keep.reshape(1, *value.shape[1:]))


def scaled(engine, value, case):
    return mask(engine, value, np.full((1,) * len(value.shape), 1.05))


def zeros(engine, value, case):
    return mask(engine, value, np.zeros((1,) * len(value.shape)))


@contextlib.contextmanager
def stale(case):
    """The program computes with other weights than those that it is given."""
    engine = registry.engine(ENGINE)

    def older(w):
        return w * engine.asarray(0.9, engine.dtype(w), w) if "float" in str(w.dtype) else w

    def old(make):
        def made(*args):
            program = make(*args)
            return lambda weights, *rest: program(list(map(older, weights)), *rest)

        return made

    # of models, and of functions that hold their weights
    names = ("make_program", "_of_trace")
    with (
        replaced(programs, names[0], old(programs.make_program)),
        replaced(programs, names[1], old(programs._of_trace)),
    ):
        yield


@contextlib.contextmanager
def layout(case):
    """Inputs come out in the opposite order."""
    unpack = runs.unpack

    def mistaken(home, blocks, mode, outs, ins):
        rows = unpack(home, blocks, mode, outs, ins)
        return [
            [turned(home, b, len(o), i) for b, i in zip(row, ins, strict=True)]
            for row, o in zip(rows, outs, strict=True)
        ]

    def turned(home, block, outs, ins):
        axes = [1 + outs + a for a in range(len(ins))]
        index = [slice(None)] * len(block.shape)
        if not isinstance(block, np.ndarray):
            return home.asarray(np.flip(home.numpy(block), axes), None, block)
        for a in axes:
            index[a] = slice(None, None, -1)
        return block[tuple(index)]

    with replaced(runs, "unpack", mistaken):
        yield


def operator(change):
    """Break the derivative of one operator somewhere in the model."""

    @contextlib.contextmanager
    def broken(case):
        engine, number = registry.engine(ENGINE), int(case.rng.integers(0, 10**6))
        pull, push = engine.pull, engine.push
        wrap = {"torch": torch_operator, "jax": jax_operator, "tensorflow": tensorflow_operator}[ENGINE]
        with replaced(engine, "pull", lambda f, *args, **kwargs: pull(wrap(f, number, change), *args, **kwargs)):
            with replaced(engine, "push", lambda f, *args: push(wrap(f, number, change), *args)):
                yield

    return broken


def torch_operator(f, number, change):
    class Breaking(torch.overrides.TorchFunctionMode):
        def __init__(self, place):
            super().__init__()
            self.place, self.count = place, 0

        def __torch_function__(self, func, types, args=(), kwargs=None):
            y = func(*args, **(kwargs or {}))
            plain = type(y) is torch.Tensor and y.is_floating_point() and y.dim() > 1 and func is not torch.clone
            if plain and getattr(func, "__name__", "") not in ("__get__", "clone", "detach"):
                self.count += 1
                if self.count - 1 == self.place:
                    return Wrong.apply(y, change)
            return y

    def g(primals):
        mode = Breaking(-1)
        with mode:
            f(primals)
        with Breaking(number % max(1, mode.count)):
            return f(primals)

    return g


class Wrong(torch.autograd.Function):
    """The identity, with another derivative both ways."""

    @staticmethod
    def forward(y, change):
        return y.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.change = inputs[1]

    @staticmethod
    def backward(ctx, u):
        return changed_torch(u, ctx.change), None

    @staticmethod
    def jvp(ctx, v, _):
        return changed_torch(v, ctx.change)


def changed_torch(u, change):
    return u * torch.as_tensor(change(tuple(u.shape)), dtype=u.dtype)


def scale_all(shape):
    return np.full(shape, 1.05)


def drop_some(shape):
    """5 % of the entries are dropped, at random and at least one; the same for all samples."""
    size = int(np.prod(shape[1:]))
    keep = np.random.default_rng(size).permutation(size) >= max(1, round(0.05 * size))
    return np.broadcast_to(keep.reshape(1, *shape[1:]), shape).astype("float64")


def jax_operator(f, number, change):
    import jax

    def breaking(y):
        @jax.custom_jvp
        def wrong(y):
            return y

        wrong.defjvp(lambda p, t: (p[0], t[0] * jax.numpy.asarray(change(y.shape), y.dtype)))
        return wrong(y)

    def g(primals):
        closed, shapes = jax.make_jaxpr(f, return_shape=True)(primals)
        jaxpr = closed.jaxpr
        places = [
            i
            for i, e in enumerate(jaxpr.eqns)
            if len(e.outvars) == 1
            and len(e.outvars[0].aval.shape) > 1
            and jax.numpy.issubdtype(e.outvars[0].aval.dtype, jax.numpy.floating)
        ]
        place = places[number % len(places)]
        known = [v for e in jaxpr.eqns[: place + 1] for v in e.outvars if type(v).__name__ != "DropVar"]
        head = jaxpr.replace(eqns=jaxpr.eqns[: place + 1], outvars=known, debug_info=None)
        found = jax.core.eval_jaxpr(head, closed.consts, *jax.tree.leaves(primals))
        found = [breaking(a) if v is jaxpr.eqns[place].outvars[0] else a for v, a in zip(known, found, strict=True)]
        tail = jaxpr.replace(eqns=jaxpr.eqns[place + 1 :], invars=[*jaxpr.invars, *known], debug_info=None)
        y = jax.core.eval_jaxpr(tail, closed.consts, *jax.tree.leaves(primals), *found)
        return jax.tree.unflatten(jax.tree.structure(shapes), y)

    return g


def tensorflow_operator(f, number, change):
    """TensorFlow's operators cannot be told to be wrong: the inputs are."""
    tf = FRAMEWORK

    @tf.custom_gradient
    def wrong(x):
        return tf.identity(x), lambda u: u * tf.cast(change((1, *x.shape[1:])), u.dtype)

    return lambda primals: f([wrong(p) for p in primals])


BREAKS = {
    "one sample dropped": products(one_sample),
    "5 % in one sample": products(one_sample_scaled),
    "5 % of the entries": products(twentieth),
    "5 % too much": products(scaled),
    "zeros": products(zeros),
    "stale": stale,
    "layout": layout,
    "one operator 5 % too much": operator(scale_all),
    "one operator, 5 % dropped": operator(drop_some),
}
