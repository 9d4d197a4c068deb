"""What may break, what must hold then, and the tests that break it."""

from tests.reliability.rarer import RARER
from tests.reliability.row import AWAY, CONTRACT, FAULT, LOSS, MEANWHILE, POISON, PROXY, REPAIR, WORK, Row

ALL_KEPT = "every promise"
MATRIX = (
    Row(
        "a service exits before or after any of its external calls",
        ALL_KEPT,
        (
            FAULT + "test_crash_points.py::test_a_crash_at_any_point_changes_nothing",
            FAULT + "test_crash_points.py::test_every_point_in_the_code_is_one_the_test_crashes_at",
        ),
    ),
    Row(
        "SIGKILL of each service, Redis and Postgres at each step of an order",
        ALL_KEPT,
        (
            FAULT + "test_kill_at_each_step.py::test_a_process_killed_at_a_step_changes_nothing",
            FAULT + "test_kill_at_each_step.py::test_after_all_that_every_promise_was_kept",
        ),
    ),
    Row(
        "random SIGKILL, SIGSTOP, restarts, cut connections, a chain in trouble, all at once",
        ALL_KEPT,
        (FAULT + "test_chaos.py::test_orders_survive_chaos",),
    ),
    Row(
        "every interleaving a seed can draw, with lost replies, frozen and killed processes, forks of the chain",
        ALL_KEPT,
        ("tests/simulation/test_simulation.py::test_every_promise_is_kept_under_every_schedule",),
    ),
    Row(
        "two workers with one item: claimed, taken back, committed late",
        "one result for each step",
        (
            WORK + "test_two_workers_on_one_item_leave_one_result",
            WORK + "test_counting_a_delivery_takes_the_item_back_as_renewing_does",
            "tests/property/test_worker_interleavings.py::test_any_interleaving_leaves_one_result_per_step",
            CONTRACT + "test_redis_claims.py::test_an_item_behind_many_in_good_hands_is_claimed",
        ),
    ),
    Row(
        "Redis killed and started again in the middle",
        "nothing lost, the same epoch",
        (AWAY + "test_redis_restarted_in_the_middle_loses_nothing",),
    ),
    Row(
        "a node of a Redis Cluster is killed or frozen, and comes back",
        "orders of its partitions wait, the others' go on; all end once, and nothing had to be restored",
        (
            FAULT + "test_cluster.py::test_a_node_is_away_and_comes_back",
            CONTRACT + "test_cluster_away.py::test_who_asks_all_of_them_waits_for_a_silent_one_only_once",
            CONTRACT + "test_cluster_away.py::test_the_other_partitions_are_archived_and_trimmed_meanwhile",
            CONTRACT + "test_cluster_away.py::test_rates_and_tickets_of_the_others_are_not_held_up",
        ),
    ),
    Row(
        "a partition moves to another node of the cluster under load",
        "its orders wait for a moment; all end once, and nothing had to be restored",
        (
            FAULT + "test_cluster.py::test_a_partition_moves_to_another_node",
            CONTRACT + "test_cluster_moving.py::test_its_orders_wait_and_the_others_do_not",
        ),
    ),
    Row(
        "Redis back without the end of its file, as it was some time ago, or empty",
        "seen; a new epoch; every archived event back at its place; orders go on; subscribers told",
        (
            LOSS + "test_redis_comes_back_without",
            LOSS + "test_redis_comes_back_as_it_was_some_time_ago",
            LOSS + "test_redis_is_emptied_under_everybody",
            REPAIR + "test_everything_comes_back_as_it_was",
            REPAIR + "test_every_prefix_of_the_log_grows_to_the_whole",
        ),
    ),
    Row(
        "a crash at each step of that repair",
        "it is begun anew, and ends the same",
        (MEANWHILE + "test_a_repair_cut_short_is_begun_anew",),
    ),
    Row(
        "a writer that does not know yet that Redis lost something",
        "its write is refused",
        (MEANWHILE + "test_writers_stay_out_until_the_log_was_checked",),
    ),
    Row(
        "groups destroyed, items deleted, scripts forgotten",
        "made again from the archive; an alarm",
        (
            LOSS + "test_items_and_groups_that_are_gone_are_made_again",
            LOSS + "test_scripts_that_redis_forgot_are_given_again",
            REPAIR + "test_a_group_that_was_destroyed_and_items_that_were_deleted_are_made_again",
        ),
    ),
    Row(
        "Redis out of memory, read-only, without its replicas, loading, misconfigured, busy",
        "503 and Retry-After; nothing written; work in hand is finished later",
        (
            AWAY + "test_redis_that_takes_nothing_is_told_and_waited_for",
            CONTRACT + "test_redis_refusals.py::test_a_log_that_cannot_be_opened_says_why",
            CONTRACT + "test_redis_refusals.py::test_a_write_refused_is_nothing_written_and_a_503",
        ),
    ),
    Row(
        "Postgres away, its backends terminated in mid-transaction",
        "orders flow, with API keys for the 15 s a key is known; the projection catches up; nothing lost or twice",
        (
            AWAY + "test_orders_flow_without_postgres_and_are_archived_when_it_is_back",
            AWAY + "test_backends_of_postgres_ended_in_the_middle_lose_nothing",
            CONTRACT + "test_order_store.py::test_a_backend_that_dies_in_mid_transaction_loses_and_leaves_nothing",
            CONTRACT + "test_order_store_commit.py::test_after_a_broken_commit_the_checkpoint_decides",
        ),
    ),
    Row(
        "Postgres restored from an old backup",
        "it catches up from the log, or says that it cannot",
        (
            LOSS + "test_postgres_from_an_old_backup_catches_up",
            REPAIR + "test_postgres_from_an_old_backup_catches_up",
            REPAIR + "test_an_archive_the_log_was_trimmed_beyond_is_told",
            REPAIR + "test_two_stories_are_never_mixed",
        ),
    ),
    Row(
        "slow connections, replies in pieces of one byte",
        "only slower",
        (
            PROXY + "test_a_slow_connection_only_makes_orders_slow",
            PROXY + "test_replies_in_pieces_of_one_byte_are_put_together",
        ),
    ),
    Row(
        "connections reset, refused, black holes, half-open",
        "noticed in bounded time; nobody hangs",
        (PROXY + "test_connections_reset_again_and_again", PROXY + "test_silence_is_noticed_and_survived"),
    ),
    Row(
        "the reply lost after the command was applied",
        "nothing twice",
        (
            PROXY + "test_a_reply_lost_after_its_command_ran_makes_nothing_twice",
            CONTRACT + "test_http_orders_trouble.py::test_a_lost_reply_is_asked_after_until_it_is_known",
        ),
    ),
    Row(
        "a subscriber's connection slow, cut, half-open",
        "every event once and in order, or a reset",
        (PROXY + "test_a_socket_shows_what_the_log_holds",),
    ),
    Row(
        "an order whose handling raises, hangs or kills the process; an undecodable item; a newer schema",
        "only that order waits; a redrive puts its one item back",
        (
            POISON + "test_a_handler_that_cannot_bear_one_order",
            POISON + "test_an_item_that_cannot_be_decoded",
            POISON + "test_an_event_of_a_newer_schema",
        ),
    ),
    Row(
        "an endless run; a slow reader; a reader that is gone",
        "the log stays small; nothing goes that a registered reader needs; older reads come from the archive",
        (
            CONTRACT + "test_upkeep.py::test_an_endless_run_stays_small",
            CONTRACT + "test_upkeep.py::test_what_a_reader_needs_stays_and_an_expired_one_is_forgotten",
            CONTRACT + "test_upkeep.py::test_a_reader_of_the_archive_does_not_notice",
            CONTRACT + "test_letting_go.py::test_an_ended_order_is_let_go_and_can_not_be_made_again",
        ),
    ),
    Row(
        "more orders than are worked on; a full Redis",
        "503 and Retry-After; work in hand is finished",
        (
            CONTRACT + "test_overload.py::test_orders_are_refused_while_work_waits_and_taken_again",
            CONTRACT + "test_overload.py::test_orders_are_refused_while_redis_is_full",
            CONTRACT + "test_full_redis.py::test_it_is_trimmed_and_takes_orders_again",
            CONTRACT + "test_redis_log.py::test_steps_that_wait_for_redis_are_bounded",
        ),
    ),
    Row(
        "the projection rebuilt, switched, rolled back while orders flow; interrupted",
        "one transaction; nobody meets a moment without tables; equal to the fold",
        (
            CONTRACT + "test_rebuild_switch.py::test_it_is_switched_while_orders_flow",
            CONTRACT + "test_rebuild.py::test_it_goes_on_where_it_was_interrupted",
            CONTRACT + "test_rebuild_switch.py::test_it_may_end_after_any_step",
            CONTRACT + "test_rebuild_switch.py::test_a_rollback_brings_back_what_was_live_and_up_to_date",
        ),
    ),
    Row(
        "two releases side by side; entries of every earlier release",
        "orders pass through both; old entries fold as they did",
        (
            CONTRACT + "test_side_by_side.py::test_a_newer_release_that_writes_more_fields",
            CONTRACT
            + "test_side_by_side.py::test_a_newer_release_that_reads_two_versions_and_one_that_writes_the_older",
            "tests/unit/test_upgrades.py::test_its_entries_fold_to_what_it_said",
            "tests/unit/test_upgrades.py::test_readers_of_a_release_understand_what_is_written_now",
        ),
    ),
    Row(
        "the model of the log that the simulation runs on",
        "says what Redis says, whatever is done to both",
        (CONTRACT + "test_log_model.py::test_both_logs_say_the_same",),
    ),
    Row(
        "a subscriber that comes back; a notifier killed, frozen, restarted under it; a cursor that proves nothing",
        "every event once and in order, or an honest reset",
        (
            CONTRACT + "test_live_resume.py::test_from_every_cursor_exactly_what_follows_it_comes",
            CONTRACT + "test_live_resume.py::test_coming_back_while_orders_move_misses_nothing_and_repeats_nothing",
            CONTRACT + "test_live_resume.py::test_a_cursor_that_proves_nothing_gives_a_reset_and_a_snapshot",
            "tests/e2e/test_complaints.py::test_the_last_event_never_came",
            "tests/e2e/test_complaints.py::test_socket_open_but_mute",
        ),
    ),
    *RARER,
)
