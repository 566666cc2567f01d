//! Renewing the certificate over CoAPs (draft-ietf-anima-constrained-voucher §6.7.4), and keys that
//! the registrar makes ([RFC 9148 §4.8](https://www.rfc-editor.org/rfc/rfc9148.html#section-4.8)).

use std::sync::Arc;

use ::est::{
    client::{CaCertificates, DomainTrust, reenrol_request},
    coaps::Operation,
    csrattrs::Requirements,
};
use artifacts::VoucherStatus;
use brski::pledge::{Enrolled, Machine, Phase};
use coap::Response;
use pki::{Certificate, Coded, Identity, Signer, path::Anchors};
use time::OffsetDateTime;

use super::{Config, EstClient, NetTransport, Transport, est::diagnostic, translate::shown};
use crate::{
    Error,
    brski::{DeviceClock, Enrolment, Renewal, StepRecord, Store, Stored, kind_of, ldevid, publish},
};

/// What the registrar made.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The new certificate with its key.
    pub identity: Identity,
    /// What the device did, in order.
    pub steps: Vec<StepRecord>,
}

/// Renews the domain certificate with a new key.
///
/// The new key is on disk before the request leaves, and the state names key and certificate
/// together, so a power cut leaves the device with the old pair or with the new one.
///
/// # Errors
/// If the device is not enrolled, the registrar is not the domain's, what it issued may not be
/// used, or the device's own surroundings fail.
pub async fn renew(config: &Config) -> Result<Renewal, Error> {
    renew_with(config, NetTransport::default()).await
}

/// The same over a transport of the caller's.
///
/// # Errors
/// As [`renew`].
pub async fn renew_with<T: Transport>(config: &Config, transport: T) -> Result<Renewal, Error> {
    let mut device = Device::open(config)?;
    let mut client = device.connect(transport).await?;
    let generation = device.stored.key_generation;
    let previous = device
        .current
        .certificate()
        .ok_or(Error::NotEnrolled)?
        .clone();
    let old_key = device
        .store
        .existing_key(generation)?
        .ok_or(Error::NotEnrolled)?;
    let kind = kind_of(&old_key).unwrap_or(config.device.key_kind);
    let key = device.store.key(generation + 1, kind)?;
    let csr = reenrol_request(&previous, &Requirements::none(), None, key.as_ref())?;
    let response = client.enrol(Operation::SimpleReenroll, &csr).await?;
    if !response.code.is_success() {
        return Ok(Renewal {
            identity: None,
            previous,
            steps: client.close().await,
            refusal: Some(refusal(&response)),
        });
    }
    let judge =
        |trust: &DomainTrust, at| EstClient::<T>::judge(&response, key.public_key(), trust, at);
    let at = device.at();
    let (mut bag, mut trust) = (device.bag()?, device.trust()?);
    let mut done = judge(&trust, at);
    if done.is_err() {
        // CBR-073: If the new LDevID does not chain to the TA database the client fetches /crts.
        let fetched = new_trust(&mut client, at).await;
        done = match fetched {
            Ok((new_bag, new)) => {
                (bag, trust) = (new_bag, new);
                judge(&trust, at)
            }
            Err(error) => Err(error),
        };
    }
    let done = match done {
        Ok(done) => done,
        Err(error) => {
            // CBR-074: If the new LDevID chains neither to old nor to new anchors, neither LDevID
            // nor TA database is changed.
            // CBR-075: That failure aborts re-enrolment and is reported with status=false to /es.
            let status = VoucherStatus::failure(error.code(), None);
            let _ = client.report(&status).await;
            client.close().await;
            return Err(error);
        }
    };
    let steps = client.close().await;
    let signer: Arc<dyn Signer> = key;
    let identity = Identity::new(done.chain, signer)?;
    device.switch_to(&identity, &bag, trust)?;
    Ok(Renewal {
        identity: Some(identity),
        previous,
        steps,
        refusal: None,
    })
}

/// Lets the registrar make a key and a certificate for it, and switches to both. With `bare` the
/// certificate comes without a bag around it (`skc`).
///
/// # Errors
/// As [`renew`]; a refusal is an error here.
pub async fn generate(config: &Config, bare: bool) -> Result<Generated, Error> {
    let mut device = Device::open(config)?;
    let mut client = device.connect(NetTransport::default()).await?;
    let previous = device.current.certificate().ok_or(Error::NotEnrolled)?;
    // The request is signed with the key that the device has; it says who asks and for what name.
    let signer = device.current.signer.as_ref();
    let csr = reenrol_request(previous, &Requirements::none(), None, signer)?;
    let operation = if bare {
        Operation::ServerKeyGenCertificate
    } else {
        Operation::ServerKeyGen
    };
    let (bag, trust) = (device.bag()?, device.trust()?);
    let made = client
        .generate(operation, &csr, &trust, device.at())
        .await?;
    let steps = client.close().await;
    let generation = device.stored.key_generation;
    let key = device.store.adopt_key(generation + 1, made.key)?;
    let signer: Arc<dyn Signer> = key;
    let identity = Identity::new(made.enrolled.chain, signer)?;
    device.switch_to(&identity, &bag, trust)?;
    Ok(Generated { identity, steps })
}

/// The code and the text of a refusal.
fn refusal(response: &Response) -> (u16, String) {
    (shown(response.code), diagnostic(response))
}

async fn new_trust<T: Transport>(
    client: &mut EstClient<'_, T>,
    at: Option<OffsetDateTime>,
) -> Result<(Vec<Certificate>, DomainTrust), Error> {
    let bag = client.ca_certificates().await?;
    let trust = bag.judge(None, at)?;
    Ok((bag.certificates().to_vec(), trust))
}

/// An enrolled device with its state.
struct Device<'a> {
    config: &'a Config,
    store: Store,
    stored: Stored,
    enrolled: Enrolled,
    current: Identity,
    clock: DeviceClock,
}

impl<'a> Device<'a> {
    fn open(config: &'a Config) -> Result<Self, Error> {
        let device = &config.device;
        let store = Store::open(device.state_folder.clone(), device.key_passphrase.clone())?;
        let stored = store.load(&device.idevid)?.ok_or(Error::NotEnrolled)?;
        let machine = Machine::resume(device.pledge(), stored.pledge.clone());
        let Phase::Enrolled(enrolled) = machine.state().phase.clone() else {
            return Err(Error::NotEnrolled);
        };
        let current = ldevid(&store, &machine.state().phase, stored.key_generation)?;
        Ok(Self {
            config,
            store,
            stored,
            enrolled,
            current,
            clock: DeviceClock::starting_at(device.starts_at),
        })
    }

    /// CBR-071: Re-enrolment authenticates DTLS with the current LDevID.
    async fn connect<T: Transport>(&self, transport: T) -> Result<EstClient<'a, T>, Error> {
        let identity = self.current.clone();
        let origin = &self.enrolled.origin;
        let client = EstClient::connect(self.config, transport, origin, identity).await?;
        let anchors: Anchors = self.trust()?.anchors().cloned().collect();
        client.check_server(&anchors, self.at())?;
        Ok(client)
    }

    /// The time to judge dates by.
    fn at(&self) -> Option<OffsetDateTime> {
        let device = &self.config.device;
        device.clock.is_trusted().then(|| self.clock.now())
    }

    fn bag(&self) -> Result<Vec<Certificate>, Error> {
        let mut bag = Vec::new();
        for der in &self.enrolled.ca_certificates {
            bag.push(Certificate::from_der(der)?);
        }
        Ok(bag)
    }

    fn trust(&self) -> Result<DomainTrust, Error> {
        Ok(CaCertificates::new(self.bag()?).judge(None, self.at())?)
    }

    /// From now on the device is somebody else: one write names certificate, key and anchors.
    fn switch_to(
        mut self,
        identity: &Identity,
        bag: &[Certificate],
        trust: DomainTrust,
    ) -> Result<(), Error> {
        let generation = self.stored.key_generation;
        let leaf = identity.certificate().ok_or(Error::NotEnrolled)?;
        let ders = |all: &[Certificate]| all.iter().map(|one| one.der().to_vec()).collect();
        let mut renewed = self.enrolled;
        renewed.certificate = leaf.der().to_vec();
        renewed.chain = ders(&identity.chain);
        renewed.anchor = trust.anchor.der().to_vec();
        renewed.ca_certificates = ders(bag);
        let mut pledge = self.stored.pledge;
        pledge.phase = Phase::Enrolled(renewed.clone());
        let idevid = &self.config.device.idevid;
        self.store
            .save(&Stored::new(idevid, pledge, generation + 1))?;
        self.store.forget_key(generation);
        publish(
            &self.store,
            &Enrolment {
                identity: identity.clone(),
                anchor: trust.anchor,
                registrar: None,
                voucher: renewed.voucher,
                assertion: renewed.assertion,
                reported: renewed.reported,
                origin: renewed.origin,
            },
        )
    }
}
