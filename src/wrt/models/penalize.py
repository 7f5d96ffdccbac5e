"""Keras: a model whose training adds a penalty, and the callback that changes the penalty's numbers on the way.

Importing this module registers the model for loading.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import Any

import keras
import numpy as np

from wrt.errors import ModelError, OptionError, suggest
from wrt.models import keras_config, penalties
from wrt.models.measures import is_word
from wrt.models.penalties import InputGradient, JacobianNorm, Penalty

ACTIVE = ("of", "wrt")  # fields that choose tensors
FUNCTION = keras.losses.MeanSquaredError.__base__  # the loss object that Keras makes of a function


@keras.saving.register_keras_serializable(package="wrt")
class PenalizedModel(keras.Model):
    """`model`, whose weights it shares, trained with `loss + weight * penalty`; made by `wrt.penalize`."""

    def __init__(self, model: keras.Model, penalty: Any, weight: float = 1.0, name: str | None = None) -> None:
        super().__init__(name=name or f"penalized_{model.name}", dtype=model.dtype_policy)
        _check(model, penalty)
        self.model, self.penalty = model, penalty
        self.penalty_metric = keras.metrics.Mean(name="penalty")
        self._numbers = {"weight": self._number("weight", weight)}
        for key in getattr(penalty, "parameters", ()):
            self._numbers[key] = self._number(key, getattr(penalty, key))
        draws = isinstance(penalty, JacobianNorm) and not penalty.exact
        self._seeds = keras.random.SeedGenerator() if draws else None
        self._sample_loss: tuple[Any, Any] | None = None
        self.built = model.built

    def _number(self, key: str, value: Any) -> Any:
        """A variable, so that a compiled step follows its changes."""
        value = self._checked(key, value)
        start = keras.initializers.Constant(value)
        dtype = "int32" if isinstance(value, int) else "float32"
        return self.add_weight((), start, dtype, trainable=False, autocast=False, name=f"penalty_{key}")

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        if training is None or not self.model._call_has_training_arg:
            return self.model(inputs)
        return self.model(inputs, training=training)  # Keras on JAX does not hand it on by itself

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The compiled loss, regularisers included, and the weighted penalty of the batch."""
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        penalty = self._value(x, y, y_pred)
        self.penalty_metric.update_state(penalty, sample_weight=keras.ops.shape(keras.tree.flatten(x)[0])[0])
        weighted = keras.ops.cast(penalty, loss.dtype) * keras.ops.cast(self._numbers["weight"], loss.dtype)
        return loss + weighted

    def _value(self, x: Any, y: Any, y_pred: Any) -> Any:
        penalty = self._current()
        if self._seeds is None:
            return penalty(self.model, x, y)
        outputs = keras.tree.flatten(y_pred)
        shape = (penalty.projections, keras.ops.shape(outputs[0])[0], sum(math.prod(o.shape[1:]) for o in outputs))
        wide = "float64" if self.variable_dtype == "float64" else "float32"
        return penalty(self.model, x, y, probes=keras.random.normal(shape, dtype=wide, seed=self._seeds))

    def _current(self) -> Any:
        """The penalty with the numbers that the variables hold, and the compiled loss if it needs one."""
        changed = {key: variable.value for key, variable in self._numbers.items() if key != "weight"}
        if isinstance(self.penalty, InputGradient) and is_word(self.penalty.of, "loss") and self.penalty.loss is None:
            if self._sample_loss is None or self._sample_loss[0] is not self.loss:
                self._sample_loss = self.loss, _per_sample(self.loss)
            changed["loss"] = self._sample_loss[1]
        return dataclasses.replace(self.penalty, **changed) if changed else self.penalty

    @property
    def settings(self) -> Settings:
        """The weight and the penalty's own numbers, by name; they can be set at any time and recompile nothing."""
        return Settings(self)

    @property
    def weight(self) -> float:
        """The weight of the penalty in the loss; can be set at any time."""
        return self.settings["weight"]

    @weight.setter
    def weight(self, value: float) -> None:
        self.settings["weight"] = value

    def _checked(self, key: str, value: Any) -> int | float:
        """A plain number that may be given to the penalty.

        Raises:
            OptionError: not a number, or one that the penalty refuses.
        """
        array = np.asarray(value)
        if array.ndim or array.dtype.kind not in "iuf" or not np.isfinite(array):
            raise OptionError(f"{key}={value!r}; expected a finite number")
        if key != "weight" and isinstance(getattr(self.penalty, key), int):
            if array != int(array):
                raise OptionError(f"{key}={value!r}; expected an integer")
            penalty = dataclasses.replace(self.penalty, **{key: int(array)})
            penalty.check_inputs(_inputs(self.model, penalty))
            return int(array)
        if array < 0:
            raise OptionError(f"{key}={value!r}; expected zero or more")
        return float(array)

    def get_config(self) -> dict[str, Any]:
        numbers = dict(self.settings)
        weight = numbers.pop("weight")
        penalty = dataclasses.replace(self.penalty, **numbers) if numbers else self.penalty
        shared = keras_config.shared(self.model)
        return {"name": self.name, "model": shared, "penalty": _serialize(penalty), "weight": weight}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> PenalizedModel:
        model = keras.saving.deserialize_keras_object(config["model"], custom_objects)
        return cls(model, _deserialize(config["penalty"], custom_objects), config["weight"], config["name"])


class Settings(MutableMapping[str, Any]):
    """The numbers of a penalised model, as they are now."""

    def __init__(self, model: PenalizedModel) -> None:
        self._model = model
        getattr(model, "jax_state_sync", lambda: None)()  # on JAX the values are elsewhere while an epoch runs

    def __getitem__(self, key: str) -> Any:
        value = keras.ops.convert_to_numpy(self._variable(key).value)
        return int(value) if value.dtype.kind == "i" else float(str(value))  # 0.1, not 0.10000000149

    def __setitem__(self, key: str, value: Any) -> None:
        variable = self._variable(key)
        variable.assign(self._model._checked(key, value))

    def __contains__(self, key: object) -> bool:
        return key in self._model._numbers

    def get(self, key: str, default: Any = None) -> Any:
        """The number of this name, or `default` where there is none."""
        return self[key] if key in self else default

    def _variable(self, key: str) -> Any:
        if key not in self:
            raise OptionError(f"{key!r} is no number of this penalty.{suggest(key, self._model._numbers)}")
        return self._model._numbers[key]

    def __delitem__(self, key: str) -> None:
        raise OptionError(f"{key!r} cannot be deleted; set it to 0 to switch it off")

    def __iter__(self) -> Iterator[str]:
        return iter(self._model._numbers)

    def __len__(self) -> int:
        return len(self._model._numbers)

    def __repr__(self) -> str:
        return f"Settings({dict(self)})"


class Schedule(keras.callbacks.Callback):
    """Changes the weight and the numbers of a penalised model at the beginning of every epoch, without recompilation.

    Args:
        **values: by name, a function of the epoch (0, 1, ...) or a list with one value per epoch, whose last one stays.

    Raises:
        OptionError: the penalty has no number of this name, or refuses the value.
        ModelError: the model is not one of `wrt.penalize`.

    Example:
        >>> import wrt
        >>> schedule = wrt.penalties.Schedule(k=lambda epoch: min(50 + 100 * (epoch // 3), 500), weight=[0.0, 1.0])
    """

    def __init__(self, **values: Callable[[int], float] | Sequence[float]) -> None:
        super().__init__()
        for name, value in values.items():
            if not callable(value) and not (hasattr(value, "__len__") and len(value)):
                raise OptionError(
                    f"{name}={value!r}; expected a function of the epoch, or a list of one value per epoch"
                )
        self.values = values

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002
        if not isinstance(self.model, PenalizedModel):
            raise ModelError(f"Schedule works on models of wrt.penalize; this is a {type(self.model).__name__}")
        for name in self.values:
            self.model.settings[name]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        for name, value in self.values.items():
            now = value(epoch) if callable(value) else value[min(epoch, len(value) - 1)]
            self.model.settings[name] = now


def _check(model: Any, penalty: Any) -> None:
    if isinstance(model, PenalizedModel):
        raise ModelError(
            "model is penalised already; for two penalties give one function: "
            "lambda model, x, y: a(model, x, y) + 10 * b(model, x, y)"
        )
    if isinstance(penalty, type) or not callable(penalty):
        made = f"{penalty.__name__}()" if isinstance(penalty, type) else "wrt.penalties.InputGradient()"
        raise OptionError(f"penalty={penalty!r}; expected a function of (model, x, y), such as {made}")


def _inputs(model: keras.Model, penalty: Any) -> int | None:
    """How many numbers a sample has, where model and penalty leave no doubt."""
    tensors = getattr(model, "inputs", None)
    if not tensors or penalty.wrt is not None or any(None in t.shape[1:] for t in tensors):
        return None
    return sum(math.prod(t.shape[1:]) for t in tensors)


def _per_sample(loss: Any) -> Callable[[Any, Any], Any]:
    """The compiled loss of every sample, (N,), before Keras averages it.

    Raises:
        OptionError: there is none, or one per output.
    """
    if isinstance(loss, (list, tuple)) and len(loss) == 1:
        loss = loss[0]
    if loss is None or isinstance(loss, (list, tuple, dict)):
        found = "no loss is compiled" if loss is None else "a loss per output is compiled"
        raise OptionError(
            f"InputGradient(of='loss'): {found}; compile(loss=...) with one, or give "
            "InputGradient(loss=lambda output, y: ...), one number per sample"
        )

    def per_sample(output: Any, y: Any) -> Any:
        values = _loss_object(loss, output, y).call(y, output)
        axes = tuple(range(1, len(values.shape)))
        return keras.ops.mean(values, axes) if axes else values

    return per_sample


def _loss_object(loss: Any, output: Any, y: Any) -> Any:
    """What `compile` makes of its `loss=`; "crossentropy" depends on the shapes."""
    if str(loss).lower() in ("crossentropy", "ce"):
        one = output.shape[-1] == 1 or len(output.shape) == 1
        same = tuple(y.shape) == tuple(output.shape)
        loss = ("binary" if one else "categorical" if same else "sparse_categorical") + "_crossentropy"
    found = keras.losses.get(loss)
    return found if isinstance(found, keras.losses.Loss) else FUNCTION(found)


def _serialize(penalty: Any) -> dict[str, Any]:
    if not isinstance(penalty, Penalty) or type(penalty) is not getattr(penalties, type(penalty).__name__, None):
        return {"custom": keras.saving.serialize_keras_object(penalty)}
    fields = {f.name: getattr(penalty, f.name) for f in dataclasses.fields(penalty)}
    plain = {
        name: keras_config.choice(value) if name in ACTIVE else keras.saving.serialize_keras_object(value)
        for name, value in fields.items()
    }
    return {"penalty": type(penalty).__name__, "fields": plain}


def _deserialize(config: dict[str, Any], custom_objects: Any) -> Any:
    load = keras.saving.deserialize_keras_object
    if "custom" in config:
        return load(config["custom"], custom_objects)
    fields = {
        name: keras_config.chosen(value, custom_objects) if name in ACTIVE else load(value, custom_objects)
        for name, value in config["fields"].items()
    }
    return getattr(penalties, config["penalty"])(**fields)
