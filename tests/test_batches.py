"""The batch of a plan follows the samples of the call, not those of the first call that made the recipe."""

import keras
import numpy as np
import pytest

import wrt


def planned(model, samples, **options):
    return wrt.plan_jacobian(model, np.ones((samples, 3)), **options).plan


@pytest.fixture
def model():
    return keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])


def test_a_small_first_call_does_not_bind_the_next(model):
    assert [planned(model, n).batch for n in (1, 500, 2)] == [1, 500, 2]


def test_a_wish_is_kept(model):
    assert [planned(model, n, batch_size=7).batch for n in (3, 50)] == [3, 7]


def test_memory_bounds_every_call(model):
    small = planned(model, 1, max_memory=20_000)
    large = planned(model, 500, max_memory=20_000)
    assert small.batch == 1
    assert 1 < large.batch < 500
    assert large.bytes == large.batch * small.bytes <= 20_000
