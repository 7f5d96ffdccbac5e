"""The long form of `test_broken_engines.py`: random models, right and broken, with seeds drawn anew.

make broken [BROKEN_ARGS="2000 900"]: so many right models, and so many broken ones, per engine.

A break that changes the result by less than the model's own rounding cannot be noticed, and is counted apart: one of
which nothing comes through (a ReLU that is off), or one that lies within what bfloat16 does to the right result.
"""

import collections
import os
import sys
import time

ENGINE, RIGHT, BROKEN = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
os.environ["KERAS_BACKEND"] = ENGINE
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import broken  # noqa: E402
import numpy as np  # noqa: E402

import wrt  # noqa: E402

ROUNDING = {"float32": 1e-5, "bfloat16": 0.15}  # of the length of a result; where many values agree, less is noticed


def result(seed, low):
    """What the right engine gives."""
    with wrt.verification("off"):
        return np.asarray(broken.random_case(seed, low).run(), "float64")


def alarms(start):
    """How many right models are called wrong."""
    found = 0
    for seed in range(start, start + RIGHT):
        case = broken.random_case(seed)
        text, _ = case.noticed()
        found += bool(text)
        if text:
            print(f"FALSE ALARM {case.words}: {text[0]}", flush=True)
    return found


def misses(start):
    """For each break how many were tried, noticed, and too small to be noticed."""
    counts = collections.defaultdict(collections.Counter)
    names = list(broken.BREAKS)
    for number in range(BROKEN):
        seed, name = start + number, names[number % len(names)]
        right, case = result(seed, 0.15), broken.random_case(seed)
        with broken.BREAKS[name](case):
            text, found = case.noticed()
        change = np.linalg.norm(np.asarray(found, "float64") - right) / max(np.linalg.norm(right), 1e-300)
        kind = next(k for k in ROUNDING if k in case.words)
        what = "noticed" if text else "missed" if change > ROUNDING[kind] else "below rounding"
        counts[name][what] += 1
        if what == "missed":
            print(f"MISSED {name}, {case.words}: off by {100 * change:.2g} %", flush=True)
    return counts


def main():
    """Print the counts; fail on a false alarm, or where fewer than 99 in 100 are noticed."""
    seed, begun = int.from_bytes(os.urandom(3), "little"), time.time()
    print(f"{ENGINE}: seeds from {seed}", flush=True)
    wrong = alarms(seed)
    print(f"{RIGHT} right models: {wrong} called wrong, {time.time() - begun:.0f} s", flush=True)
    counts = misses(seed + 10_000_000)
    for name, count in counts.items():
        print(f"  {name:<28} {dict(count)}")
    total = sum(counts.values(), collections.Counter())
    seen = total["noticed"] + total["missed"]
    print(f"{total['noticed']} of {seen} noticed ({100 * total['noticed'] / max(seen, 1):.2f} %)")
    print(f"{total['below rounding']} more changed less than rounding does")
    return wrong > 0 or total["noticed"] < 0.99 * seen


if __name__ == "__main__":
    sys.exit(main())
