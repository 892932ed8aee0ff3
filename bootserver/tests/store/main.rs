//! What any store promises, whichever database is behind it. Each promise is a
//! function over the trait; `contract!` runs all of them on each database.

mod blobs;
#[path = "../support/cluster.rs"]
mod cluster;
mod contract;
mod cut;
mod ingest;
mod make;
mod migrations;
mod postgres;
mod sqlite;

/// Runs every promise on the database `$open` makes. A database more is one
/// line more here.
macro_rules! contract {
    ($database:ident, $open:path) => {
        mod $database {
            contract!(@each $open,
                the_first_start_happens_once
                the_last_admin_stays
                of_two_admins_who_demote_each_other_one_stays
                a_change_to_what_somebody_else_changed_is_refused
                a_session_holds_until_it_is_ended_or_its_user_is_disabled
                a_password_changed_meanwhile_opens_nothing
                a_token_may_what_its_maker_may_now
                attempts_at_once_are_counted_one_by_one
                a_change_and_its_audit_row_are_stored_together
                the_audit_is_filtered_and_paged
                what_is_out_of_scope_is_not_there
                a_group_somebody_is_restricted_to_stays
                many_hosts_get_and_lose_tags_and_those_that_have_them_are_left_alone
                many_hosts_are_taken_out_at_once
                a_group_names_many_hosts_at_once
                all_hosts_of_a_query_are_found_if_they_are_not_too_many
                an_enrolment_token_pays_once_per_host
                a_registration_whose_facts_changed_is_told_so
                a_renewal_is_overruled_by_the_next_status
                a_status_never_moves_an_identity_to_another_machine
                both_secrets_hold_until_the_new_one_is_used
                tags_are_replaced_and_found
                hosts_are_paged_by_name
                hosts_are_found_by_a_part_of_their_names_and_addresses
                hosts_are_sorted_and_paged_from_either_end
                a_list_is_the_same_whichever_way_it_is_found
                hosts_paged_by_age_stay_in_place_when_they_are_renamed
                what_operators_say_of_a_host_is_changed_by_who_has_seen_it
                agents_of_hosts_are_a_table_one_can_ask
                a_request_with_a_key_is_begun_once_and_its_answer_kept_for_a_day
                names_are_sorted_by_their_bytes
                a_host_nobody_knows_leaves_its_neighbours_alone
                after_a_restore_no_number_is_given_twice_and_nobody_is_signed_in
                of_two_statuses_in_one_batch_the_last_is_the_state
                an_event_has_one_row
                a_job_has_one_result
                jobs_go_out_in_order_and_are_marked
                withdrawals_go_first
                an_expired_job_stays_here
                a_job_its_host_does_not_know_is_lost_and_a_late_result_corrects_it
                a_job_its_host_names_is_not_lost
                a_silent_host_keeps_its_job
                unknown_hosts_are_named_and_nothing_is_stored
                a_package_has_one_place
                a_package_in_use_stays
                results_come_in_order_of_arrival
                what_arrived_since_a_time_is_all_there
                text_of_any_script_comes_back
                a_lease_has_one_holder
                a_lease_ends_by_itself
                of_many_that_want_a_lease_one_works
                the_oldest_is_forgotten_first
                leases_of_a_server_that_ends_are_free_at_once
                a_deleted_host_is_forgotten_after_its_history
                a_job_withdrawn_at_once_never_goes_out
                a_status_with_a_secret_that_was_replaced_is_not_stored
                a_secret_that_is_due_is_replaced_once_the_new_one_is_used
                a_revoked_host_cannot_write_and_its_jobs_end
                a_deleted_host_leaves_its_history_and_may_come_back
                a_host_brought_in_anew_inherits_no_orders
                the_second_of_two_that_alternate_is_told_to_register_again
                a_copy_gets_no_orders_and_closes_none
                a_host_may_push_and_register_at_once
                a_copy_leaves_while_the_original_pushes
                of_two_offers_at_once_the_first_one_holds
                an_order_in_the_moment_of_a_revocation_is_not_left_open
                who_is_to_push_sooner_is_missed_sooner
                hosts_are_late_then_offline_and_back_with_their_next_push
                nobody_is_late_for_what_the_platform_slept_through
                a_look_takes_all_that_is_due_in_parts
                every_form_of_a_selector_finds_its_hosts
                a_group_has_the_hosts_that_are_named_selected_or_in_its_groups
                no_group_is_in_itself_and_none_is_lost_to_another
                what_is_committed_is_told_and_nothing_else
                who_may_not_see_a_host_hears_nothing_of_it
                a_rollout_goes_by_stages_to_its_end
                a_rollout_stops_when_more_fail_than_may
                a_turn_without_the_lease_does_nothing
                targets_are_written_down_part_by_part
                a_rollout_given_up_while_it_is_written_down_ends
                hosts_that_are_offline_or_leave_keep_no_place
                a_crash_soon_after_success_is_a_failure
                a_crash_after_the_end_of_a_rollout_is_no_good_end
                what_a_host_says_late_corrects_its_target
                a_result_of_another_host_moves_no_target
                a_job_of_a_rollout_may_be_withdrawn
                a_host_has_one_rollout_of_an_agent_at_a_time
                operators_pause_resume_and_confirm_what_they_have_seen
                a_rollout_is_seen_by_who_sees_all_of_its_hosts
                a_package_stays_while_a_rollout_needs_it
                a_host_without_a_file_is_skipped
                a_way_back_takes_each_target_to_what_it_had
                of_two_who_follow_a_rollout_at_once_one_has_seen_it_last
                of_two_who_tell_a_rollout_something_at_once_one_has_seen_it_last
                after_a_restore_a_rollout_waits_for_somebody
                targets_are_listed_packed_or_not
                a_host_that_leaves_while_it_is_packed_is_skipped
                hosts_that_are_packed_are_waited_for_or_taken_over
                those_that_expire_packed_are_tried_again_if_that_counts
                who_joins_an_assignment_or_drifts_gets_its_version
                an_assignment_orders_no_more_at_once_than_it_may_and_stops_at_its_limit
                of_two_assignments_the_one_with_the_higher_priority_has_a_host
                an_assignment_leaves_hosts_to_rollouts_and_rollouts_are_told_of_it
                another_version_begins_anew_and_a_deleted_assignment_leaves_hosts_alone
                a_host_without_a_file_waits_until_there_is_one
                a_host_is_not_ordered_a_version_for_ever
                a_large_assignment_is_looked_at_part_by_part
                an_assignment_waits_after_a_restore_and_for_a_second_user
            );
        }
    };
    (@each $open:path, $($promise:ident)*) => {
        $(
            #[tokio::test]
            async fn $promise() {
                let Some(opened) = $open().await else { return };
                crate::contract::$promise(opened.store()).await;
                opened.close().await;
            }
        )*
    };
}

contract!(on_sqlite, crate::sqlite::open);
contract!(on_postgres, crate::postgres::open);
