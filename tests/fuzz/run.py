"""The long run: every function alone, then one after another, until the time is up; prints a table.

python tests/fuzz/run.py ENGINE [--seconds 600] [--seed N]
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
import warnings
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", choices=("jax", "torch", "tensorflow"))
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    given = parser.parse_args()
    os.environ["WRT_TEST_ENGINE"] = given.engine
    sys.path.insert(0, str(Path(__file__).parents[1]))
    import conftest  # noqa: F401  (names the engine to Keras, torch before TensorFlow)
    import keras

    keras.config.set_floatx("float64")
    warnings.simplefilter("ignore")
    print(f"python tests/fuzz/run.py {given.engine} --seconds {given.seconds:g} --seed {given.seed}", flush=True)
    return report(*long_run(given.seconds, given.seed))


def long_run(seconds: float, seed: int):
    """Rounds of every function alone and as many compositions, in an order drawn anew."""
    from fuzz import drawn
    from fuzz.tally import Tally

    end, tally, order = time.monotonic() + seconds, Tally(), random.Random(seed)

    def visit(case, questions):
        if time.monotonic() < end:
            for outcome in tally.visit(case, questions):
                print(outcome, flush=True)

    number = seed
    while time.monotonic() < end:
        for maker in order.sample(drawn.MAKERS, len(drawn.MAKERS)):
            if time.monotonic() >= end:
                break
            drawn.run(drawn.cases(maker), 2, number, visit)
            drawn.run(drawn.cases(), 2, number + 1, visit)
            number += 2
    return tally, len(drawn.MAKERS)


def report(tally, makers: int) -> int:
    """The table, what was refused and why, and whether anything failed."""
    columns = "engine functions tried right not_judged refused warned noticed own_rule false_alarm wrong"
    columns = columns.replace(" ", " | ").replace("_", " ")
    print(f"| {columns} |")
    print("|---" * 11 + "|")
    print(tally, "|")
    print(f"{len(tally.functions)} of {makers} makers were met")
    for kind, reasons in sorted(tally.met.items()):
        print(f"{kind}: " + "; ".join(sorted(reasons)))
    return bool(tally.failures)


if __name__ == "__main__":
    sys.exit(main())
