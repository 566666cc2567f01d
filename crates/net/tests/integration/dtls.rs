//! DTLS without sockets: both ends in memory.

use net::dtls::{ClientConfig, Suite};

use crate::dtls_support::{Pair, front_with, pki};

/// Requirements: CBR-009, CBR-010, ESC-001, ESC-058, DTL-034
#[test]
fn client_and_server_meet() {
    let pki = pki();
    let front = front_with(&pki, |_| {});
    let idevid = pki.idevid("1234").expect("device");
    let mut config = ClientConfig::new(Some(idevid.clone()));
    config.suites = vec![Suite::EcdheEcdsaAes128Ccm8];
    let mut pair = Pair::new(&front, &config).established();
    pair.talk();

    let of_client = pair.server().peer().expect("peer").clone();
    assert_eq!(of_client.suite, "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8");
    assert_eq!(of_client.version, "DTLS 1.2");
    let sent: Vec<&[u8]> = idevid.chain.iter().map(pki::Certificate::der).collect();
    let seen: Vec<&[u8]> = of_client.chain.iter().map(pki::Certificate::der).collect();
    assert_eq!(seen, sent);
    let of_server = pair.client.peer().expect("peer");
    let chain = &pki.domain.registrar.chain;
    let sent: Vec<&[u8]> = chain.iter().map(pki::Certificate::der).collect();
    let seen: Vec<&[u8]> = of_server.chain.iter().map(pki::Certificate::der).collect();
    assert_eq!(seen, sent);
    assert_eq!(of_server.server_certificate_der, sent[0]);
    assert_eq!(of_client.server_certificate_der, sent[0]);
    assert!(of_client.exporter.is_some());
    assert_eq!(of_client.exporter, of_server.exporter);
}
