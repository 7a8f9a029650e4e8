"""A queue's settings, and the names a queue may have."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durableq.model.errors import InvalidInput
from durableq.model.limits import MAX_QUEUE_NAME_CHARS
from durableq.model.queues import (
    BOUNDS,
    QueueSettings,
    changes_from,
    check_new_queue_name,
    dead_letter_name,
)

NAMED = st.sampled_from(sorted(BOUNDS))


def test_every_setting_has_bounds_that_hold_its_default() -> None:
    defaults = QueueSettings().as_dict()
    assert set(defaults) == set(BOUNDS)
    assert all(least <= defaults[name] <= most for name, (least, most) in BOUNDS.items())


@pytest.mark.parametrize("name", BOUNDS)
def test_a_setting_may_be_at_its_bounds_and_not_beyond(name: str) -> None:
    least, most = BOUNDS[name]
    for value in (least, most):
        assert QueueSettings().changed({name: value}).as_dict()[name] == value
    for beyond in (least - 1, most + 1):
        with pytest.raises(InvalidInput, match=f"{name}.*{least} to {most}.*{beyond}"):
            QueueSettings().changed({name: beyond})


@pytest.mark.parametrize("value", [True, 1.0, "1", None])
def test_a_setting_is_a_whole_number(value: Any) -> None:
    with pytest.raises(InvalidInput, match="whole number"):
        QueueSettings(max_receives=value)


@given(st.sets(NAMED))
def test_a_change_keeps_the_other_settings(names: set[str]) -> None:
    changes = {name: BOUNDS[name][1] for name in names}
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
        {"colour": 1},
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: Any) -> None:
    with pytest.raises(InvalidInput, match=next(iter(options))):
        changes_from(**options)


@given(st.from_regex(r"[A-Za-z0-9_.-]{1,76}", fullmatch=True).filter(lambda n: n[-4:] != "-dlq"))
def test_a_good_name_leaves_room_for_its_dead_letter_queue(name: str) -> None:
    check_new_queue_name(name)
    assert len(dead_letter_name(name)) <= MAX_QUEUE_NAME_CHARS
    with pytest.raises(InvalidInput, match="dead-letter queue"):
        check_new_queue_name(dead_letter_name(name)[-76:])


@pytest.mark.parametrize("name", ["", "a" * 77, "a b", "a/b", "a:b", "ü", "a\n", None, 7])
def test_an_invalid_name_is_refused(name: Any) -> None:
    with pytest.raises(InvalidInput, match="1 to 76 characters"):
        check_new_queue_name(name)
