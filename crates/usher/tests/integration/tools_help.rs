//! What the tools say about themselves.

use expect_test::{Expect, expect};

use crate::tools::usher;

fn help(arguments: &[&str], want: &Expect) {
    let output = usher(arguments, b"");
    assert_eq!(output.status.code(), Some(0));
    want.assert_eq(&String::from_utf8_lossy(&output.stdout));
}

#[test]
fn help_is_a_contract() {
    help(
        &["artifact", "verify", "--help"],
        &expect![[r#"
            Judge a voucher or request (or CSR, certificate, audit log, telemetry) as the servers do, and bootstrapping data as a device does

            Usage: usher artifact verify [OPTIONS] [FILE]

            Arguments:
              [FILE]  The artefact; `-` is standard input

            Options:
                  --anchors <PEM>...          Certificates to trust: the MASA's or manufacturer's, for a registrar's request also the domain's
                  --intermediates <PEM>...    Certificates to build paths with; they add no trust
                  --crl <CRL>...              Revocation lists
                  --at <RFC3339>              The time at which to judge; now, if it is not given
                  --no-clock                  Judge as a device without a clock: no date counts
                  --lenient                   Accept what known peers do differently from the standards; each use is listed
                  --tolerate <NAME>...        Accept this one departure from the standards, as vendor profiles name it
                  --kind <KIND>               What it must be: voucher, voucher-request, pvr, rvr, conveyed-information, owner-certificate, certificate, csr, crl, audit-log, telemetry, dhcp-option. Guessed, if it is not given
                  --serial <SN>               The device's serial number
                  --nonce <B64>               The nonce that was sent
                  --idevid <PEM>              The device's IDevID
                  --domain <PEM>...           A certificate of the domain: for a voucher the one that must be pinned (or lie on its chain), for a registrar's request the anchor
                  --request <FILE>            The voucher request that this artefact answers or carries
                  --peer <PEM>...             Certificate of the TLS or DTLS peer that sent it
                  --registrar <PEM>...        The server certificate that the pledge saw, and its chain
                  --owner-certificate <FILE>  The owner certificate artefact that goes with conveyed information
                  --voucher <FILE>            The ownership voucher that goes with conveyed information
                  --key <KEY>                 The device's private key, to decrypt what is encrypted to it
                  --trusted-source            The conveyed information came from a bootstrap server that the device trusts
                  --batch                     Read one JSON object a line from standard input (`id`, `file` and these options as members) and write one verdict a line. Options given here hold for every line. Exits 0 only if all are valid
                  --json                      Print one JSON document on stdout
              -h, --help                      Print help
        "#]],
    );
    help(
        &["artifact", "inspect", "--help"],
        &expect![[r#"
            Decode any voucher, request, conveyed information, CSR, certificate, CRL, audit log or telemetry, in any encoding, and say what is odd about it. Nothing is verified

            Usage: usher artifact inspect [OPTIONS] <FILE>...

            Arguments:
              <FILE>...  The artefacts; `-` is standard input

            Options:
                  --key <KEY>  The device's private key, to decrypt what is encrypted to it
                  --json       Print one JSON document on stdout
              -h, --help       Print help
        "#]],
    );
    help(
        &["cert", "verify", "--help"],
        &expect![[r#"
            Validate the path from a certificate to an anchor, as the servers do

            Usage: usher cert verify [OPTIONS]

            Options:
                  --anchors <PEM>...         Certificates to trust
                  --chain <PEM>...           The certificate to validate, then whatever may help to build its path, in any order
                  --at <RFC3339>             The time at which to judge; now, if it is not given
                  --no-clock                 Judge without a clock: no date counts
                  --purpose <PURPOSE>        What the certificate is to be used for: any, server, client, masa, registrar, idevid
                  --name <DNS>               The DNS name or IP address that it must have
                  --crl <CRL>...             Revocation lists
                  --require-crl[=<BOOL>]     Refuse unless a current CRL covers each certificate; on where CRLs are given [possible values: true, false]
                  --policy <OID>...          Acceptable certificate policies
                  --require-policy           The path must be valid for an acceptable policy
                  --inhibit-mapping          Ignore policy mappings
                  --inhibit-any              anyPolicy counts for nothing
                  --strict-profile[=<BOOL>]  Enforce what RFC 5280 §4 demands of issuers, not only the path rules of §6; on for purpose server [possible values: true, false]
                  --legacy                   Accept SHA-1 signatures and short RSA keys
                  --batch                    Read one JSON object a line from standard input (`id` and these options as members) and write one verdict a line. Options given here hold for every line. Exits 0 only if all are valid
                  --json                     Print one JSON document on stdout
              -h, --help                     Print help
        "#]],
    );
    help(
        &["whois", "--help"],
        &expect![[r#"
            Say what device identity would be taken from a certificate, and by which rule

            Usage: usher whois [OPTIONS] <CERT>

            Arguments:
              <CERT>  The certificate, PEM or DER; `-` is standard input

            Options:
                  --profile <TOML>  The vendor profile whose rule applies; without one it is the standard's rule
                  --json            Print one JSON document on stdout
              -h, --help            Print help
        "#]],
    );
}
