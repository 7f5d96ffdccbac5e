"""The public test kit: functions with known derivatives, a check of an engine against its protocol, and of a method.

Adding an engine of one's own takes a class that follows `wrt.engines.base.Engine`, and two calls:

    from wrt.engines import registry
    from wrt.testing import check_engine

    check_engine(MyEngine(), module=my_array_library)  # raises AssertionError, naming everything that is wrong
    registry.register(MyEngine())

What the record of a method promises is checked by `check_method("name")`.
"""

from wrt.testing.engines import check_engine as check_engine
from wrt.testing.methods import Net as Net, check_method as check_method
from wrt.testing.scenarios import (
    Namespace as Namespace,
    Scenario as Scenario,
    namespace as namespace,
    scenarios as scenarios,
)
