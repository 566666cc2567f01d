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
    bad_input: each_bad_input_has_its_status_and_its_line, stray_requests_have_a_code_too, other_methods_and_paths_are_refused_and_old_paths_need_their_switch, peers_that_hang_or_flood_do_not_hold_up_a_proper_device;
    coap: a_device_enrols_once_however_often_it_asks, a_device_renews_with_its_own_certificate_only, reading_is_for_known_devices, keys_are_generated_where_that_is_on, reports_come_in_cbor_and_json, what_is_asked_wrongly_is_refused, what_there_is_can_be_discovered;
    coap_clients: whatever_name_and_group_is_asked_for_the_certificate_is_the_same, foreign_clients_come_through_a_stateless_join_proxy, foreign_clients_walk_through_every_resource, foreign_clients_wait_and_are_refused, foreign_clients_find_the_registrar_in_the_clear, the_documented_walk_ends_with_a_voucher, new_keys_are_shown_from_the_next_handshake_on;
    coap_deployed: devices_with_other_keys_and_small_records_get_their_vouchers, the_operator_chooses_the_versions_of_dtls, openthreads_pledge_enrols, a_request_can_be_bound_to_its_association;
    coap_vouchers: a_voucher_comes_in_the_format_that_is_asked_for, a_vendors_devices_may_use_the_old_names, requests_that_do_not_fit_are_refused, a_slow_masa_is_waited_for_and_asked_once, whoever_waits_for_a_person_or_a_masa_is_told_when_to_come_back, strangers_get_no_voucher;
    commands: init_makes_a_registrar_that_its_doctor_finds_well, keys_can_be_encrypted_and_rsa_stands_beside, imports_rehearse_repeat_and_refuse_as_a_whole, devices_are_listed_shown_and_decided_with_exit_codes, the_audit_log_is_verified_proven_and_exported;
    cose: a_device_that_speaks_cose_gets_its_voucher_over_every_http_version, cose_that_does_not_fit_its_device_or_its_registrar_is_refused, each_masa_hears_the_name_that_it_knows, the_bag_of_a_voucher_is_judged_where_it_can_be, a_registrars_certificate_has_every_purpose_and_any_issuer, a_voucher_from_a_file_is_handed_on_as_any_other;
    enrolment: a_device_enrols_and_renews_over_every_http_version, names_are_the_registrars_choice, an_acp_node_name_is_demanded_and_given, nobody_enrols_without_a_voucher, a_certificate_that_is_revoked_or_expired_renews_nothing, the_crl_follows_a_revocation_at_once, a_request_that_somebody_else_sends_is_refused, the_same_request_many_times_at_once_is_one_certificate, a_device_that_starts_anew_gets_a_new_certificate, a_channel_binding_is_verified_and_can_be_demanded, keys_are_generated_where_that_is_offered;
    enrolment_bad_input: bad_input_has_its_status_and_code;
    onboarding: one_request_sixteen_times_at_once_is_one_exchange, an_enrolled_device_that_starts_anew_is_noticed_and_its_history_asked_again, a_masa_can_want_a_password_or_no_certificate, the_identity_that_a_device_saw_signs_the_request_to_its_masa, a_device_gets_its_voucher_over_every_http_version_and_format, telemetry_is_recorded_and_the_history_fetched, an_enrolment_status_is_recorded_with_the_certificate_it_came_under, a_server_certificate_can_be_exchanged_while_it_runs;
    real_masa: a_real_masa_gives_its_owner_a_voucher_and_nobody_else;
    policies: list_rules_and_default_decide_in_this_order, a_device_waits_for_a_person_and_the_same_request_then_succeeds, nobody_waits_for_ever, a_webhook_decides_and_its_failure_has_a_stated_outcome, vouchers_loaded_beforehand_take_the_place_of_a_masa_that_is_away;
    refusals: a_crowd_before_a_slow_masa_does_not_take_every_place, strangers_are_refused_seen_and_never_lead_to_a_masa, a_request_that_does_not_fit_its_device_or_its_registrar_is_refused, a_clone_of_a_serial_number_and_a_replay_are_refused, whatever_a_masa_answers_its_device_gets_a_clear_refusal_and_others_go_on, a_masa_that_is_slow_or_away_holds_back_its_own_devices_only, a_masa_with_another_name_or_another_anchor_gets_nothing, a_history_that_breaks_the_policy_is_an_alarm_and_ends_in_refusal, an_expired_idevid_is_refused_unless_its_profile_says_otherwise, no_flipped_bit_gets_through;
}
