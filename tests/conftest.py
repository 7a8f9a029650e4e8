"""The environment of every test: none of the user's settings, and no deadlines but our own."""

import atexit
import os
import shutil
import signal
import tempfile

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("tests.support")
pytest_plugins = ["tests.postgres"]

# Except the choice of the SQLite library, DURABLEQ_SQLITE=stdlib runs all tests with the other, and
# of the PostgreSQL server.
for name in [name for name in os.environ if name.startswith("DURABLEQ_")]:
    if name not in {"DURABLEQ_SQLITE", "DURABLEQ_TEST_POSTGRES"}:
        del os.environ[name]

# Processes that the tests start compile durableq once, not each time. Not beside the sources, where
# the user wants no bytecode. The workers of pytest-xdist inherit the folder.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
    bytecode = os.environ["PYTHONPYCACHEPREFIX"] = tempfile.mkdtemp(prefix="durableq-bytecode-")
    atexit.register(shutil.rmtree, bytecode, ignore_errors=True)

# A script's background jobs, and those of nohup, ignore these signals, and so would every process
# that the tests start. A signal that is handled here is not ignored there.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Examples are bounded in number, not in time, as machines may be loaded. CI draws the same examples
# in each run; elsewhere they vary, and a failure prints how to reproduce it.
settings.register_profile(
    "durableq", deadline=None, print_blob=True, derandomize=bool(os.environ.get("CI"))
)
for name, examples in (("fast", 20), ("thorough", 200)):  # pytest --hypothesis-profile=NAME
    settings.register_profile(name, settings.get_profile("durableq"), max_examples=examples)
settings.load_profile("durableq")
