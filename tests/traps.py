"""The fifty traps that are known of Notion's API, each with the tests that fail if the daemon falls into it.

A trap that cannot touch the daemon has the reason instead. `tests/test_traps.py` checks that the table is whole.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trap:
    """`name`: what goes wrong. `tests`: node ids without parameters; `cannot`: why it cannot happen here."""

    name: str
    tests: tuple[str, ...] = ()
    cannot: str = ""


def _tests(file: str, *names: str) -> tuple[str, ...]:
    return tuple(f"tests/test_{file}.py::test_{name}" for name in names)


TRAPS: dict[int, Trap] = {
    # Change detection
    1: Trap(
        "two edits within a minute bear the same stamp",
        _tests("no_missed_edit", "every_pair_of_edits_within_a_stamp"),
    ),
    2: Trap(
        "asking for what is newer than the newest stamp seen passes over its siblings",
        _tests("traps", "trap_02_a_sibling_edited_in_the_same_minute_is_found"),
    ),
    3: Trap(
        "a watermark taken at the end of a run loses what was edited during it",
        _tests("traps", "trap_03_an_edit_made_while_a_query_runs_is_found_by_the_next"),
    ),
    4: Trap(
        "a watermark that moves while a minute is half read loses its other half",
        _tests("traps", "trap_04_a_walk_that_breaks_off_moves_no_watermark"),
    ),
    5: Trap(
        "our clock is wrong, or a stamp lies in the future",
        _tests(
            "traps",
            "trap_05_a_clock_of_ours_that_is_wrong_hides_no_edit",
            "trap_05_a_stamp_from_the_future_hides_no_edit",
        ),
    ),
    6: Trap(
        "stamps are written in several ways, so comparing letters goes wrong",
        _tests(
            "plan",
            "every_way_to_write_a_moment_is_one_moment",
            "the_same_stamp_in_other_letters_is_no_news",
        )
        + _tests("slugs", "creation_is_compared_as_a_moment")
        + _tests("indexes", "an_index_lists_the_newest_first"),
    ),
    7: Trap(
        "an edit of a child page moves no stamp above it",
        _tests("traps", "trap_07_a_child_page_is_read_though_nothing_above_it_moves")
        + _tests("dependencies", "edits_below_arrive_by_search_or_by_the_sweep"),
    ),
    8: Trap(
        "an edit of a row moves neither its database nor the page that shows it",
        _tests("traps", "trap_08_a_renamed_row_reaches_the_list_though_nothing_above_it_moves")
        + _tests("dependencies", "edits_below_arrive_by_search_or_by_the_sweep"),
    ),
    9: Trap(
        "computed values change without a stamp",
        _tests("dependencies", "a_computed_value_is_found_by_the_sweep"),
    ),
    10: Trap(
        "an edit made through the API may move no stamp",
        _tests("traps", "trap_10_an_edit_that_moves_no_stamp_is_found_by_a_full_sync"),
    ),
    11: Trap(
        "comments move no stamp",
        cannot="Comments are neither read nor published: no key holds one, so none can be out of date.",
    ),
    # What changes by itself
    12: Trap(
        "signed addresses are others at every read",
        _tests("guarantees", "no_change_is_no_write")
        + _tests(
            "jsontext",
            "a_new_signature_is_no_change",
            "a_signed_address_outside_its_file_object_is_no_change",
        ),
    ),
    13: Trap(
        "signed addresses die within the hour",
        _tests("traps", "trap_13_a_hosted_file_says_when_its_address_dies"),
    ),
    14: Trap(
        "request ids and the addresses of pages change without an edit",
        _tests("traps", "trap_14_notion_moving_to_another_address_is_no_edit")
        + _tests("jsontext", "request_ids_are_noise_wherever_they_stand"),
    ),
    15: Trap(
        "Notion writes things in a new way, and every hash is another one at once",
        _tests("traps", "trap_15_a_flood_of_new_hashes_is_worked_off_behind_the_edits")
        + _tests("jsontext", "the_hash_carries_the_version"),
    ),
    # Listings
    16: Trap(
        "a listing that was cut off at ten thousand results looks complete",
        _tests("traps", "trap_16_rows_beyond_the_cap_are_not_missing")
        + _tests(
            "notion_api",
            "the_cap_on_results_is_worked_around",
            "a_moment_with_more_rows_than_the_cap_is_reported",
        ),
    ),
    17: Trap(
        "a short page of results is taken for the last",
        _tests(
            "notion_api",
            "children_are_listed_to_the_end_in_order",
            "has_more_without_a_cursor_is_not_the_end",
        ),
    ),
    18: Trap(
        "a cursor dies under way",
        _tests(
            "notion_api",
            "a_dead_cursor_starts_the_listing_again",
            "children_in_order_come_from_one_walk",
            "a_cursor_that_always_dies_is_given_up",
        )
        + _tests("tree", "a_dying_cursor_leaves_no_hole"),
    ),
    19: Trap(
        "a cursor that comes back leads round in circles",
        _tests("notion_api", "a_cursor_that_comes_back_never_loops")
        + _tests("tree", "repeating_cursors_fail_the_page"),
    ),
    20: Trap(
        "a query that asks for no order has none",
        _tests("notion_api", "query_says_what_it_wants", "search_asks_for_pages_newest_first"),
    ),
    21: Trap(
        "in the order of edits, a row edited under way pushes others out of sight",
        _tests("traps", "trap_21_a_row_edited_while_a_query_pages_pushes_no_other_out"),
    ),
    22: Trap(
        "search forgets pages, lags, and shows old bodies",
        _tests(
            "traps",
            "trap_22_search_that_knows_nothing_removes_nothing",
            "trap_22_search_that_lags_takes_nothing_back",
        ),
    ),
    # Absence
    23: Trap(
        "a query for what was edited never shows what was deleted",
        _tests("guarantees", "what_is_gone_leaves_with_everything_under_it"),
    ),
    24: Trap(
        "a page missing from a listing may be in the trash, archived, moved, or there",
        _tests(
            "traps",
            "trap_24_a_row_that_a_listing_leaves_out_is_asked_for",
            "trap_24_an_archived_page_leaves_and_comes_back",
        )
        + _tests("plan", "weighing_what_a_get_says", "every_word_for_the_trash_is_evidence"),
    ),
    25: Trap(
        "404 says nothing for certain, and one wrong click makes everything answer it",
        _tests(
            "disappearance",
            "a_source_that_answers_404_loses_nothing",
            "the_limits_are_exact",
            "all_rows_at_once_are_held_whatever_the_reason",
        ),
    ),
    26: Trap(
        "what lies below trash does not say so",
        _tests("traps", "trap_26_what_lies_below_trash_leaves_whatever_it_says_of_itself"),
    ),
    27: Trap(
        "asking a query for the trash is refused, or means something else",
        _tests("notion_api", "query_says_what_it_wants", "search_asks_for_pages_newest_first"),
    ),
    28: Trap(
        "a token that is no longer valid looks like an empty workspace",
        _tests("disappearance", "a_refused_token_stops_everything")
        + _tests("process", "sync_with_a_bad_token_fails_and_removes_nothing"),
    ),
    29: Trap(
        "a database gets a second data source",
        _tests("bad_input", "a_data_source_added_while_running_is_found")
        + _tests("notion_api", "several_data_sources_have_their_own_hint")
        + _tests("config", "old_notion_versions_are_refused"),
    ),
    # Refusals and failures
    30: Trap(
        "others use up the workspace's budget, and the wait is longer than a minute",
        _tests("notion_api", "retry_after_is_honoured", "pauses_do_not_use_up_a_requests_time"),
    ),
    31: Trap(
        "one kind of 429 never clears",
        _tests("traps", "trap_31_a_block_that_never_clears_stops_the_run")
        + _tests("notion_api", "what_will_not_pass_is_asked_once"),
    ),
    32: Trap(
        "the official client does not retry every passing failure, nor any of a query",
        _tests("notion_api", "every_passing_failure_of_a_read_is_retried"),
    ),
    33: Trap(
        "raw errors of transport and JSON escape the client",
        _tests("traps", "trap_33_a_page_that_nobody_foresaw_fails_alone")
        + _tests("notion_api", "lost_connections_are_retried", "nobody_listening_is_unavailable_with_a_hint"),
    ),
    34: Trap(
        "everybody who was refused comes back at once",
        _tests(
            "notion_api",
            "a_refusal_holds_everybody_back",
            "nobody_slips_through_between_refusal_and_pause",
            "the_budget_holds_with_retries",
        ),
    ),
    35: Trap(
        "a swallowed error publishes a page with a hole in it",
        _tests("guarantees", "half_a_page_is_never_published")
        + _tests("tree", "any_request_that_fails_for_good_fails_the_page"),
    ),
    # Reading
    36: Trap(
        "blocks claim children and then refuse to list them",
        _tests("tree", "refused_children_make_a_leaf")
        + _tests("notion_api", "refused_children_are_told_from_other_mistakes"),
    ),
    37: Trap(
        "a block lies inside itself",
        _tests("tree", "a_block_inside_itself", "nesting_beyond_any_editor_fails")
        + _tests("bad_input", "a_block_inside_itself_ends"),
    ),
    38: Trap(
        "following a child page, a database or a link pulls another page in",
        _tests("tree", "pointers_are_never_opened"),
    ),
    39: Trap(
        "originals of synced blocks may be out of reach, and their edits move no other page",
        _tests("traps", "trap_39_an_edit_of_an_original_reaches_the_page_that_shows_a_copy")
        + _tests(
            "dependencies",
            "originals_reach_their_copies",
            "an_unshared_original_is_said_and_looked_at_again",
        ),
    ),
    40: Trap(
        "a linked database looks like any other and cannot be read",
        _tests("site_keys", "an_empty_and_a_linked_database"),
    ),
    41: Trap(
        "a page edited while it is read is half old and half new",
        _tests("traps", "trap_41_a_page_edited_while_it_is_read_is_read_again")
        + _tests("no_missed_edit", "an_edit_in_the_middle_of_a_read")
        + ("tests/test_kv_contract.py::TestBatches::test_readers_see_whole_batches",),
    ),
    42: Trap(
        "objects come as a bare id",
        _tests("traps", "trap_42_a_row_that_is_listed_as_a_bare_id_is_asked_for")
        + _tests("tree", "partial_blocks_are_completed")
        + _tests("values", "partial_pages_are_told_apart"),
    ),
    43: Trap(
        "values of more than 25 references are cut short without a word",
        _tests("tree", "long_properties_are_completed")
        + _tests("bundle", "a_completed_page_has_the_hash_of_its_listing"),
    ),
    44: Trap(
        "a full sync that is killed begins anew, or publishes something old",
        _tests("traps", "trap_44_a_full_sync_that_is_killed_goes_on")
        + _tests("process", "a_killed_daemon_goes_on_where_it_was"),
    ),
    # Webhooks
    45: Trap(
        "events are lost, merged and late",
        _tests("process", "run_publishes_follows_an_edit_and_ends_cleanly")
        + _tests(
            "webhooks",
            "trap_45_what_is_not_told_is_found_all_the_same",
            "events_twice_and_in_any_order_change_nothing",
        ),
    ),
    46: Trap(
        "refusing an unknown kind of event ends the subscription",
        _tests(
            "webhooks",
            "trap_46_whatever_notion_signed_is_acknowledged",
            "trap_46_refusing_is_what_pauses_a_subscription",
        ),
    ),
    47: Trap(
        "a body that was parsed and written again has another signature",
        _tests(
            "webhooks",
            "trap_47_a_signature_is_that_of_the_bytes_that_came",
            "a_subscription_is_set_up_from_the_handshake_to_the_first_event",
        ),
    ),
    # Names
    48: Trap(
        "writing to Notion wakes the poll that wrote",
        _tests("traps", "trap_48_nothing_is_ever_written_to_notion"),
    ),
    49: Trap(
        "an id with dashes and one without become two keys",
        _tests("config", "source_is_an_id_or_an_address", "same_source_twice_is_a_warning")
        + _tests("values", "only_an_id_is_normalised")
        + _tests("indexes", "keys"),
    ),
    50: Trap(
        "pages want the same slug, or leave an old one behind",
        _tests("site_keys", "conflicting_slugs", "a_changed_slug_takes_everything_below_along")
        + _tests(
            "dependencies",
            "new_names_reach_everything_that_shows_them",
            "pages_that_take_each_others_slugs",
        ),
    ),
}
