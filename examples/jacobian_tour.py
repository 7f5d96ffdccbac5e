# ---
# jupyter:
#   jupytext:
#     formats: py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A tour of the Jacobian
#
# The same Jacobian of a Keras model, a torch module and a JAX function; every form of `of=` and `wrt=`; what the plan
# decided; the operator; the check. Runs in well under a minute on a laptop:
#
#     python examples/jacobian_tour.py
#
# `KERAS_BACKEND=jax|torch|tensorflow` chooses where Keras runs.

# %%
import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import torch  # before TensorFlow, if that is the backend
import jax.numpy as jnp
import keras
import numpy as np

import wrt

rng = np.random.default_rng(0)

# %% [markdown]
# ## One network, three frameworks
#
# Four inputs, eight hidden units, three classes. The weights are the same everywhere, so the Jacobians must be too.

# %%
W1, b1 = rng.normal(size=(4, 8)).astype("float32"), rng.normal(size=8).astype("float32")
W2, b2 = rng.normal(size=(8, 3)).astype("float32"), rng.normal(size=3).astype("float32")
x = rng.normal(size=(5, 4)).astype("float32")

keras_model = keras.Sequential(
    [
        keras.Input((4,)),
        keras.layers.Dense(8, activation="tanh", name="hidden"),
        keras.layers.Dense(3, activation="softmax", name="classes"),
    ]
)
keras_model.set_weights([W1, b1, W2, b2])

torch_module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3), torch.nn.Softmax(1))
torch_module.load_state_dict({"0.weight": torch.tensor(W1.T), "0.bias": torch.tensor(b1),
                              "2.weight": torch.tensor(W2.T), "2.bias": torch.tensor(b2)})  # fmt: skip


def jax_function(x):
    """The same network, written down."""
    z = jnp.tanh(x @ W1 + b1) @ W2 + b2
    return jnp.exp(z) / jnp.exp(z).sum(-1, keepdims=True)


J = wrt.jacobian(keras_model, x)
print("Jacobian of every sample (N, outputs, inputs):", J.shape)
print("torch agrees to", np.abs(wrt.jacobian(torch_module, x) - J).max())
print("JAX   agrees to", np.abs(wrt.jacobian(jax_function, x) - J).max())

# %% [markdown]
# NumPy goes in and NumPy comes out, in batches, within a memory bound. A tensor that goes in comes out as a tensor of
# the same framework, and carries a graph if the input does.

# %%
leaf = torch.tensor(x, requires_grad=True)
penalty = wrt.jacobian(torch_module, leaf).square().sum()
penalty.backward()
print("gradient of the Jacobian's squared norm:", tuple(leaf.grad.shape))
torch_module.zero_grad()

# %% [markdown]
# ## What is differentiated: `of=`
#
# A `gradient` needs one scalar per sample, or K of them. These are the ways to choose.

# %%
labels = np.array([0, 2, 1, 1, 0])
pairs = np.stack([labels, (labels + 1) % 3], 1)
choices = {
    "a unit": 2,
    "the last unit": -1,
    "each sample's label, (N,)": labels,
    "K units per sample, (N, K)": pairs,
    "the highest": "max",
    "the two highest": wrt.top(2),
    "every unit": "all",
    "the value before the softmax": wrt.logit(2),
    "a unit of a layer": wrt.layer("hidden", 5),
    "any function of the output": lambda y: y[:, 0] - y[:, 1],
}
for words, of in choices.items():
    print(f"  of = {words:<30} gradient {wrt.gradient(keras_model, x, of).shape}")

# %% [markdown]
# The value comes with the derivative, from the same pass.

# %%
gradient, probability = wrt.gradient(keras_model, x, "max", with_output=True)
print("highest probabilities:", probability.round(3))

# %% [markdown]
# ## With respect to what: `wrt=`
#
# An input by its index or name, several of them, or the output of a layer. Integers have no derivative; the output of
# the embedding has.

# %%
tokens = keras.Input((6,), dtype="int32", name="tokens")
numbers = keras.Input((2,), name="numbers")
embedded = keras.layers.Embedding(10, 3, name="embedding")(tokens)
joined = keras.layers.Concatenate()([keras.layers.Flatten()(embedded), numbers])
mixed = keras.Model({"tokens": tokens, "numbers": numbers}, keras.layers.Dense(1, activation="tanh")(joined))
data = {"tokens": rng.integers(0, 10, (5, 6)), "numbers": rng.normal(size=(5, 2)).astype("float32")}

print("wrt one input:    ", wrt.gradient(mixed, data, wrt="numbers").shape)
print("wrt the embedding:", wrt.gradient(mixed, data, wrt="embedding").shape)
try:
    wrt.gradient(mixed, data)
except wrt.errors.DtypeError as error:
    print("wrt everything:   ", error)

# %% [markdown]
# ## The plan
#
# From sizes alone the plan chooses reverse or forward mode, how many seeds run at a time, and the batch. It says why.

# %%
print(wrt.plan_jacobian(keras_model, like=x).plan)


def decoder(z):
    """Two numbers in, many out: pushes are cheaper than pulls."""
    return jnp.sin(z @ jnp.ones((2, 50)) * jnp.arange(50))


print(wrt.plan_jacobian(decoder, like=x[:, :2]).plan)

# %% [markdown]
# ## The operator
#
# Products with the Jacobian, its norms and singular values, without ever forming it.

# %%
operator = wrt.linearize(keras_model, x)
v = rng.normal(size=x.shape).astype("float32")
print("J v from the operator and from the matrix:", np.abs(operator.matvec(v) - np.einsum("noi,ni->no", J, v)).max())
print("largest singular value of each sample:", operator.norm(2).round(3))
print("the same from NumPy:                  ", np.linalg.norm(J, 2, axis=(1, 2)).round(3))

# %% [markdown]
# ## The check
#
# Every result can be checked: finite differences, the dot test `u·(J v) = (Jᵀ u)·v`, and what else could be wrong.

# %%
print(wrt.check(keras_model, x))
