"""A queue's settings, and the names a queue may have."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durableq.model.errors import InvalidInput
from durableq.model.queues import check_new_queue_name, check_queue_name, dead_letter_name
from durableq.model.settings import SETTINGS, Kind, Limits, QueueSettings, changes_from

NAMED = st.sampled_from(sorted(SETTINGS))
#: What a setting at its bounds needs beside it.
BESIDE: dict[str, dict[str, float]] = {
    "burst": {"rate": 1},
    "group_on_dead": {"group_concurrency": 1},
    "group_rate": {"group_concurrency": 1},
    "group_burst": {"group_concurrency": 1, "group_rate": 1},
    "breaker_open_ms": {"breaker_open_max_ms": SETTINGS["breaker_open_max_ms"].most},
    "breaker_open_max_ms": {"breaker_open_ms": 1},
}


def test_every_setting_has_bounds_that_hold_its_default() -> None:
    defaults = QueueSettings().as_dict()
    assert list(defaults) == list(SETTINGS)
    for name, setting in SETTINGS.items():
        is_off = setting.can_be_off and not defaults[name]
        assert is_off or setting.least <= defaults[name] <= setting.most


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_may_be_at_its_bounds_and_not_beyond(name: str) -> None:
    setting = SETTINGS[name]
    for value in (setting.least, setting.most):
        changes = BESIDE.get(name, {}) | {name: value}
        assert QueueSettings().changed(changes).as_dict()[name] == value
    unit = 1000 if setting.kind is Kind.TIME else 1
    least, most = f"{setting.least / unit:.16g}", f"{setting.most / unit:.16g}"
    option = name.removesuffix("_ms")
    for beyond in (-1, setting.most + 1):
        written = beyond / 1000 if unit == 1000 else beyond
        with pytest.raises(InvalidInput, match=f"{option} .*{least} to {most}.*{written}"):
            QueueSettings().changed({name: beyond})


@pytest.mark.parametrize("name", [name for name, one in SETTINGS.items() if one.can_be_off])
def test_a_limit_is_switched_off_by_none(name: str) -> None:
    option = name.removesuffix("_ms")
    off: Any = {option: None}
    assert QueueSettings().changed(changes_from(**off)).as_options()[option] is None
    with pytest.raises(
        InvalidInput, match=f"{option} is more than 0, got 0; None.* switches it off"
    ):
        changes_from(**off | {option: 0})


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"burst": 5}, "burst.*rate"),
        ({"group_burst": 5, "group_concurrency": 1}, "group_burst.*group_rate"),
        ({"group_rate": 5}, "group_rate.*group_concurrency"),
        ({"group_on_dead": 1}, "group_on_dead.*group_concurrency"),
        ({"breaker_open_ms": 60_000, "breaker_open_max_ms": 1_000}, "breaker_open.*_max"),
    ],
)
def test_settings_that_contradict_each_other_are_both_named(
    changes: dict[str, float], names: str
) -> None:
    with pytest.raises(InvalidInput, match=names):
        QueueSettings().changed(changes)


def test_a_limit_goes_off_while_settings_that_depend_on_it_stay() -> None:
    limited = QueueSettings().changed({"rate": 10, "burst": 5})
    assert limited.limits == Limits.RATE
    assert limited.changed({"rate": 0}).limits == Limits(0)


@given(st.data())
def test_options_are_written_as_they_are_read(data: st.DataObject) -> None:
    name = data.draw(NAMED)
    setting = SETTINGS[name]
    real = st.floats(setting.least, setting.most)
    whole = st.integers(int(setting.least), int(setting.most))
    value = data.draw(real if setting.kind in {Kind.RATE, Kind.SHARE} else whole)
    settings = QueueSettings().changed(BESIDE.get(name, {}) | {name: value})
    changes: Any = settings.as_options()
    assert QueueSettings().changed(changes_from(**changes)) == settings


@pytest.mark.parametrize("value", [True, 1.0, "1", None])
def test_a_setting_is_a_whole_number(value: Any) -> None:
    with pytest.raises(InvalidInput, match="whole number"):
        QueueSettings(max_receives=value)


@given(st.sets(NAMED))
def test_a_change_keeps_the_other_settings(names: set[str]) -> None:
    changes = {other: value for name in names for other, value in BESIDE.get(name, {}).items()}
    changes |= {name: SETTINGS[name].most for name in names}
    assert QueueSettings().changed(changes).as_dict() == QueueSettings().as_dict() | changes


def test_an_unknown_setting_is_named_with_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match=r"'colour'.*max_receives"):
        QueueSettings().changed({"colour": 1})


def test_users_write_seconds() -> None:
    assert changes_from(delay=1.5, max_receives=4) == {"delay_ms": 1_500, "max_receives": 4}


@pytest.mark.parametrize(
    "options",
    [
        {"delay": -1},
        {"delay": "soon"},
        {"delay": float("nan")},
        {"delay": True},
        {"delay_ms": 1},
        {"rate": float("nan")},
        {"rate": "fast"},
        {"on_full": "explode"},
        {"on_full": 1},
        {"breaker": "on"},
        {"max_in_flight": 1.5},
        {"colour": 1},
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: Any) -> None:
    with pytest.raises(InvalidInput, match=next(iter(options))):
        QueueSettings().changed(changes_from(**options))


@given(
    st.from_regex(r"[A-Za-z0-9_.-]{1,80}(@[0-9]{12}\.[a-z0-9-]{1,40})?", fullmatch=True).filter(
        str.isascii
    )
)
def test_a_good_name_and_that_of_its_dead_letter_queue_are_taken(name: str) -> None:
    check_new_queue_name(name)
    check_queue_name(name)
    check_queue_name(dead_letter_name(name))


@pytest.mark.parametrize(
    "name", ["", "a" * 81, "a b", "a/b", "a:b", "a@b", "a@", "ü", "a\n", None, 7]
)
def test_an_invalid_name_is_refused(name: Any) -> None:
    with pytest.raises(InvalidInput, match="1 to 80 characters"):
        check_new_queue_name(name)
