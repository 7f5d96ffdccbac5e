"""Derivatives of a model as models: the shared recipe; `keras.py` and `torch.py` are shells around it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from wrt import rules as rule_names
from wrt.derive.first import check_scalar, gradient_of, jacobian_of, vjp_of
from wrt.derive.job import Job, Options, nest, prepare
from wrt.engines import registry
from wrt.errors import ModelError, SelectionError
from wrt.rules import Rule
from wrt.select import Layer, Logit, Output
from wrt.trees import Structure, flatten

Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Derivative:
    """Which derivative of a model: `what` is "backward" (of x and a cotangent), "gradient" or "jacobian" (of x)."""

    what: str
    of: Any = None
    wrt: Any = None
    rules: Mapping[str, Rule] | None = None
    training: bool = False

    def __call__(self, model: Any, x: Any, u: Any = None, *, record: bool = False, training: bool = False) -> Any:
        """The derivative at x, differentiable again if `record`; as in training only if both sides say so."""
        options = self.options(training)
        options = dataclasses.replace(options, differentiable=record, progress=False)
        if self.what == "backward":
            return vjp_of(model, x, u, self.of, self.wrt, options)
        return (gradient_of if self.what == "gradient" else jacobian_of)(model, x, self.of, self.wrt, options)

    def options(self, training: bool = False) -> Options:
        return Options(rules=self.rules, training=self.training and training)

    def prepared(self, model: Any, x: Any) -> Job:
        """The question, checked on an example."""
        job = prepare(model, x, self.of, self.wrt, "vjp" if self.what == "backward" else "rows", self.options())
        if self.what == "gradient":
            check_scalar(job, self.of)
        return job


@dataclass(frozen=True)
class Form:
    """Per-sample shapes and dtypes of the cotangents and of the result, nested as they are."""

    cotangents: Sequence[Shape]
    cotangent_structure: Structure
    results: Sequence[Shape]
    result_structure: Structure
    dtypes: list[str]


def form_of(derivative: Derivative, model: Any, example: Any) -> Form:
    """What goes into and comes out of the derivative beside x.

    Raises:
        SelectionError, DependenceError, DtypeError, InputError: as `wrt.gradient` and `wrt.vjp` do.
    """
    job = derivative.prepared(model, example)
    shapes, chosen = job.recipe.shapes, job.recipe.problem.wrt
    dtypes = [job.inputs.dtypes[c] if isinstance(c, int) else shapes.sites[c][1] for c in chosen.chosen]
    if derivative.what == "backward":
        return Form(list(shapes.outs), shapes.out_structure, list(shapes.ins), chosen.structure, dtypes)
    outs = [() if derivative.of is None and derivative.what == "gradient" else out for out in shapes.outs]
    blocks = [(*out, *in_) for out in outs for in_ in shapes.ins]
    tree = nest(job, list(range(len(blocks))))
    return Form([], Structure("none"), blocks, flatten(tree)[1], dtypes * len(outs))


def merged(small: Form, large: Form) -> Form:
    """The form of a model whose inputs have sizes that are not fixed: what differs between two examples is `None`."""

    def merge(pairs: Any) -> list[Shape]:
        return [tuple(a if a == b else None for a, b in zip(s, t, strict=True)) for s, t in pairs]

    return dataclasses.replace(
        small,
        cotangents=merge(zip(small.cotangents, large.cotangents, strict=True)),
        results=merge(zip(small.results, large.results, strict=True)),
    )


def backward_model(
    model: Any,
    of: Any = None,
    wrt: Any = None,
    rules: Mapping[str, Rule] | None = None,
    *,
    training: bool = False,
) -> Any:
    """The backward pass of a model as a model that shares its weights.

    Without `of` a model of `[x, u]` that gives (Jᵀ u)[n] = sum_i u[n, i] J[n, i, :], shape `(N, *in)`; with `of` a
    model of `x` that gives d y_of(x[n]) / d x[n], shape `(N, *in)`, or `(N, K, *in)` where `of` chooses K units. It
    trains (through the derivative), saves, loads and exports like any other model.

    Args:
        model: a built Keras model, or a `torch.nn.Module`. The result is a `keras.Model` (of `[x, u]`, or of all arrays
            in one list), or a module called as `backward(x, u)`.
        of: which scalar, in the forms of `wrt.gradient` except arrays of labels; `wrt.output(name)` or
            `wrt.layer(name)` without a unit keeps the cotangent, of that tensor.
        wrt: an input's index or name, a list of them, or `wrt.layer(name)`; by default every input.
        rules: other derivatives for activations, such as `{"relu": wrt.rules.guided}`.
        training: by default the model inside is always in inference mode. With `training=True` it follows the call, as
            in its forward pass: batch statistics and dropout in `fit` and `model([x, u], training=True)`; its moving
            averages stay as they are.

    Raises:
        ModelError: not a Keras model or torch module, or not built.
        SelectionError: `of`, `wrt` or `rules` is unknown, out of range or ambiguous.
        DtypeError: the model has no floating-point input; choose `wrt=` an embedding layer.

    Example:
        >>> import keras, numpy as np, wrt
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> backward = wrt.backward_model(model)
        >>> backward.predict([np.ones((5, 3)), np.ones((5, 2))], verbose=0).shape
        (5, 3)
        >>> np.allclose(backward.get_weights()[0], model.get_weights()[0])
        True
    """
    _check_of(of)
    what = "gradient" if _is_scalar(of) else "backward"
    return _shell(model)(model, Derivative(what, of, wrt, _copied(rules), training))


def jacobian_model(model: Any, wrt: Any = None, *, training: bool = False) -> Any:
    """The Jacobian of a model as a model of `x` that shares its weights.

    J[n, i, j] = d y_i(x[n]) / d x_j[n], shape `(N, *out, *in)`, nested outputs first.

    Args:
        model: a built Keras model, or a `torch.nn.Module`.
        wrt: an input's index or name, a list of them, or `wrt.layer(name)`; by default every input.
        training: as in `wrt.backward_model`.

    Raises:
        ModelError: not a Keras model or torch module, or not built.
        SelectionError, DtypeError: as `wrt.backward_model` does.

    Example:
        >>> import keras, numpy as np, wrt
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> wrt.jacobian_model(model).predict(np.ones((5, 3)), verbose=0).shape
        (5, 2, 3)
    """
    return _shell(model)(model, Derivative("jacobian", None, wrt, None, training))


def _is_scalar(of: Any) -> bool:
    """Whether `of` names numbers; a tensor as a whole keeps its cotangent."""
    return of is not None and not (isinstance(of, (Layer, Output, Logit)) and of.unit is None)


def _check_of(of: Any) -> None:
    unit = of.unit if isinstance(of, (Layer, Output, Logit)) else of
    if registry.owner(unit) is not None or isinstance(unit, list) or hasattr(unit, "__array__"):
        raise SelectionError(
            "of= is an array of labels, which belong to the data and not to a model; leave of= out and pass one-hot "
            "labels as the cotangent: backward([x, onehot])"
        )


def _copied(rules: Mapping[str, Rule] | None) -> Mapping[str, Rule] | None:
    return None if rules is None else dict(rule_names.parse(rules))


def _shell(model: Any) -> Any:
    """The class of derivative models for this kind of model."""
    keras, torch = sys.modules.get("keras"), sys.modules.get("torch")
    if keras is not None and isinstance(model, keras.Model):
        from wrt.models.keras import DerivativeModel

        return DerivativeModel
    if keras is not None and isinstance(model, keras.layers.Layer):
        raise ModelError(
            f"model is the Keras layer {model.name!r}; put it into a model: keras.Sequential([keras.Input(...), layer])"
        )
    if torch is not None and isinstance(model, torch.nn.Module):
        from wrt.models.torch import DerivativeModule

        return DerivativeModule
    raise ModelError(
        f"model is {type(model).__name__}; derivative models are made of Keras models and torch modules. The "
        "derivative of a function is a function: jax.jit(lambda x, u: wrt.vjp(f, x, u))"
    )
