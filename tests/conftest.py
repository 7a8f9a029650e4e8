"""What holds for every test: no setting of the person who runs it, no deadline but our own."""

import os
import signal

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("tests.support")

# Except the choice of the SQLite library: DURABLEQ_SQLITE=stdlib runs all tests with the other.
for name in [name for name in os.environ if name.startswith("DURABLEQ_")]:
    if name != "DURABLEQ_SQLITE":
        del os.environ[name]

# Whoever starts the tests in the background of a script, or under nohup, has them ignore these, and
# with them every process that the tests start. A signal that is handled here is not ignored there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# A busy machine is slow, not wrong: examples are bounded in number, not in time.
settings.register_profile("durableq", deadline=None, print_blob=True)
settings.load_profile("durableq")
