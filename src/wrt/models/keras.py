"""Keras: derivatives of a model as a `keras.Model`. Importing this module registers them for loading."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from wrt.derive.first import gradient, jacobian
from wrt.derive.second import hessian
from wrt.engines import registry
from wrt.errors import InputError, ModelError
from wrt.models import keras_config
from wrt.models.derivative import Derivative, Form, form_of, merged
from wrt.trees import path_name, unflatten

SIDES = (32, 40)  # two sizes tried where the model leaves one open


@keras.saving.register_keras_serializable(package="wrt")
class DerivativeModel(keras.Model):
    """A derivative of `model`, whose weights it shares; made by `wrt.backward_model` and `wrt.jacobian_model`."""

    def __init__(self, model: keras.Model, derivative: Derivative, name: str | None = None) -> None:
        x = _inputs_of(model)
        layer = DerivativeLayer(model, derivative)
        inputs = [x, _cotangents(layer.form, model)] if derivative.what == "backward" else x
        outputs = layer(inputs)
        super().__init__(inputs=inputs, outputs=outputs, name=name or f"{derivative.what}_{model.name}")
        self.model, self.derivative = model, derivative

    def __call__(self, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        return super().__call__(self._nested(inputs), *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        known = all(hasattr(leaf, "shape") for leaf in keras.tree.flatten(x))
        return super().predict(self._nested(x) if known else x, *args, **kwargs)

    @property
    def input_spec(self) -> None:
        """None: inputs are checked in `_nested`, whose messages say which is the cotangent."""

    def _nested(self, inputs: Any) -> Any:
        """The arrays nested as this model takes them, `[x, cotangent]`; they may come in one flat list."""
        leaves, tensors = keras.tree.flatten(inputs), self.inputs
        if len(leaves) != len(tensors):
            names = ", ".join(t.name for t in tensors)
            raise InputError(f"{self.name} is called with {len(leaves)} array(s); expected {len(tensors)}: {names}")
        for leaf, tensor in zip(leaves, tensors, strict=True):
            if not hasattr(leaf, "shape"):
                raise InputError(f"{self.name}: {tensor.name!r} is {type(leaf).__name__}; expected an array")
            found, wanted = tuple(leaf.shape), tuple(tensor.shape)
            pairs = list(zip(found, wanted, strict=False))
            if len(found) != len(wanted) or any(None not in p and p[0] != p[1] for p in pairs):
                raise InputError(f"{self.name}: {tensor.name!r} has shape {found}; expected {wanted}")
        counts = {t.name: leaf.shape[0] for leaf, t in zip(leaves, tensors, strict=True) if leaf.shape[0] is not None}
        if len(set(counts.values())) > 1:
            raise InputError(f"{self.name} is called with different numbers of samples: {counts}")
        return keras.tree.pack_sequence_as(self.input, leaves)

    def get_config(self) -> dict[str, Any]:
        return _config(self)

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> DerivativeModel:
        return cls(*_configured(config, custom_objects), config["name"])


@keras.saving.register_keras_serializable(package="wrt")
class DerivativeLayer(keras.layers.Layer):
    """The one layer of a derivative model: the engine's pullback over the model inside."""

    def __init__(self, model: keras.Model, derivative: Derivative, name: str | None = None) -> None:
        super().__init__(name=name or derivative.what, dtype=model.dtype_policy, autocast=False)
        self.model, self.derivative = model, derivative
        self.form = _form(derivative, model, _inputs_of(model))
        self.supports_masking = True
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        x, u = inputs if self.derivative.what == "backward" else (inputs, None)
        draws_noise = bool(training) and self.derivative.training
        if draws_noise:
            _advance_seeds(self.model)
        record = registry.engine(keras.backend.backend()).is_recording()
        return self.derivative(self.model, x, u, record=record, training=bool(training))

    def compute_output_spec(self, inputs: Any, training: bool | None = None) -> Any:  # noqa: ARG002
        batch = keras.tree.flatten(inputs)[0].shape[0]
        pairs = zip(self.form.results, self.form.dtypes, strict=True)
        specs = [keras.KerasTensor((batch, *shape), dtype=dtype) for shape, dtype in pairs]
        return unflatten(self.form.result_structure, specs)

    def get_config(self) -> dict[str, Any]:
        return _config(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> DerivativeLayer:
        return cls(*_configured(config), config["name"])


def _config(shell: DerivativeModel | DerivativeLayer) -> dict[str, Any]:
    config = keras_config.serialize(shell.derivative)
    return {"name": shell.name, "model": keras_config.shared(shell.model), "derivative": config}


def _configured(config: dict[str, Any], custom_objects: Any = None) -> tuple[keras.Model, Derivative]:
    model = keras.saving.deserialize_keras_object(config["model"], custom_objects)
    return model, keras_config.deserialize(config["derivative"], custom_objects)


def _advance_seeds(model: keras.Model) -> None:
    """The derivative leaves all state as it is; without this every call would drop the same units."""
    for layer in model._flatten_layers(include_self=True, recursive=True):
        for generator in layer._seed_generators:
            generator.next()


def _inputs_of(model: keras.Model) -> Any:
    """Symbolic inputs like those of the model, nested as it takes them.

    Raises:
        ModelError: the model is not built, or does not tell the shapes of its inputs.
    """
    tensors = getattr(model, "inputs", None)
    if tensors:
        structure = tensors[0] if len(tensors) == 1 and not isinstance(_struct(model), dict) else model.input
        return keras.tree.map_structure(_input_like, structure)
    if not model.built:
        raise ModelError(f"model {model.name!r} is not built; call it once on data, or give it a keras.Input first")
    shapes = (model.get_build_config() or {}).get("input_shape")
    if shapes is None or len(_required(model)) != 1:
        raise ModelError(
            f"model {model.name!r} does not tell the shapes of its inputs; wrap it: "
            "keras.Model([a, b], model(a, b)) with a keras.Input for each"
        )
    return _inputs_of_shapes(model, shapes)


def _struct(model: keras.Model) -> Any:
    return None if isinstance(model, keras.Sequential) else model.input


def _required(model: keras.Model) -> list[str]:
    """Names of what `call` has to be given."""
    import inspect

    parameters = inspect.signature(model.call).parameters.values()
    return [p.name for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]


def _input_like(tensor: Any) -> Any:
    return keras.Input(batch_shape=tensor.shape, dtype=tensor.dtype, name=tensor.name)


def _inputs_of_shapes(model: keras.Model, shapes: Any) -> Any:
    dtype = model.dtype_policy.variable_dtype
    if isinstance(shapes, dict):
        return {k: keras.Input(tuple(s[1:]), dtype=dtype, name=k) for k, s in shapes.items()}
    if isinstance(shapes[0], (list, tuple)):
        return [keras.Input(tuple(s[1:]), dtype=dtype, name=f"x_{i}") for i, s in enumerate(shapes)]
    return keras.Input(tuple(shapes[1:]), dtype=dtype, name="x")


def _form(derivative: Derivative, model: keras.Model, x: Any) -> Form:
    """The derivative's form, found on examples; with two sizes where the model leaves one open."""
    tensors = keras.tree.flatten(x)
    open_ = any(size is None for t in tensors for size in t.shape[1:])
    forms = [form_of(derivative, model, _example(x, side)) for side in SIDES[: 1 + open_]]
    return merged(*forms) if open_ else forms[0]


def _example(x: Any, side: int) -> Any:
    def zeros(tensor: Any) -> np.ndarray:
        shape = (tensor.shape[0] or 2, *(side if s is None else s for s in tensor.shape[1:]))
        return np.zeros(shape, "float32" if tensor.dtype == "bfloat16" else tensor.dtype)

    return keras.tree.map_structure(zeros, x)


def _cotangents(form: Form, model: keras.Model) -> Any:
    """Symbolic cotangents, nested as the outputs."""
    names = list(_cotangent_names(form))
    inputs = [
        keras.Input(shape, dtype=model.dtype_policy.compute_dtype, name=name)
        for shape, name in zip(form.cotangents, names, strict=True)
    ]
    return unflatten(form.cotangent_structure, inputs)


def _cotangent_names(form: Form) -> Iterator[str]:
    for path in form.cotangent_structure.paths():
        yield f"cotangent_{path_name(path).replace('/', '_')}" if path else "cotangent"


@keras.saving.register_keras_serializable(package="wrt")
class AugNet(keras.Model):
    """A Keras model that answers for its derivatives: `AugNet(inputs, outputs)`, trained and saved as any other.

    Derivatives are per sample, of any rank and dtype, in inference mode, with the weights as they are at the call.
    NumPy in, NumPy out, in batches; a tensor in, a tensor out, differentiable again.

    Args:
        inputs: as for `keras.Model`, such as `model.inputs` of a trained model, whose layers are shared.
        outputs: as for `keras.Model`.
        name: the model's name.

    Example:
        >>> import keras, numpy as np, wrt
        >>> x = keras.Input((3,))
        >>> model = wrt.AugNet(x, keras.layers.Dense(2)(keras.layers.Dense(8, activation="tanh")(x)))
        >>> model.return_jacobian(np.ones((5, 3))).shape
        (5, 2, 3)
        >>> model.return_gradient(np.ones((5, 3)), of=1).shape
        (5, 3)
        >>> model.return_hessian(np.ones((5, 3)), of=1).shape
        (5, 3, 3)
    """

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(inputs=_alone(inputs), outputs=_alone(outputs), name=name, **kwargs)

    @classmethod
    def from_model(cls, model: keras.Model) -> AugNet:
        """An `AugNet` that shares the layers and weights of a model.

        Raises:
            ModelError: not a Keras model, not built, or without known input shapes.
        """
        if not isinstance(model, keras.Model):
            raise ModelError(f"AugNet.from_model: model is {type(model).__name__}; expected a keras.Model")
        if getattr(model, "inputs", None) and not isinstance(model, keras.Sequential):
            return cls(model.input, model.output, name=model.name)
        if getattr(model, "inputs", None):
            return cls(model.inputs, model.outputs, name=model.name)
        x = _inputs_of(model)
        return cls(x, model(x), name=model.name)

    def return_jacobian(self, x: Any, of: Any = None, **options: Any) -> Any:
        """J[n, i, j] = d y_i(x[n]) / d x_j[n], `(N, *out, *in)`; options as in `wrt.jacobian`."""
        return jacobian(self, x, of, **options)

    def return_gradient(self, x: Any, of: Any = None, **options: Any) -> Any:
        """d y_of(x[n]) / d x[n], `(N, *in)`; options as in `wrt.gradient`."""
        return gradient(self, x, of, **options)

    def return_hessian(self, x: Any, of: Any = None, **options: Any) -> Any:
        """H[n, i, j] = d² y_of(x[n]) / d x_i d x_j, `(N, *in, *in)`; options as in `wrt.hessian`."""
        return hessian(self, x, of, **options)


def _alone(tensors: Any) -> Any:
    """The tensor itself out of a list of one, so that derivatives come as arrays and not as lists."""
    return tensors[0] if isinstance(tensors, (list, tuple)) and len(tensors) == 1 else tensors
