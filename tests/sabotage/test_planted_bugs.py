"""Each safety rule's test fails when the rule is taken out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import postgres
from tests.sabotage import features
from tests.sabotage.bugs import BUGS
from tests.sabotage.planted import planting
from tests.support import LONGEST_SECONDS
from tests.warm import WarmProcess

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = "tests/contract/test_sqlite.py::TestSQLite::"
SIGKILL = "tests/process/test_sigkill.py::"
PRESENCE = "tests/engine/test_open_files.py::"
LEASE_KEEPER = "tests/process/test_fleet_lease_keeper.py::"
CHECKPOINTS = "tests/engine/test_checkpoints.py::"
BEGUN_COUNTS = (
    "tests/process/test_fleet_sigkill.py::test_a_kill_counts_against_the_running_message_only"
)
LINKS = "tests/engine/test_symbolic_links.py::"
POWER_LOSS = (
    "tests/faults/test_power_loss.py::test_a_power_cut_leaves_the_old_database_or_the_new_one_and_"
    "the_next_command_says_which"
)
HOSTS = "tests/engine/test_hosts.py::"
ROW_COUNTS = "tests/engine/test_row_counts.py::"
CTRL_C = "tests/engine/test_ctrl_c.py::"
WRITE_LOCK = "tests/engine/test_write_lock.py::"
GROUPS = "tests/engine/test_group_commit.py::"
INTERRUPTED = "tests/engine/test_interrupted_groups.py::"
OPENING = "tests/process/test_opening.py::"
STARTING = "tests/process/test_fleet_starting.py::"
SIGTERM = "tests/process/test_fleet_sigterm.py::"

SEEN_BY = [
    ("remove_the_fence", CONTRACT + "test_a_stale_receipt_can_do_nothing"),
    ("remove_the_fence", CONTRACT + "test_a_stale_receipt_cannot_decide"),
    (
        "let_a_forked_child_commit",
        OPENING + "test_a_child_forked_in_a_transaction_cannot_end_it[leave-8]",
    ),
    (
        "keep_a_closed_connection",
        CTRL_C + "test_after_an_interrupted_statement_the_thread_has_a_new_connection",
    ),
    (
        "keep_the_counts_of_an_interrupted_transaction",
        CTRL_C + "test_the_counts_of_an_interrupted_transaction_are_not_written_by_the_next",
    ),
    (
        "leave_an_interrupted_transaction_open",
        CTRL_C + "test_the_counts_of_an_interrupted_transaction_are_not_written_by_the_next",
    ),
    (
        "keep_a_forgotten_transaction_open",
        CTRL_C + "test_after_ctrl_c_in_the_finalizer_too_the_thread_can_use_the_queue[complete]",
    ),
    (
        "let_sqlalchemy_try_out_a_transaction",
        "tests/engine/test_transaction.py::test_a_send_before_the_first_statement_commits_with_it",
    ),
    (
        "answer_a_group_before_the_commit",
        GROUPS + "test_a_commit_that_raises_leaves_the_outcome_of_all_unknown",
    ),
    ("let_an_error_undo_its_group", GROUPS + "test_an_error_of_one_operation_is_its_own"),
    (
        "answer_sends_that_are_one_in_another_order",
        GROUPS + "test_threads_that_wait_are_answered_after_one_commit",
    ),
    (
        "forget_the_group_of_an_interrupted_thread",
        INTERRUPTED + "test_an_interrupted_thread_leaves_its_group_to_the_next",
    ),
    (
        "run_an_interrupted_commit_again",
        INTERRUPTED
        + "test_ctrl_c_at_each_step_of_a_group_leaves_no_thread_waiting_and_tells_none_a_lie",
    ),
    (
        "inherit_the_turn",
        GROUPS + "test_a_child_forked_while_threads_wait_does_not_wait_for_them",
    ),
    ("begin_deferred", WRITE_LOCK + "test_an_operation_has_the_write_lock_before_it_reads"),
    (
        "know_one_host_only",
        HOSTS + "test_hosts_take_nothing_from_each_other_while_leases_run[younger]",
    ),
    (
        "take_boot_clocks_for_one",
        HOSTS + "test_hosts_take_nothing_from_each_other_while_leases_run[older]",
    ),
    (
        "forget_the_hosts_of_workers",
        HOSTS + "test_a_worker_of_another_host_is_not_judged_by_its_boot[younger]",
    ),
    (
        "enter_a_boot_before_all_its_leases_are_back",
        HOSTS + "test_leases_of_an_earlier_boot_are_taken_back_in_slices[younger-False]",
    ),
    ("reverse_the_lease", CONTRACT + "test_a_leased_message_is_not_received_again"),
    ("forget_the_record", CONTRACT + "test_a_later_message_under_the_key_is_a_duplicate"),
    (
        "answer_before_the_commit",
        CONTRACT + "test_sent_messages_are_there_when_the_file_is_opened_again",
    ),
    (
        "split_effect_and_acknowledgement",
        SIGKILL + "test_killed_inside_a_transaction_a_worker_leaves_no_trace_and_its_message_"
        "comes_back",
    ),
    (
        "split_effect_and_acknowledgement",
        "tests/engine/test_transaction.py::test_an_exception_inside_undoes_all_of_it[sqlite]",
    ),
    (
        "wait_for_ones_own_lock",
        "tests/engine/test_own_locks.py::"
        "test_a_send_inside_ones_own_transaction_is_refused_at_once",
    ),
    (
        "write_to_migrated_tables",
        "tests/engine/test_migrated_meanwhile.py::"
        "test_nothing_is_written_to_tables_of_another_revision",
    ),
    ("look_away_from_the_log", PRESENCE + "test_a_removed_log_is_noticed_by_the_next_write"),
    (
        "fail_at_a_text_that_is_not_utf_8",
        "tests/engine/test_receiving.py::"
        "test_texts_that_are_not_utf_8_are_received_beside_others[True]",
    ),
    (
        "trust_a_folder_at_once",
        PRESENCE + "test_a_file_replaced_in_a_tick_of_the_clock_is_noticed[-wal]",
    ),
    (
        "trust_a_folder_for_ever",
        PRESENCE + "test_files_are_compared_each_second_in_an_unchanged_folder",
    ),
    (
        "let_another_library_open_the_file",
        PRESENCE + "test_another_sqlite_library_may_not_open_the_file_while_it_is_open",
    ),
    (
        "synchronous_normal",
        "tests/engine/test_writing.py::test_synchronous_is_full_unless_the_url_says_normal",
    ),
    ("count_nothing", BEGUN_COUNTS),
    ("count_everything", BEGUN_COUNTS),
    (
        "let_leases_end",
        LEASE_KEEPER + "test_a_handler_that_computes_for_longer_than_its_lease_keeps_it",
    ),
    (
        "let_leases_of_the_silent_end",
        LEASE_KEEPER + "test_a_handler_that_lets_no_line_of_python_run_for_longer_than_its_lease_"
        "keeps_it",
    ),
    (
        "count_each_signal",
        SIGTERM + "test_a_signal_delivered_twice_is_one_stop[SIGTERM-sqlite]",
    ),
    (
        "start_impatiently",
        STARTING + "test_workers_that_start_while_the_file_is_locked_wait_and_then_receive",
    ),
    (
        "count_deaths_of_the_waiting",
        STARTING + "test_workers_killed_while_they_wait_for_the_file_are_no_crash_loop",
    ),
    (
        "drain_before_the_successor_receives",
        "tests/process/test_fleet_sighup.py::"
        "test_code_that_does_not_import_replaces_no_worker_and_a_later_reload_heals",
    ),
    (
        "show_output_raw",
        "tests/process/test_handlers_printing.py::"
        "test_output_of_programs_and_raw_descriptors_is_made_visible",
    ),
    (
        "give_dead_letters_back_in_two_steps",
        "tests/unit/test_recovery_leases.py::"
        "test_once_waits_for_dead_letters_that_are_being_released[False]",
    ),
    (
        "keep_the_notes_of_a_deleted_queue",
        CONTRACT + "test_the_metadata_of_a_queue_is_deleted_with_it",
    ),
    (
        "ignore_the_answers_of_batches",
        "tests/engine/test_handler_kinds.py::"
        "test_the_messages_that_a_batchs_answer_names_fail_and_the_others_complete[batch]",
    ),
    (
        "read_the_outcomes_before_the_commit",
        "tests/engine/test_settling.py::"
        "test_settling_that_fails_with_a_receive_is_tried_again_and_nothing_is_done_twice[busy]",
    ),
    ("trust_the_wall_clock", CONTRACT + "test_a_jump_expires_no_message_in_any_state"),
    (
        "trust_the_wall_clock",
        CONTRACT + "test_a_record_that_only_a_jump_would_expire_still_counts_as_completed",
    ),
    (
        "trust_the_wall_clock",
        "tests/engine/test_clock_jumps.py::"
        "test_a_machine_that_starts_behind_and_is_corrected_loses_nothing",
    ),
    (
        "count_retention_from_the_send",
        CONTRACT + "test_a_wait_longer_than_the_retention_ends_in_a_delivery",
    ),
    (
        "trust_the_boot_clock_of_a_namespace",
        "tests/unit/test_clock.py::test_the_boot_clock_is_the_machines",
    ),
    (
        "checkpoint_without_the_guard",
        CHECKPOINTS + "test_a_checkpoint_runs_only_while_no_other_connection_can_write",
    ),
    (
        "checkpoint_without_the_guard",
        CHECKPOINTS + "test_a_commit_cannot_overtake_a_guarded_checkpoint",
    ),
    (
        "checkpoint_automatically",
        CHECKPOINTS + "test_no_connection_of_ours_checkpoints_automatically",
    ),
    (
        "leave_foreign_logs",
        "tests/engine/test_interrupted.py::test_a_log_at_the_path_is_set_aside_and_never_applied",
    ),
    (
        "open_during_a_restore",
        "tests/engine/test_interrupted.py::test_a_database_is_not_opened_during_its_restore",
    ),
    (
        "replace_without_a_lock",
        "tests/faults/test_copies.py::"
        "test_no_send_that_is_answered_during_a_restore_is_lost[replace]",
    ),
    ("bring_no_names_to_the_disk", POWER_LOSS + "[restore_beside_a_log]"),
    ("bring_no_copy_to_the_disk", POWER_LOSS + "[replace_garbage]"),
    (
        "ignore_unknown_options",
        "tests/unit/test_arguments.py::"
        "test_an_unknown_option_of_a_message_is_refused_everywhere[prioritty-priority]",
    ),
    ("hash_numbers_by_spelling", CONTRACT + "test_equal_payloads_are_duplicates"),
    (
        "forget_who_sends_through_a_connection",
        "tests/engine/test_outbox_connections.py::"
        "test_two_threads_that_send_through_one_connection_at_once_are_noticed",
    ),
    (
        "give_up_behind_a_few_duplicates",
        CONTRACT + "test_a_receive_finds_the_message_behind_many_that_it_sets_aside[duplicate]",
    ),
    ("tell_no_queues", CONTRACT + "test_the_queues_of_a_worker_are_stored"),
    ("tell_no_later_queues", CONTRACT + "test_the_queues_of_a_worker_are_stored"),
    (
        "count_the_dead_as_readers",
        "tests/unit/test_readers.py::test_a_dead_worker_handles_nothing",
    ),
    ("look_beside_the_link", LINKS + "test_the_file_its_log_and_its_locks_are_found[link]"),
    (
        "ignore_where_the_link_leads",
        LINKS + "test_a_link_that_was_changed_is_noticed",
    ),
    (
        "create_for_all_to_read",
        "tests/engine/test_file_mode.py::"
        "test_a_new_file_is_its_owners_alone_before_sqlite_opens_it[18]",
    ),
    (
        "let_sqlite_create_the_file",
        "tests/engine/test_file_mode.py::"
        "test_a_new_file_is_its_owners_alone_before_sqlite_opens_it[18]",
    ),
    (
        "deliver_without_looking",
        ROW_COUNTS + "test_a_message_taken_between_choosing_and_leasing_is_not_delivered",
    ),
    (
        "take_any_key",
        ROW_COUNTS + "test_a_known_key_that_another_took_over_meanwhile_is_left_to_it",
    ),
    (
        "take_new_keys_of_others",
        ROW_COUNTS + "test_a_message_whose_key_was_taken_meanwhile_is_put_back_uncounted",
    ),
    (
        "take_keys_of_lost_leases",
        ROW_COUNTS + "test_no_key_is_taken_for_a_message_that_lost_its_lease",
    ),
    (
        "complete_keys_without_looking",
        ROW_COUNTS + "test_a_completion_whose_record_is_gone_is_logged[COMPLETE_KEYS-None]",
    ),
    ("wake_nobody", CONTRACT + "test_deferred_messages_are_ready_once_the_key_is_settled"),
    ("take_the_first_lease_for_all", CONTRACT + "test_a_stale_receipt_opens_no_transaction"),
    (
        "settle_without_looking",
        ROW_COUNTS + "test_a_release_of_a_lease_lost_meanwhile_is_stale",
    ),
    (
        "wait_for_the_ticket_alone",
        WRITE_LOCK + "test_behind_a_stopped_holder_of_the_ticket_a_wait_ends_in_time",
    ),
    (
        "wait_for_the_ticket_alone",
        WRITE_LOCK + "test_a_holder_of_the_ticket_that_stops_or_dies_holds_up_no_write[stop]",
    ),
    ("keep_the_ticket", WRITE_LOCK + "test_a_transaction_that_waited_gives_its_ticket_back"),
    (
        "leave_the_ticket_to_forked_children",
        WRITE_LOCK + "test_a_child_that_a_killed_holder_forked_does_not_keep_the_ticket",
    ),
    (
        "leave_the_log_long",
        "tests/engine/test_maintenance.py::test_a_long_log_is_cut_once_no_process_writes",
    ),
    (
        "give_up_at_the_first_lock",
        "tests/engine/test_own_locks.py::test_a_lock_of_another_thread_is_waited_for",
    ),
    *features.SEEN_BY,
]


#: The first failure is enough, and no plugin is needed but our own.
OPTIONS = ["-qx", "-p", "no:cacheprovider", "--disable-plugin-autoload", "-W", "default"]
#: The end of a traceback: its file, and the name of the error.
RAISED = re.compile(r"^([^\s:]+\.py):\d+: (\w+)$", re.MULTILINE)
#: Errors of a bug that no longer fits the code that it changes. They say nothing about the rule.
MISTAKES = {
    *("AttributeError", "ImportError", "ModuleNotFoundError", "NameError", "SyntaxError"),
    *("TypeError", "UnboundLocalError"),
    # PostgreSQL does not understand the statement.
    *("AmbiguousColumn", "DatatypeMismatch", "IndeterminateDatatype", "ProgrammingError"),
    *("InvalidColumnReference", "UndefinedColumn", "UndefinedFunction", "UndefinedTable"),
}
#: Longer than a test waits for a fact on a machine of any load: it ends before, and says for what.
LIMIT_SECONDS = LONGEST_SECONDS + 40

#: The imports of the warm process: everything that a test imports, except durableq and the tests.
#: It imports only the modules of durableq that tests.sabotage.bugs names, as each planted process.
IMPORTS = [
    *("hypothesis.stateful", "hypothesis.strategies", "alembic.command", "psutil", "typer"),
    *("packaging.version", "pdb", "xml.etree.ElementTree"),  # pytest's plugins import them
    "tests.sabotage.planted",
]


def run(test: str, **given: str) -> subprocess.CompletedProcess[str]:
    """Run a test in a new process, in which sitecustomize plants the bug of the environment."""
    return subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIONS, test],
        cwd=ROOT,
        env=os.environ | given,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


@pytest.fixture(scope="session")
def warm() -> Iterator[WarmProcess]:
    """A process that has imported pytest and the libraries, and forks for each planted bug."""
    process = WarmProcess(*IMPORTS)
    yield process
    process.close()


@pytest.mark.parametrize(
    ("bug", "test"), SEEN_BY, ids=[f"{b}-{t.partition('::')[2]}" for b, t in SEEN_BY]
)
def test_a_planted_bug_turns_its_test_red(
    bug: str, test: str, warm: WarmProcess, request: pytest.FixtureRequest
) -> None:
    given: dict[str, Any] = {**planting(bug)}
    if "postgres" in test or "schema" in test:  # to start a server takes longer than a test
        given[postgres.VARIABLE] = request.getfixturevalue("postgres_server")
    planted = warm.run("tests.sabotage.planted", *OPTIONS, test, seconds=LIMIT_SECONDS, **given)
    check_red(planted, bug, test)


def test_a_bug_is_planted_in_every_new_process_too() -> None:
    bug, test = SEEN_BY[0]
    check_red(run(test, **planting(bug)), bug, test)


def check_red(planted: subprocess.CompletedProcess[str], bug: str, test: str) -> None:
    name = test.rpartition("::")[2]
    if planted.returncode == 0 and " skipped" in planted.stdout:
        pytest.skip(f"{name} cannot run on this machine")
    assert planted.returncode == 1, planted.stdout + planted.stderr
    assert any("FAILED" in line and name in line for line in planted.stdout.splitlines())
    assert not re.search(r"^ERROR tests/|ERROR at ", planted.stdout, re.M), planted.stdout
    raised = RAISED.findall(planted.stdout)
    assert raised, planted.stdout
    file, error = raised[-1]
    assert not file.startswith("tests/sabotage/"), planted.stdout
    is_mistake = error in MISTAKES and "a closed database" not in planted.stdout
    assert not is_mistake, planted.stdout


@pytest.mark.parametrize(
    "end",
    [
        "tests/engine/test_x.py:7: TypeError",
        "tests/sabotage/bugs.py:7: ValueError",
        "tests/engine/test_x.py:3: AssertionError\n\ndurableq/x.py:7: AttributeError",
        "",
    ],
)
def test_a_mistake_in_a_bug_does_not_count_as_red(end: str) -> None:
    told = f"durableq/y.py:9: Busy\n{end}\nFAILED tests/engine/test_x.py::test_x"
    planted = subprocess.CompletedProcess([], 1, told if end else told.partition("\n")[2], "")
    with pytest.raises(AssertionError):
        check_red(planted, "a bug", "tests/engine/test_x.py::test_x")


@pytest.mark.parametrize("error", ["AssertionError", "Failed", "StaleReceipt", "ValueError"])
def test_an_error_of_a_test_or_of_durableq_counts_as_red(error: str) -> None:
    told = f"tests/engine/test_x.py:7: {error}\nFAILED tests/engine/test_x.py::test_x"
    check_red(subprocess.CompletedProcess([], 1, told, ""), "", "tests/engine/test_x.py::test_x")


def test_every_bug_is_seen_by_a_test() -> None:
    assert {bug for bug, _ in SEEN_BY} == set(BUGS)


def test_without_a_bug_the_same_run_is_green() -> None:
    unplanted = planting(SEEN_BY[0][0]) | {"PLANTED_BUG": ""}
    clean = run(CONTRACT + "test_a_stale_receipt_can_do_nothing", **unplanted)
    assert clean.returncode == 0, clean.stdout + clean.stderr
