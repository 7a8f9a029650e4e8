"""The environment of every test: none of the user's settings, and no deadlines but our own."""

import atexit
import gc
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Generator, Iterator

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("tests.support")
pytest_plugins = ["tests.postgres"]

from tests.descriptors import none_left  # noqa: E402 - its assertions are rewritten, too

# Except the choice of the SQLite library, DURABLEQ_SQLITE=stdlib runs all tests with the other, and
# of the PostgreSQL server.
for name in [name for name in os.environ if name.startswith("DURABLEQ_")]:
    if name != "DURABLEQ_SQLITE" and not name.startswith("DURABLEQ_TEST_"):
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


@pytest.fixture(scope="session", autouse=True)
def descriptors_of_the_session(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail where fixtures of wider scope leave descriptors open: it is torn down after them."""
    with none_left("A fixture of a module or of the session", unless=_has_failed(request)):
        yield


@pytest.fixture(autouse=True)
def descriptors(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves descriptors open."""
    with none_left("This test", unless=_has_failed(request)):
        yield


def _has_failed(request: pytest.FixtureRequest) -> Callable[[], bool]:
    """Return whether a test has failed since: its traceback may keep descriptors open."""
    before = request.session.testsfailed
    return lambda: request.session.testsfailed > before


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leave the modules and items of the tests out of all collections of garbage.

    They stay until the end. To look through them takes a seventh of the time in which they are
    made, a third of a second whenever a test collects garbage, and as long whenever a test opens a
    file that its process has open: durableq then looks for the object that has.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep each group of tests in one process.

    pytest-xdist 3.8 adds the group to an attribute that pytest 9.2 does not read (its issue 1386).
    """
    for item in items:
        with_group = getattr(item, "_nodeid", item.nodeid)
        if with_group != item.nodeid:
            item._id = type(item.id).parse(with_group)


@pytest.hookimpl(optionalhook=True)  # pytest may run without xdist
def pytest_xdist_auto_num_workers() -> int:
    """Run one worker more than there are processors, as many tests wait, and use none."""
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else 2


@pytest.fixture(autouse=True)
def _logger_as_before() -> Iterator[None]:
    """Undo what a command that ran in this process has set up for its log."""
    ours = logging.getLogger("durableq")
    before = ours.handlers[:], ours.level, ours.propagate
    yield
    ours.handlers[:], level, ours.propagate = before
    ours.setLevel(level)
