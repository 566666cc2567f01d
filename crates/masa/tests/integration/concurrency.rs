//! Many at once.

use std::collections::HashSet;

use futures::future::join_all;
use masa::register::find_device;

use crate::on_both;
use crate::support::{Ask, Masa, VOUCHER, text};

const DOMAINS: usize = 64;

async fn one_device_sixty_four_domains_one_owner(masa: Masa) {
    masa.devices(&["SN-1"]).await;
    let idevid = masa.pki.idevid("SN-1").unwrap();
    let domains: Vec<_> = (0..DOMAINS)
        .map(|number| masa.pki.other_domain(&format!("Domain {number}")).unwrap())
        .collect();
    let responses = join_all(domains.iter().map(|domain| {
        let mut ask = Ask::new(&masa.pki, domain, "SN-1", "bm9uY2Utbm9uY2UtMQ==");
        ask.idevid = Some(idevid.clone());
        let masa = &masa;
        async move { masa.ask(domain, &ask).await }
    }))
    .await;
    let granted: Vec<usize> = (0..DOMAINS)
        .filter(|number| responses[*number].status == 200)
        .collect();
    assert_eq!(granted.len(), 1, "exactly one domain may own the device");
    for (number, response) in responses.iter().enumerate() {
        if number != granted[0] {
            assert_eq!(response.status, 403);
            assert!(
                text(response).starts_with("masa.already-owned"),
                "{}",
                text(response)
            );
        }
    }
    assert_eq!(masa.count("voucher").await, 1);
    assert_eq!(
        masa.count("alarm").await,
        i64::try_from(DOMAINS).unwrap() - 1
    );
    let device = find_device(masa.store(), "SN-1", None).await.unwrap();
    let winner = &domains[granted[0]];
    let keys: HashSet<String> = winner
        .registrar
        .chain
        .iter()
        .chain(&winner.ca.chain)
        .map(|certificate| brski::DomainKey::of(certificate).to_string())
        .collect();
    assert!(keys.contains(&device.holder_domain.unwrap()));
    assert_eq!(masa.timeline(Some("SN-1")).await.len(), DOMAINS);
    masa.stop().await;
}

async fn one_request_sent_many_times_gives_one_voucher(masa: Masa) {
    masa.devices(&["SN-1"]).await;
    let domain = &masa.pki.domain;
    let ask = Ask::new(&masa.pki, domain, "SN-1", "bm9uY2Utbm9uY2UtMQ==");
    let body = ask.sign(masa.now());
    let media = ask.envelope.media_type();
    let responses = join_all((0..32).map(|_| {
        let (masa, body) = (&masa, body.clone());
        async move {
            masa.post(VOUCHER, Some(&domain.registrar), media, Some(media), body)
                .await
        }
    }))
    .await;
    let bodies: HashSet<_> = responses
        .iter()
        .map(|response| response.body.clone())
        .collect();
    assert!(responses.iter().all(|response| response.status == 200));
    assert_eq!(bodies.len(), 1, "never two vouchers for one decision");
    assert_eq!(masa.count("voucher").await, 1);
    masa.stop().await;
}

async fn many_devices_at_once(masa: Masa) {
    let serials: Vec<String> = (0..48).map(|number| format!("SN-{number}")).collect();
    let names: Vec<&str> = serials.iter().map(String::as_str).collect();
    masa.devices(&names).await;
    let domain = &masa.pki.domain;
    let responses = join_all(serials.iter().map(|serial| {
        let ask = Ask::new(&masa.pki, domain, serial, "bm9uY2Utbm9uY2UtMQ==");
        let masa = &masa;
        async move { masa.ask(domain, &ask).await }
    }))
    .await;
    assert!(responses.iter().all(|response| response.status == 200));
    assert_eq!(masa.count("voucher").await, 48);
    masa.stop().await;
}

on_both!(
    one_device_sixty_four_domains_one_owner,
    one_request_sent_many_times_gives_one_voucher,
    many_devices_at_once,
);

/// Two servers over one database decide as one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_share_one_register() {
    let masa = Masa::postgres().await;
    masa.devices(&["SN-1", "SN-2"]).await;
    let replica = masa::serve(masa.config.clone(), daemon::Clock::fixed(masa.now()))
        .await
        .unwrap();
    let replicas = [&masa.running, &replica];
    // Many domains, one device, either server.
    let idevid = masa.pki.idevid("SN-1").unwrap();
    let domains: Vec<_> = (0..16)
        .map(|number| masa.pki.other_domain(&format!("Domain {number}")).unwrap())
        .collect();
    let responses = join_all(domains.iter().enumerate().map(|(number, domain)| {
        let mut ask = Ask::new(&masa.pki, domain, "SN-1", "bm9uY2Utbm9uY2UtMQ==");
        ask.idevid = Some(idevid.clone());
        let (masa, replica) = (&masa, replicas[number % 2]);
        async move { masa.ask_at(replica, domain, &ask).await }
    }))
    .await;
    assert_eq!(
        responses
            .iter()
            .filter(|response| response.status == 200)
            .count(),
        1
    );
    // One request, both servers, one voucher.
    let domain = &masa.pki.domain;
    let ask = Ask::new(&masa.pki, domain, "SN-2", "bm9uY2Utbm9uY2UtMQ==");
    let responses = join_all((0..16).map(|number| {
        let (masa, ask, replica) = (&masa, &ask, replicas[number % 2]);
        async move { masa.ask_at(replica, domain, ask).await }
    }))
    .await;
    let bodies: HashSet<_> = responses
        .iter()
        .map(|response| response.body.clone())
        .collect();
    assert!(responses.iter().all(|response| response.status == 200));
    assert_eq!(bodies.len(), 1);
    assert_eq!(masa.count("voucher").await, 2);
    replica.stop().await;
    masa.stop().await;
}
