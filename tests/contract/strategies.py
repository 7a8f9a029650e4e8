"""Strategies of the walks: messages, failures, decisions, and filters of dead letters."""

from hypothesis import strategies as st

from durableq.model.decisions import Decision, Discard, Hold, Requeue, Retry
from durableq.model.message import Failure, Reason, draft

queues = st.sampled_from(["orders", "orders", "orders", "mail"])
booleans = st.booleans()
some = st.lists(st.integers(0, 5), min_size=1, max_size=3)
drafts = st.builds(
    draft,
    st.sampled_from([1, 2, "four"]),
    key=st.sampled_from([None, "k", "j"]),
    delay=st.sampled_from([None, None, 0, 1]),
    priority=st.sampled_from([0, 0, 1]),
    expires_in=st.sampled_from([None, None, None, 1.1, 4]),
)
failures = st.builds(
    Failure,
    st.sampled_from([Reason.HANDLER_ERROR, Reason.TIMEOUT, Reason.REJECTED]),
    st.just("ValueError"),
    st.just("no"),
    retry_in_ms=st.sampled_from([None, None, 0, 1_000]),
)
limits = st.fixed_dictionaries(
    {},
    optional={
        "expires_in_ms": st.sampled_from([0, 0, 3_000]),
        "on_expiry": st.sampled_from([0, 1]),
        "priority_aging_ms": st.sampled_from([0, 1_000]),
        "bury_at": st.sampled_from([0, 1]),
        "max_receives": st.sampled_from([0, 1, 2, 2]),
        "dead_letter_queue": st.sampled_from([None, "orders", "mail", "mail-dlq"]),
    },
)
decisions: st.SearchStrategy[Decision] = st.one_of(
    st.builds(Discard, st.just("never")),
    st.builds(Hold, st.just("ask")),
    st.builds(Requeue, delay=st.sampled_from([0, 1])),
    st.builds(Retry, st.sampled_from([3, "too long for it"]), delay=st.sampled_from([0, 1])),
)
