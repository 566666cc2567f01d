//! Clients whose certificates cost more than those of devices.

use std::time::{Duration, Instant};

use openssl::asn1::Asn1Time;
use openssl::bn::{BigNum, BigNumContext, MsbOption};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::{Rsa, RsaPrivateKeyBuilder};
use openssl::ssl::{SslContextBuilder, SslMethod};
use openssl::x509::{X509, X509Name};
use testkit::Pki;
use time::OffsetDateTime;

use super::*;
use crate::dtls::{Front, Hello, Session};

const NOW: Moment = Duration::from_secs(1000);

/// A key whose public exponent has as many bits as the key.
fn slow_key(bits: u32) -> PKey<Private> {
    let usual = Rsa::generate(bits).expect("a key");
    let (p, q) = (usual.p().expect("p"), usual.q().expect("q"));
    let mut context = BigNumContext::new().expect("context");
    let one = BigNum::from_u32(1).expect("one");
    let (mut p1, mut q1, mut phi) = (number(), number(), number());
    p1.checked_sub(p, &one).expect("p - 1");
    q1.checked_sub(q, &one).expect("q - 1");
    phi.checked_mul(&p1, &q1, &mut context).expect("phi");
    let (mut e, mut d) = (number(), number());
    loop {
        let bits = i32::try_from(bits).expect("bits") - 2;
        e.rand(bits, MsbOption::ONE, true).expect("e");
        if d.mod_inverse(&e, &phi, &mut context).is_ok() {
            break;
        }
    }
    let (mut dp, mut dq, mut qi) = (number(), number(), number());
    dp.nnmod(&d, &p1, &mut context).expect("dp");
    dq.nnmod(&d, &q1, &mut context).expect("dq");
    qi.mod_inverse(q, p, &mut context).expect("qi");
    let n = usual.n().to_owned().expect("n");
    let [p, q] = [p, q].map(|prime| prime.to_owned().expect("a prime"));
    let key = RsaPrivateKeyBuilder::new(n, e, d)
        .and_then(|key| key.set_factors(p, q))
        .and_then(|key| key.set_crt_params(dp, dq, qi))
        .expect("a key")
        .build();
    PKey::from_rsa(key).expect("a key")
}

fn number() -> BigNum {
    BigNum::new().expect("a number")
}

/// A chain of so many certificates for one key, each issued by the next.
fn chain(key: &PKey<Private>, length: usize) -> Vec<X509> {
    let name = |number: usize| {
        let mut name = X509Name::builder().expect("a name");
        name.append_entry_by_text("CN", &number.to_string())
            .expect("CN");
        name.build()
    };
    (0..length)
        .map(|number| {
            let mut builder = X509::builder().expect("a certificate");
            builder.set_version(2).expect("version");
            builder.set_subject_name(&name(number)).expect("subject");
            builder.set_issuer_name(&name(number + 1)).expect("issuer");
            builder.set_pubkey(key).expect("key");
            let [begin, end] = [0, 3650].map(|days| Asn1Time::days_from_now(days).expect("time"));
            builder.set_not_before(&begin).expect("begin");
            builder.set_not_after(&end).expect("end");
            builder.sign(key, MessageDigest::sha256()).expect("signed");
            builder.build()
        })
        .collect()
}

fn client(chain: &[X509], key: &PKey<Private>) -> Session {
    let mut builder = SslContextBuilder::new(SslMethod::dtls_client()).expect("context");
    let (leaf, others) = chain.split_first().expect("a leaf");
    builder.set_certificate(leaf).expect("leaf");
    for other in others {
        builder
            .add_extra_chain_cert(other.to_owned())
            .expect("chain");
    }
    builder.set_private_key(key).expect("key");
    builder
        .set_cipher_list("ECDHE-ECDSA-AES128-GCM-SHA256")
        .expect("suite");
    let mut ssl = Ssl::new(&builder.build()).expect("ssl");
    ssl.set_mtu(1024).expect("mtu");
    ssl.set_connect_state();
    let limits = Limits {
        handshake_message_bytes_max: 16 * 1024,
        forgery_limit: u32::MAX,
    };
    let mut session = Session12::new(ssl, limits, NOW + Duration::from_secs(90)).expect("session");
    session.drive();
    Session::from(session)
}

/// Shakes hands, and says what the server made of it and for how long it was at work.
fn shake(front: &Front, mut client: Session) -> (Session, Duration) {
    let mut server: Option<Session> = None;
    let mut work = Duration::ZERO;
    loop {
        let mut quiet = true;
        while let Some(datagram) = client.transmit() {
            quiet = false;
            let begun = Instant::now();
            match &mut server {
                Some(server) => {
                    let _ = server.receive(NOW, &datagram);
                }
                None => match front.receive(NOW, b"peer", &datagram) {
                    Hello::Answer(answer) => {
                        let _ = client.receive(NOW, &answer);
                    }
                    Hello::Accept(session) => server = Some(*session),
                    Hello::Dropped(reason) => panic!("dropped: {reason}"),
                },
            }
            work += begun.elapsed();
        }
        while let Some(datagram) = server.as_mut().and_then(Session::transmit) {
            quiet = false;
            let _ = client.receive(NOW, &datagram);
        }
        if quiet {
            return (server.expect("a session"), work);
        }
    }
}

fn front() -> Front {
    let today = OffsetDateTime::UNIX_EPOCH + Duration::from_secs(1_900_000_000);
    let pki = Pki::p256(today).expect("identities");
    Front::new(
        ServerConfig::new(vec![pki.domain.registrar.clone()]),
        [7; 32],
    )
    .expect("front")
}

/// The exponents of devices are small; a large one makes each signature cost as much as one that is
/// made, and a chain has room for many.
#[test]
fn slow_keys_are_refused_before_anything_is_computed_with_them() {
    let front = front();
    let key = slow_key(3072);
    for length in [12, 1] {
        let (server, work) = shake(&front, client(&chain(&key, length), &key));
        println!("{length} certificates with a slow key: {work:?}");
        assert!(server.is_closed(), "{length}: {:?}", server.state());
    }
}

/// OpenSSL looks at the first links only; the services get the whole chain.
#[test]
fn a_long_chain_is_passed_on() {
    let front = front();
    let key = PKey::from_rsa(Rsa::generate(2048).expect("a key")).expect("a key");
    let chain = chain(&key, 20);
    let (server, work) = shake(&front, client(&chain, &key));
    println!("20 certificates: {work:?}");
    assert_eq!(*server.state(), State::Established);
    let seen = &server.peer().expect("a peer").chain;
    let seen: Vec<Vec<u8>> = seen.iter().map(|one| one.der().to_vec()).collect();
    let sent: Vec<Vec<u8>> = chain.iter().map(|one| one.to_der().expect("DER")).collect();
    assert_eq!(seen, sent);
}
