"""The plan: integers, reasons, and what it decides."""

import numpy as np
import pytest
from conftest import ENGINE
from subjects import close, keras_net, keras_tolerance, math, points, tensor, truth

import wrt
from wrt.derive.choose import Request, Sizes, choose
from wrt.engines.base import Capabilities
from wrt.errors import OptionError, PlanMismatchError

X = points(5)
CAN = Capabilities(compiles=True, pull_cost=2.0, push_cost=3.0, unroll=8)


def plan(samples=100, outputs=10, inputs=50, intermediate=1000, problem="", can=CAN, free=1 << 30, **request):
    sizes = Sizes(samples, outputs, inputs, intermediate)
    return choose("mine", sizes, Request(**request), can, lambda: problem, free)


def test_the_cheaper_mode_is_chosen_and_the_reason_given():
    assert plan(outputs=10, inputs=50).mode == "reverse"
    tall = plan(outputs=50, inputs=10)
    assert tall.mode == "forward"
    assert tall.seeds == 10
    assert "50 pulls cost about 100" in str(tall)
    assert plan(outputs=10, inputs=10).mode == "reverse"


def test_a_request_is_honoured_or_refused_with_the_reason():
    assert plan(mode="forward").mode == "forward"
    assert plan(outputs=50, inputs=10, mode="reverse").mode == "reverse"
    fallen = plan(mode="forward", problem="no rule for sorting")
    assert fallen.mode == "reverse"
    assert "no rule for sorting" in str(fallen)


def test_push_problem_is_asked_for_only_where_pushes_would_be_used():
    def fail():
        raise AssertionError("asked")

    choose("mine", Sizes(10, 2, 50, 100), Request(), CAN, fail, 1 << 30)


@pytest.mark.parametrize("samples", [1, 7, 100, 5000])
@pytest.mark.parametrize("free", [1 << 12, 1 << 20, 1 << 34])
def test_batches_keep_within_the_bound(samples, free):
    found = plan(samples=samples, free=free)
    assert 1 <= found.batch <= samples
    assert found.batch == 1 or found.bytes <= found.max_memory


def test_more_memory_never_makes_smaller_batches():
    batches = [plan(samples=1000, free=1 << k).batch for k in range(12, 30)]
    assert batches == sorted(batches)


def test_chunk_and_batch_are_capped():
    assert plan(chunk=1000).chunk == 10
    assert plan(batch_size=1000, samples=20).batch <= 1000
    assert plan(chunk=3).chunk == 3


def test_halving_ends():
    found, steps = plan(samples=64, chunk=4), 0
    while found is not None:
        last, found, steps = found, found.halved(), steps + 1
    assert (last.batch, last.chunk) == (1, 1)
    assert steps < 15
    assert "memory ran out" in str(last)


def test_printed_plan_of_a_model():
    made = wrt.plan_jacobian(keras_net(), X)
    text = str(made.plan)
    assert f"4 x 3 per sample on {ENGINE}" in text
    for word in ("mode", "batch", "why", "allowed"):
        assert word in text
    assert repr(made).startswith("JacobianPlan(")


def test_a_plan_takes_any_number_of_samples():
    made = wrt.plan_jacobian(keras_net(), X[:2], batch_size=2)
    for count in (0, 1, 2, 5):
        close(made(X[:count]), truth(X[:count]), keras_tolerance())


def test_a_plan_refuses_another_shape_kind_and_nesting():
    f = lambda x: math().sin(x)
    made = wrt.plan_jacobian(f, tensor(X))
    with pytest.raises(PlanMismatchError, match=r"shapes per sample: planned \(\(3,\),\), found \(\(4,\),\)"):
        made(tensor(np.ones((5, 4))))
    with pytest.raises(PlanMismatchError, match="kind"):
        made(X)


def test_options_of_a_plan_are_checked_at_once():
    with pytest.raises(OptionError):
        wrt.plan_jacobian(keras_net(), X, chunk=0)


def test_auto_takes_forward_for_a_tall_jacobian_and_is_right():
    w = np.random.default_rng(0).normal(size=(3, 40))
    matrix = tensor(w)
    f = lambda x: math().sin(x @ matrix)
    assert wrt.plan_jacobian(f, tensor(X)).plan.mode == "forward"
    close(wrt.jacobian(f, tensor(X)), np.einsum("no,io->noi", np.cos(X @ w), w), 1e-10)
