"""Derivatives in the configuration of a Keras model: `of=`, `wrt=` and `rules=` as JSON and back."""

from __future__ import annotations

from typing import Any

import keras

from wrt import rules
from wrt.models.derivative import Derivative
from wrt.select import Layer, Logit, Output, Top

NAMED = {f.__name__: f for f in (rules.guided, rules.deconvnet, rules.straight_through)}


def shared(model: keras.Model) -> dict[str, Any]:
    """The configuration of a model inside another's, so that loading makes one model of all its mentions.

    Keras marks a repeated object where it met it first, which is lost where that was inside another configuration.
    """
    return {**keras.saving.serialize_keras_object(model), "shared_object_id": id(model)}


def serialize(derivative: Derivative) -> dict[str, Any]:
    """All that `deserialize` needs."""
    pairs = (derivative.rules or {}).items()
    return {
        "what": derivative.what,
        "of": choice(derivative.of),
        "wrt": choice(derivative.wrt),
        "rules": {name: _rule(rule) for name, rule in pairs} or None,
        "training": derivative.training,
    }


def deserialize(config: dict[str, Any], custom_objects: Any = None) -> Derivative:
    """The derivative of a configuration."""
    pairs = (config["rules"] or {}).items()
    return Derivative(
        config["what"],
        chosen(config["of"], custom_objects),
        chosen(config["wrt"], custom_objects),
        {name: _ruled(rule, custom_objects) for name, rule in pairs} or None,
        config["training"],
    )


def choice(value: Any) -> Any:
    """A value of `of=` or `wrt=` as JSON."""
    if isinstance(value, (Layer, Output, Logit, Top)):
        fields = {name: choice(v) for name, v in vars(value).items()}
        return {"choice": type(value).__name__, **fields}
    if isinstance(value, (list, tuple)):
        return {"choice": type(value).__name__, "items": [choice(v) for v in value]}
    if callable(value):
        return {"choice": "function", "function": keras.saving.serialize_keras_object(value)}
    return value if value is None or isinstance(value, (str, int)) else int(value)


def chosen(config: Any, custom_objects: Any) -> Any:
    """The value that `choice` made this of."""
    if not isinstance(config, dict):
        return config
    kind = config["choice"]
    if kind == "function":
        return keras.saving.deserialize_keras_object(config["function"], custom_objects)
    if kind in ("list", "tuple"):
        items = [chosen(v, custom_objects) for v in config["items"]]
        return items if kind == "list" else tuple(items)
    fields = {name: chosen(v, custom_objects) for name, v in config.items() if name != "choice"}
    return {"Layer": Layer, "Output": Output, "Logit": Logit, "Top": Top}[kind](**fields)


def _rule(rule: Any) -> Any:
    if isinstance(rule, rules.Squareplus):
        return {"squareplus": rule.b}
    name = next((name for name, known in NAMED.items() if known is rule), None)
    return name or keras.saving.serialize_keras_object(rule)


def _ruled(config: Any, custom_objects: Any) -> Any:
    if isinstance(config, str) and config in NAMED:
        return NAMED[config]
    if isinstance(config, dict) and set(config) == {"squareplus"}:
        return rules.Squareplus(config["squareplus"])
    return keras.saving.deserialize_keras_object(config, custom_objects)
