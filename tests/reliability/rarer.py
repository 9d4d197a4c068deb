"""Faults that come seldom, or to one part only: the second half of the matrix."""

from tests.reliability.row import (
    CONTRACT,
    DEMOTED,
    FAULT,
    FILES,
    HALVES,
    MEANWHILE,
    PROJECTOR,
    PROXY,
    REPAIR,
    SOCKET,
    STANDBY,
    Row,
)

RARER = (
    Row(
        "SIGTERM of every service at each step of an order",
        "each finishes what it has, ends with 0 within its drain window; every promise",
        (FAULT + "test_kill_at_each_step.py::test_services_asked_to_stop_at_a_step_finish_what_they_have",),
    ),
    Row(
        "one service cut off from one store",
        "only what needs it waits, in words; the others go on; after it everything agrees",
        (
            PROXY + "test_one_service_cut_off_keeps_no_order_waiting",
            PROXY + "test_a_gateway_cut_off_from_redis_says_so_and_the_others_go_on",
            PROXY + "test_after_all_that_every_promise_was_kept",
        ),
    ),
    Row(
        "Redis' file cut after each write, and a byte before and behind",
        "seen; a new epoch; the log grows whole again; no position means two events",
        (FILES + "test_wherever_the_end_of_the_file_is_cut_the_log_grows_whole_again",),
    ),
    Row(
        "Redis died while it wrote a commit to its file, went on, and died again",
        "what it brings back of that commit is seen and dropped; no position means two events",
        (HALVES + "test_what_was_never_committed_does_not_come_back",),
    ),
    Row(
        "Redis restarted where not each write was synced; a replica promoted that lagged",
        "another epoch even if nothing can be shown to be missing; what was archived comes back",
        (
            FILES + "test_after_a_restart_it_is_the_same_log_only_where_each_write_was_synced",
            FILES + "test_a_replica_that_lagged_and_was_promoted_is_another_log_with_all_that_was_archived",
            FILES + "test_a_replica_that_missed_only_what_nobody_archived_is_another_log_too",
        ),
    ),
    Row(
        "a replica takes over, of Redis or of Postgres, and the one before goes on, read-only",
        "who was connected goes to the new one; what only the one before has is not read any more",
        (
            DEMOTED + "test_orders_are_taken_again_by_the_redis_that_took_over",
            DEMOTED + "test_tickets_are_given_again_by_the_redis_that_took_over",
            DEMOTED + "test_what_only_the_one_that_was_left_has_is_not_read_any_more",
            DEMOTED + "test_who_only_reads_finds_the_one_that_took_over_too",
            DEMOTED + "test_a_replica_given_by_mistake_is_called_one",
            CONTRACT + "test_order_store.py::test_a_connection_to_a_primary_that_was_demoted_is_given_up",
            CONTRACT
            + "test_http_accounts.py::test_accounts_are_made_again_after_the_postgres_we_were_connected_to_was_demoted",
        ),
    ),
    Row(
        "of several addresses or hosts of a store one is silent",
        "the others are tried while there is time",
        (
            FAULT + "test_silent_address.py::test_the_others_are_tried_while_there_is_time",
            CONTRACT + "test_silent_peers.py::test_a_silent_postgres_leaves_time_to_the_others_that_are_named",
        ),
    ),
    Row(
        "several projectors; the one at work is killed, or loses its connection to Postgres in the midst of a batch",
        "one writes at a time, another takes over, and nothing that was late is written",
        (
            CONTRACT + "test_projector_process.py::test_a_second_one_stands_by_and_takes_over_from_one_that_is_killed",
            STANDBY + "test_one_writes_and_the_others_take_over_again_and_again",
            STANDBY + "test_what_is_under_way_when_the_place_is_lost_is_not_written",
        ),
    ),
    Row(
        "a full disk under Redis; Postgres without disk or memory, starting, a standby, at odds with a rival",
        "refused in words and waited for; nothing accepted is lost",
        (
            FILES + "test_a_full_disk_under_redis_is_told_and_nothing_accepted_is_lost",
            PROJECTOR + "test_a_postgres_that_cannot_write_is_told_and_waited_for",
        ),
    ),
    Row(
        "Postgres locked while orders flow",
        "the projection lags and says so; nothing is trimmed that is not archived; it catches up",
        (PROJECTOR + "test_while_postgres_is_locked_nothing_is_trimmed_that_it_has_not",),
    ),
    Row(
        "keys deleted, entries taken off the end, a part of the log damaged while the rest is written",
        "put back at its place; no position twice; nothing tells of what is nowhere",
        (
            MEANWHILE + "test_a_partition_that_is_whole_is_written_to_until_the_log_is_closed",
            REPAIR + "test_entries_taken_off_the_end_are_put_back",
            REPAIR + "test_what_is_nowhere_any_more_leaves_nothing_behind",
        ),
    ),
    Row(
        "whoever repairs is frozen in the middle, and another takes over",
        "what the first one still sends is refused",
        (
            MEANWHILE + "test_who_was_frozen_in_the_middle_of_a_repair_undoes_nothing",
            CONTRACT + "test_order_store.py::test_a_lock_that_could_not_be_given_back_is_not_kept",
        ),
    ),
    Row(
        "work items that are no items: no text, no order, ten megabytes, our own names; bodies and frames as odd",
        "set aside, shown, thrown away; a 4xx; no repair and no order waits for it",
        (
            CONTRACT + "test_odd_items.py::test_it_is_set_aside_shown_and_thrown_away",
            REPAIR + "test_an_item_parked_for_what_is_in_it_stops_no_repair",
            "tests/e2e/test_odd_input.py::test_no_body_and_no_frame_is_too_odd",
            "tests/e2e/test_openapi.py::test_answers_are_as_described",
        ),
    ),
    Row(
        "entries that somebody wrote into a stream by hand; an order this release cannot read",
        "they are dropped and told of, and take nothing with them; it is shown as archived and hides no other",
        (
            CONTRACT + "test_repair_strangers.py::test_what_somebody_wrote_by_hand_goes_and_nothing_else_does",
            CONTRACT + "test_repair_strangers.py::test_it_goes_also_where_all_that_was_before_it_was_trimmed",
            CONTRACT + "test_unreadable_orders.py::test_its_owner_sees_it_as_it_is_archived",
        ),
    ),
    Row(
        "an order cancelled and let go while its item waited; an order's state deleted",
        "the one is dropped, the other set aside and shown",
        (
            "tests/unit/test_worker_parking.py::test_an_item_of_an_order_that_ended_long_ago_is_dropped",
            "tests/unit/test_worker_parking.py::test_an_order_that_is_not_there_any_more_is_not_passed_over_in_silence",
            CONTRACT + "test_letting_go.py::test_the_item_of_an_order_that_was_let_go_is_given_back",
        ),
    ),
    Row(
        "clocks that jump, go back, stand still, or differ by an hour",
        "the order of events stays; pauses and ages go by the log's clock",
        (
            CONTRACT + "test_clocks.py::test_with_the_clock_of_the_log",
            CONTRACT + "test_clocks.py::test_with_the_clocks_of_the_services",
            CONTRACT + "test_clocks.py::test_a_redis_whose_clock_went_back_goes_on_from_where_it_was",
            CONTRACT + "test_clocks.py::test_a_pause_is_counted_by_redis_whatever_the_service_thinks",
            CONTRACT + "test_upkeep.py::test_the_age_of_entries_is_told_by_the_clock_that_stamped_them",
        ),
    ),
    Row(
        "janitor, writers, slow, new and dead readers in any order",
        "nothing goes that a registered reader needs; the dead hold nothing back",
        (
            "tests/property/test_janitor.py::test_what_a_registered_reader_needs_is_there",
            CONTRACT + "test_upkeep.py::test_who_registers_while_the_janitor_works_keeps_what_he_needs",
            CONTRACT + "test_upkeep.py::test_a_reader_that_speaks_again_is_not_forgotten",
        ),
    ),
    Row(
        "a log that is away for five minutes, an attempt that fails again and again",
        "asked at most every few seconds by each, and not by all at once; attempts are bounded, pauses spread",
        (
            "tests/unit/test_storm.py::test_a_log_that_is_away_is_asked_now_and_then_by_each_at_another_time",
            "tests/unit/test_router_retry.py::test_jitter_is_full_from_nothing_to_the_whole_pause",
            "tests/unit/test_router_retry.py::test_the_last_attempt_ends_the_order_with_its_reason",
        ),
    ),
    Row(
        "slow sockets; sockets that come and go while orders move; all of them at once after a restart",
        "the slow one is closed with a code to come back by; nobody else waits, misses or sees twice",
        (
            SOCKET + "test_a_slow_socket_is_closed_and_nobody_else_waits",
            CONTRACT
            + "test_websocket.py::test_many_sockets_that_come_while_orders_move_miss_nothing_and_see_nothing_twice",
            SOCKET + "test_a_restart_closes_with_a_code_that_lets_clients_come_back",
        ),
    ),
)
