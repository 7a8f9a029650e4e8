"""What holds for every test: no setting of the person who runs it, no deadline but our own."""

import os

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("tests.support")

for name in [name for name in os.environ if name.startswith("DURABLEQ_")]:
    del os.environ[name]

# A busy machine is slow, not wrong: examples are bounded in number, not in time.
settings.register_profile("durableq", deadline=None, print_blob=True)
settings.load_profile("durableq")
