"""Each engine's test class collects the tests of the capabilities that the engine states."""

import ast
import inspect
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import FunctionType
from typing import Any, cast, get_overloads

import pytest

from durableq.store import capabilities
from durableq.store.core import Capability, Queueing, Store
from durableq.testing import FakeClock, FakeRandom, MultiProcessContract, StoreContract
from durableq.testing.contract.case import contract_tests, needs_of
from tests.contract.test_memory import TestMemory as Memory
from tests.contract.test_sqlite import TestSQLite as SQLite

#: The name of the protocol of each capability.
PROTOCOLS = {
    one.__annotations__["capability"]: one.__annotations__["return"]
    for one in get_overloads(Store.require)
}
OPERATIONS = {
    name: capability
    for capability in Capability
    for name in vars(getattr(capabilities, PROTOCOLS[f"Literal[Capability.{capability.name}]"]))
    if not name.startswith("_") and name not in vars(Queueing)
}


def hidden(case: type) -> set[str]:
    return {name for name in contract_tests(case) if getattr(case, name) is None}


@pytest.mark.parametrize("case", [Memory, SQLite])
def test_exactly_the_tests_that_an_engine_cannot_run_are_not_collected(
    case: type[StoreContract], tmp_path: Path
) -> None:
    with closing(case().make_store(FakeClock(), FakeRandom(), tmp_path)) as store:
        lacking = set(Capability) - store.capabilities
    tests = contract_tests(StoreContract)
    assert hidden(case) == {name for name, test in tests.items() if needs_of(test) & lacking}
    assert bool(hidden(case)) == bool(lacking)


def test_a_class_that_states_other_capabilities_than_its_store_is_refused(tmp_path: Path) -> None:
    class Wrong(Memory):
        capabilities = frozenset(Capability)

    store = Wrong().make_store(FakeClock(), FakeRandom(), tmp_path)
    with pytest.raises(pytest.fail.Exception, match=r"disagree about \['maintenance', 'redrive'\]"):
        Wrong().check(store)


def test_each_capability_has_a_module_of_tests_that_need_it() -> None:
    needed: dict[str, list[frozenset[Capability]]] = {}
    for test in contract_tests(StoreContract).values():
        module = test.__module__.removeprefix("durableq.testing.contract.").partition(".")[0]
        needed.setdefault(module, []).append(needs_of(test))
    modules = {capability.label.replace(" ", "_"): capability for capability in Capability}
    assert needed.keys() == {"queueing", *modules}
    for module, capability in modules.items():
        assert all(capability in needs for needs in needed[module]), module


def test_no_test_hides_another_of_the_same_name() -> None:
    classes = StoreContract.__mro__
    defined = Counter(name for case in classes for name in vars(case) if name.startswith("test_"))
    assert [name for name, times in defined.items() if times > 1] == []


def used(function: Callable[..., Any], seen: set[object]) -> Iterator[Capability]:
    """Yield the capabilities of the operations that a test and its helper functions call."""
    seen.add(function)
    definition = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    for node in ast.walk(ast.Module(cast(ast.FunctionDef, definition).body, [])):
        match node:
            case ast.Attribute(ast.Name("store" | "shared"), name) if name in OPERATIONS:
                yield OPERATIONS[name]
            case ast.Attribute(ast.Name("Capability"), name):
                yield Capability[name]
            case ast.Name(name):
                helper = cast(FunctionType, inspect.unwrap(function)).__globals__.get(name)
                if inspect.isfunction(helper) and "contract" in helper.__module__:
                    yield from [] if helper in seen else used(helper, seen)


@pytest.mark.parametrize("case", [StoreContract, MultiProcessContract])
def test_each_test_states_the_capabilities_that_it_uses(case: type) -> None:
    tests = cast(dict[str, FunctionType], contract_tests(case))
    wrong = {name: set(used(test, set())) - needs_of(test) for name, test in tests.items()}
    assert {name: needed for name, needed in wrong.items() if needed} == {}
