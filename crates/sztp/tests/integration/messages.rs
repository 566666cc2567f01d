//! Messages made at random: for round trips, and for what other programs say about them.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use sztp::message::{
    CsrFormat, CsrInput, CsrRequest, CsrSupport, GetBootstrappingDataInput,
    GetBootstrappingDataOutput, ProgressType, ReportProgressInput, ReportingLevel, SshHostKey,
};

/// Any string that YANG allows.
pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,12}",
        "[\\t\\n\\r <>&'\"\\]a-c]{0,12}",
        "\\PC{0,12}",
    ]
    .prop_map(|text| {
        text.chars()
            .filter(|c| {
                let plane_end = *c as u32 & 0xfffe == 0xfffe;
                !plane_end && !('\u{fdd0}'..='\u{fdef}').contains(c)
            })
            .collect()
    })
}

pub(crate) fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

fn formats() -> impl Strategy<Value = Vec<CsrFormat>> {
    vec(proptest::sample::select(CsrFormat::ALL), 1..4)
}

fn csr() -> impl Strategy<Value = CsrInput> {
    prop_oneof![
        (option::of(vec(bytes(), 1..4)), formats()).prop_map(|(algorithms, formats)| {
            CsrInput::Support(CsrSupport {
                algorithms,
                formats,
            })
        }),
        bytes().prop_map(CsrInput::P10),
        bytes().prop_map(CsrInput::Cmc),
        bytes().prop_map(CsrInput::Cmp),
    ]
}

pub(crate) fn input() -> impl Strategy<Value = GetBootstrappingDataInput> {
    (
        any::<bool>(),
        option::of(text()),
        option::of(text()),
        option::of(text()),
        option::of(vec(any::<u8>(), 16..=32)),
        option::of(csr()),
    )
        .prop_map(
            |(signed_data_preferred, hw_model, os_name, os_version, nonce, csr)| {
                GetBootstrappingDataInput {
                    signed_data_preferred,
                    hw_model,
                    os_name,
                    os_version,
                    nonce,
                    csr,
                }
            },
        )
}

pub(crate) fn output() -> impl Strategy<Value = GetBootstrappingDataOutput> {
    (
        option::of(proptest::sample::select(ReportingLevel::ALL)),
        bytes(),
        option::of((bytes(), bytes())),
    )
        .prop_map(|(reporting_level, conveyed_information, signed)| {
            let (owner_certificate, ownership_voucher) = signed.unzip();
            GetBootstrappingDataOutput {
                reporting_level,
                conveyed_information,
                owner_certificate,
                ownership_voucher,
            }
        })
}

pub(crate) fn report() -> impl Strategy<Value = ReportProgressInput> {
    let key = (text(), bytes()).prop_map(|(algorithm, key_data)| SshHostKey {
        algorithm,
        key_data,
    });
    (
        proptest::sample::select(ProgressType::ALL),
        option::of(text()),
        vec(key, 0..3),
        vec(Just(trust_anchor()), 0..3),
    )
        .prop_map(|(progress, message, ssh_host_keys, trust_anchor_certs)| {
            let is_complete = progress == ProgressType::BootstrapComplete;
            ReportProgressInput {
                progress,
                message,
                ssh_host_keys: if is_complete {
                    ssh_host_keys
                } else {
                    Vec::new()
                },
                trust_anchor_certs: if is_complete {
                    trust_anchor_certs
                } else {
                    Vec::new()
                },
            }
        })
}

/// A degenerate CMS with nothing in it but its form.
fn trust_anchor() -> Vec<u8> {
    pki::pkcs7::certs_only(&[]).unwrap()
}

pub(crate) fn request() -> impl Strategy<Value = CsrRequest> {
    (
        option::of(bytes()),
        proptest::sample::select(CsrFormat::ALL),
        option::of(bytes()),
    )
        .prop_map(|(algorithm, format, cert_req_info)| CsrRequest {
            algorithm,
            format,
            cert_req_info,
        })
}
