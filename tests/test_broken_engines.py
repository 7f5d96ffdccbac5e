"""Engines broken on purpose are noticed on the first call; right models are not. The long form: `make broken`."""

import numpy as np
import pytest
from broken import BREAKS, ENGINE, random_case

import wrt

RIGHT = {"torch": 100, "jax": 4, "tensorflow": 4}[ENGINE]
BROKEN = {"torch": 5, "jax": 1, "tensorflow": 1}[ENGINE]  # of each kind
COMPILED = ("one sample dropped", "stale", "layout", "one operator 5 % too much")  # elsewhere: each takes seconds
NAMES = BREAKS if ENGINE == "torch" else COMPILED


@pytest.mark.parametrize("start", range(0, RIGHT, 10))
def test_right_models_raise_nothing(start):
    for seed in range(start, min(start + 10, RIGHT)):
        case = random_case(seed)
        found, _ = case.noticed()
        assert found == [], case.words


@pytest.mark.parametrize("name", NAMES)
def test_broken_engines_are_noticed(name):
    number, tried = 0, 0
    while tried < BROKEN:
        number += 1
        seed = 1000 * list(BREAKS).index(name) + number
        with wrt.verification("off"):
            right = np.asarray(random_case(seed, low=0).run())
        case = random_case(seed, low=0)
        with BREAKS[name](case):
            found, broken = case.noticed()
        if broken is not None and np.allclose(broken, right, rtol=1e-3, atol=1e-3 * np.abs(right).max()):
            continue  # the break was where nothing passes
        tried += 1
        assert found, f"{case.words}: {name}"
