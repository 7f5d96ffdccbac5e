"""The library against itself: the lists of functions are whole, and some drawn cases are right."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import keras
import pytest
from conftest import ENGINE

from . import asks, drawn, known
from .makers import Maker
from .tally import Tally

COUNT = {"torch": 250, "jax": 20, "tensorflow": 6}[ENGINE]
SEED = int(os.environ.get("FUZZ_SEED", 11))


@pytest.fixture(autouse=True)
def _double():
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx(before)


def test_every_function_has_a_maker_or_a_reason():
    for table in drawn.TABLES:
        assert table.missing() == [], "functions without a maker or a reason"
        assert table.unknown() == [], "reasons for nothing, or for what has a maker"


def test_a_new_function_is_noticed(monkeypatch):
    monkeypatch.setattr(keras.ops, "unheard", keras.ops.sin, raising=False)
    with pytest.raises(AssertionError, match=r"ops\.unheard"):
        test_every_function_has_a_maker_or_a_reason()


def test_drawn_cases_are_right():
    tally = Tally()
    print(f"FUZZ_SEED={SEED}")

    def visit(case, questions):
        failed = tally.visit(case, questions)
        assert not failed, "\n".join(map(str, failed))

    drawn.run(drawn.cases(), COUNT, SEED, visit)
    assert tally.counts["right"] > 0.6 * sum(tally.counts.values()), tally.counts


def straight_through():
    """The engine's sine, with the cosine's sign turned."""
    if ENGINE == "torch":
        import torch

        class Wrong(torch.autograd.Function):
            generate_vmap_rule = True

            @staticmethod
            def forward(x):
                return torch.sin(x)

            @staticmethod
            def setup_context(ctx, inputs, output):
                ctx.save_for_backward(*inputs)
                ctx.save_for_forward(*inputs)

            @staticmethod
            def backward(ctx, u):
                return -u * torch.cos(*ctx.saved_tensors)

            @staticmethod
            def jvp(ctx, v):
                return -v * torch.cos(*ctx.saved_tensors)

        return Wrong.apply
    if ENGINE == "jax":
        import jax

        wrong = jax.custom_jvp(jax.numpy.sin)
        wrong.defjvp(lambda x, v: (jax.numpy.sin(*x), -jax.numpy.cos(*x) * v[0]))
        return wrong
    tf = importlib.import_module("tensorflow")
    return tf.custom_gradient(lambda x: (tf.sin(x), lambda u: -u * tf.cos(x)))


@pytest.mark.parametrize("question", ["reverse", "gradient", "hessian reverse"])
def test_a_wrong_rule_is_found(question):
    maker = Maker("wrong", straight_through(), lambda f, x: f(x))
    case = asks.Case(maker, None, (("f", 2),), 2, 3, False, "float64", None, None)
    (outcome,) = asks.ask(case, (question,))
    assert outcome.kind in ("wrong", "noticed"), outcome
    right = asks.Case(Maker("right", keras.ops.square, lambda f, x: f(x)), *dataclass_rest(case))
    assert [o.kind for o in asks.ask(right, (question,))] == ["right"]


def dataclass_rest(case):
    return (case.outer, case.sizes, case.samples, case.seed, case.special, case.dtype, case.compile, case.batch_size)


def test_the_documentation_tells_every_reason():
    page = (Path(__file__).parents[2] / "docs" / "trust.md").read_text()
    rows = [(e, reason, names) for e, table in known.REFUSED.items() for reason, names in table.items()]
    own = [
        (e, o.where, o.what, "not always" if o.silent else "yes", o.names) for e, os in known.OWN.items() for o in os
    ]
    for *cells, names in (*rows, *own):
        row = f"| {' | '.join(cells)} | {', '.join(f'`{name}`' for name in names.split())} |"
        assert row in page, row
