//! The same test bodies on both database engines.

macro_rules! on_both_engines {
    ($($module:ident: $($name:ident),+;)+) => {
        mod sqlite {
            $(mod $module {
                $(#[tokio::test]
                async fn $name() {
                    crate::harness::on(store::Engine::Sqlite, crate::$module::$name()).await;
                })+
            })+
        }

        mod postgres {
            $(mod $module {
                $(#[tokio::test]
                async fn $name() {
                    crate::harness::on(store::Engine::Postgres, crate::$module::$name()).await;
                })+
            })+
        }
    };
}

on_both_engines! {
    content_change: a_folder_is_applied_whole_or_not_at_all, configurations_are_checked_against_yang_modules, an_old_revision_comes_back_as_a_new_one, a_rollout_stops_when_devices_fail, reports_of_devices_stop_a_rollout, explain_shows_the_reply_the_rule_and_the_verdict, hosted_images_are_copied_and_served, what_is_signed_is_ready_before_it_is_asked_for, a_certificate_is_a_variable;
    content_serve: each_device_gets_what_its_rule_says, what_is_signed_is_accepted_by_a_device_that_trusts_nobody, who_asks_for_signed_data_never_gets_unsigned_onboarding, the_voucher_for_the_nonce_comes_first_and_ends_in_time, nothing_is_signed_twice_and_nothing_old_is_served, an_untrusted_connection_is_promoted, a_role_gives_only_its_kind_of_information, no_device_installs_the_same_image_for_ever, what_is_encrypted_is_for_one_device;
    core_auth: strangers_are_refused_and_seen, passwords_count_where_a_profile_says_so, devices_that_are_blocked_or_gone_get_nothing, a_proxy_hands_on_what_it_was_shown, a_change_in_the_register_is_seen_at_once, an_alias_is_the_device, legacy_devices_have_a_door_of_their_own, a_reload_takes_effect_or_changes_nothing;
    core_csr: a_device_asks_makes_a_key_and_gets_its_certificate, requests_that_are_not_the_devices_own_are_refused, a_server_without_a_ca_goes_on_without, a_ca_that_is_away_makes_the_device_come_again, the_same_request_at_once_is_one_certificate;
    core_curl: what_rfc_8572_prints_is_answered, only_https_is_spoken, what_rfc_9646_prints_is_answered;
    core_data: a_known_device_gets_its_own_data, who_asks_for_signed_data_never_gets_unsigned_onboarding, a_redirect_server_sends_devices_to_their_owner, a_new_revision_is_served_at_once;
    core_restconf: the_server_says_what_it_is, a_redirect_server_takes_no_reports, each_bad_request_has_its_status_and_its_line, requests_that_are_right_reach_the_operation;
    core_hostile: changed_bodies_get_an_answer_that_fits;
    core_progress: every_type_is_recorded_under_its_device, host_keys_and_anchors_are_kept, keys_of_a_device_do_not_pile_up, silence_is_noticed, many_at_once_all_leave_their_lines, a_flood_of_strangers_does_not_fill_the_disk;
    owner_commands: the_first_day, a_ca_elsewhere;
    owner_devices: an_import_is_all_or_nothing_and_the_same_again_changes_nothing, rows_are_refused_for_a_reason, a_long_file_streams, what_an_operator_sets_is_kept_and_noted, a_replacement_takes_over_and_the_old_one_gets_nothing, what_is_released_or_transferred_gets_nothing;
    owner_live: a_nonce_gets_a_voucher_of_its_own, a_masa_that_is_not_allowed_is_not_asked;
    owner_vouchers: each_voucher_is_judged_before_it_is_stored, an_archive_is_a_folder, a_device_gets_the_voucher_that_fits, the_manufacturer_gets_a_list_of_what_is_missing;
}
