//! From a proper request to a certificate: once, recorded, and to its rightful holder.

use std::sync::Arc;
use std::time::Duration;

use pki::{Certificate, Csr, PublicKey};
use store::{Connection, Store};
use time::OffsetDateTime;

use super::names::{alt_names_in, alt_names_of, same_names};
use super::records::{self, IssuedCertificate, NewCertificate};
use super::{CaError, CertificateAuthority, Issued, NamePlan, Names, Order};
use crate::records::{Decision, Entry, Outcome, State, append, device, latest_exchange, set_state};

/// Who gets a certificate.
#[derive(Clone, Debug)]
pub struct Holder {
    /// The device's row, or `est:…` for enrolment without BRSKI.
    pub id: String,
    /// Whether there is a row in the device table to keep up to date.
    pub is_device: bool,
    /// Whether the names are taken from the request, because the peer speaks for others.
    pub names_from_request: bool,
    /// What the certificate is issued for: the voucher exchange, or the certificate that is
    /// renewed. The same request in the same scope gets the same certificate.
    pub scope: String,
    /// What the name templates may use.
    pub names: Names,
}

/// A request that may be granted.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The request.
    pub csr: &'a Csr,
    /// The key, if it is not that of the request.
    pub generated: Option<&'a PublicKey>,
    /// The certificate that is renewed.
    pub replaces: Option<&'a Certificate>,
    /// The correlation id of the HTTP request.
    pub correlation: &'a str,
    /// What is to be written into the timeline before it.
    pub entries: Vec<Entry>,
    /// What else belongs into the timeline.
    pub detail: serde_json::Value,
}

/// What came of it.
#[derive(Clone, Debug)]
pub enum Certified {
    /// A certificate, issued now.
    New(Certificate),
    /// The certificate that the same request got before.
    Again(Certificate),
    /// The CA wants to be asked again.
    Pending {
        /// When.
        retry_after: Duration,
    },
}

/// How often a serial number that is taken is replaced by another. With 127 random bits, once is
/// a sign of a broken random number generator.
const SERIAL_ATTEMPTS_MAX: u32 = 3;

/// Gets a certificate from the CA and writes it down; or finds the one that the same request got
/// before.
///
/// # Errors
/// Each cause has its own code; see [`CaError`].
pub async fn certify(
    store: &Store,
    ca: &Arc<dyn CertificateAuthority>,
    plan: &NamePlan,
    holder: &Holder,
    wanted: &Wanted<'_>,
    now: OffsetDateTime,
) -> Result<Certified, CaError> {
    let public_key = wanted.generated.unwrap_or_else(|| wanted.csr.public_key());
    let request_digest = hex::encode(digest(wanted.csr.der()));
    let public_key_digest = hex::encode(public_key.sha256());

    let mut snapshot = store.lookup().await?;
    let earlier =
        records::for_request(&mut snapshot, &holder.id, &holder.scope, &request_digest).await?;
    // A key that is generated here is never the same again, so neither is the answer.
    if wanted.generated.is_none()
        && let Some(known) = usable(&earlier, now)
    {
        if defects::seeded!("est-refuses-a-repetition") {
            return Err(CaError::KeyInUse);
        }
        return Ok(Certified::Again(Certificate::from_der(&known.der)?));
    }
    // Without this, whoever overhears a request could have its key certified under another name:
    // the proof of possession in it says who holds the key, and not who sends it.
    if records::key_of_another(&mut snapshot, &holder.id, &public_key_digest).await? {
        return Err(CaError::KeyInUse);
    }
    drop(snapshot);

    let order = order(ca, plan, holder, wanted, public_key)?;
    for _ in 0..SERIAL_ATTEMPTS_MAX {
        let certificate = match ca.issue(&order, now).await? {
            Issued::Certificate(certificate) => certificate,
            Issued::Pending { retry_after } => return Ok(Certified::Pending { retry_after }),
        };
        if certificate.public_key() != public_key {
            return Err(CaError::Answer(
                "the certificate is for another key".to_owned(),
            ));
        }
        let new = NewCertificate {
            holder: holder.id.clone(),
            scope: holder.scope.clone(),
            request_key: request_key(holder, &request_digest, earlier.len(), wanted, &certificate),
            request_digest: request_digest.clone(),
            origin: ca.kind(),
            replaces: wanted
                .replaces
                .map(|replaced| hex::encode(replaced.sha256())),
            issued: now,
            certificate,
        };
        match write(store, &new, holder, wanted, now).await? {
            Written::New => return Ok(Certified::New(new.certificate)),
            Written::Known(der) => return Ok(Certified::Again(Certificate::from_der(&der)?)),
            Written::KeyInUse => return Err(CaError::KeyInUse),
            Written::Withdrawn(code) => {
                // A CA elsewhere counts it as issued; here nobody will ever see it.
                tracing::warn!(
                    code,
                    device = holder.id,
                    serial_number = hex::encode(new.certificate.serial_number()),
                    "a certificate is thrown away: the right to it was taken away meanwhile"
                );
                return Err(CaError::Withdrawn(code));
            }
            Written::SerialTaken => {}
        }
    }
    Err(CaError::Answer(
        "its serial numbers are all taken".to_owned(),
    ))
}

fn order(
    ca: &Arc<dyn CertificateAuthority>,
    plan: &NamePlan,
    holder: &Holder,
    wanted: &Wanted<'_>,
    public_key: &PublicKey,
) -> Result<Order, CaError> {
    // A renewed certificate keeps its names, whatever the templates say by now: that is what the
    // request was compared with.
    let (subject, alt_names) = match wanted.replaces {
        Some(current) => {
            let tbs = current.x509().tbs_certificate();
            (tbs.subject().clone(), alt_names_of(current)?)
        }
        None if defects::seeded!("est-copies-the-subject") => {
            let subject = wanted.csr.subject_name().clone();
            (subject, plan.alt_names(&holder.names)?)
        }
        None if defects::seeded!("est-copies-host-names") => (
            plan.subject(&holder.names)?,
            wanted
                .csr
                .subject_alt_name_der()
                .map_err(|_| CaError::CsrNames)
                .and_then(|der| alt_names_in(der.as_deref()).map_err(|_| CaError::CsrNames))?,
        ),
        None if holder.names_from_request => (
            wanted.csr.subject_name().clone(),
            wanted
                .csr
                .subject_alt_name_der()
                .map_err(|_| CaError::CsrNames)
                .and_then(|der| alt_names_in(der.as_deref()).map_err(|_| CaError::CsrNames))?,
        ),
        None => (plan.subject(&holder.names)?, plan.alt_names(&holder.names)?),
    };
    let order = Order {
        csr: wanted.csr.clone(),
        public_key: public_key.clone(),
        subject,
        alt_names,
        replaces: wanted.replaces.cloned(),
    };
    // BRSKI-5.9.2-02: "The registrar MUST also confirm that the resulting CSR is formatted as
    // indicated before forwarding the request to a CA."
    if ca.takes_names_from_request() && !names_agree(&order) {
        return Err(CaError::CsrNames);
    }
    Ok(order)
}

/// Whether the request asks for exactly the names that the registrar would give.
fn names_agree(order: &Order) -> bool {
    if order.csr.subject_name().to_string() != order.subject.to_string() {
        return false;
    }
    let Ok(der) = order.csr.subject_alt_name_der() else {
        return false;
    };
    alt_names_in(der.as_deref()).is_ok_and(|asked| same_names(&asked, &order.alt_names))
}

fn usable(earlier: &[IssuedCertificate], now: OffsetDateTime) -> Option<&IssuedCertificate> {
    earlier
        .iter()
        .find(|known| known.revoked.is_none() && now <= known.not_after)
}

fn request_key(
    holder: &Holder,
    request_digest: &str,
    generation: usize,
    wanted: &Wanted<'_>,
    certificate: &Certificate,
) -> String {
    if wanted.generated.is_some() {
        return format!("generated/{}", hex::encode(certificate.sha256()));
    }
    // Two of the same requests at once find the same number of earlier certificates and so make
    // the same key, of which the database takes one.
    let text = format!(
        "{}\n{}\n{request_digest}\n{generation}",
        holder.id, holder.scope
    );
    hex::encode(digest(text.as_bytes()))
}

fn digest(bytes: &[u8]) -> Vec<u8> {
    aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes)
        .as_ref()
        .to_vec()
}

enum Written {
    New,
    Known(Vec<u8>),
    KeyInUse,
    SerialTaken,
    Withdrawn(&'static str),
}

async fn write(
    store: &Store,
    new: &NewCertificate,
    holder: &Holder,
    wanted: &Wanted<'_>,
    now: OffsetDateTime,
) -> Result<Written, CaError> {
    let (new, holder) = (new.clone(), holder.clone());
    let correlation = wanted.correlation.to_owned();
    let (before, detail) = (wanted.entries.clone(), wanted.detail.clone());
    store
        .transaction("registrar-certificate", move |connection| {
            let (new, holder) = (new.clone(), holder.clone());
            let (correlation, detail) = (correlation.clone(), detail.clone());
            let mut entries = before.clone();
            Box::pin(async move {
                let public_key = hex::encode(new.certificate.public_key().sha256());
                if let Some(code) = withdrawn(connection, &holder, &new).await? {
                    return Ok(Written::Withdrawn(code));
                }
                if records::key_of_another(connection, &holder.id, &public_key).await? {
                    return Ok(Written::KeyInUse);
                }
                if !records::insert(connection, &new).await? {
                    let known = records::for_request(
                        connection,
                        &new.holder,
                        &new.scope,
                        &new.request_digest,
                    )
                    .await?;
                    return Ok(match usable(&known, now) {
                        Some(known) => Written::Known(known.der.clone()),
                        None => Written::SerialTaken,
                    });
                }
                let certificate_id = hex::encode(new.certificate.sha256());
                let serial_number = hex::encode(new.certificate.serial_number());
                store::audit::append(
                    connection,
                    &store::audit::Entry {
                        at: now,
                        kind: "certificate-issued".to_owned(),
                        actor: "registrar".to_owned(),
                        subject: holder.id.clone(),
                        data: serde_json::json!({
                            "certificate": certificate_id,
                            "serial-number": serial_number,
                            "subject": new.certificate.subject(),
                            "public-key": public_key,
                            "scope": holder.scope,
                            "replaces": new.replaces,
                            "origin": new.origin,
                        }),
                    },
                )
                .await?;
                let verb = if new.replaces.is_some() {
                    "renewed"
                } else {
                    "issued"
                };
                let entry = Entry::new(
                    now,
                    if new.replaces.is_some() {
                        "reenrol"
                    } else {
                        "enrol"
                    },
                    format!(
                        "certificate {serial_number} {verb} for {}",
                        new.certificate.subject()
                    ),
                )
                .outcome(Outcome::Ok)
                .detail(serde_json::json!({
                    "certificate": certificate_id,
                    "not-after": crate::records::rfc3339(new.certificate.not_after()),
                    "request": detail,
                }));
                entries.push(entry);
                append(connection, &holder.id, &correlation, &entries).await?;
                if holder.is_device {
                    set_state(connection, &holder.id, State::Enrolled, None, None).await?;
                }
                Ok(Written::New)
            })
        })
        .await
}

/// The code of what took the right to the certificate away while the CA worked, which can take as
/// long as somebody else's CA likes.
async fn withdrawn(
    connection: &mut Connection,
    holder: &Holder,
    new: &NewCertificate,
) -> Result<Option<&'static str>, CaError> {
    if holder.is_device
        && let Some(device) = device(connection, &holder.id).await?
        && device.decision == Some(Decision::Denied)
    {
        return Ok(Some("registrar.device-denied"));
    }
    let revoked = match &new.replaces {
        Some(replaced) => match records::by_id(connection, replaced).await? {
            Some(replaced) => records::is_withdrawn(connection, &replaced).await?,
            None => false,
        },
        None if holder.is_device => match latest_exchange(connection, &holder.id).await? {
            Some(row) => {
                let begun = row.exchange.begun_at;
                records::revoked_since(connection, &holder.id, begun).await?
            }
            None => false,
        },
        None => false,
    };
    Ok(revoked.then_some("est.certificate-revoked"))
}
