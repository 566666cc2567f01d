//! Who asks, and what it may do.

use ::est::Operation;
use ::est::server::{Request, Standing, Transport};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use pki::path::{PathOptions, Purpose};
use pki::{Certificate, Coded as _};

use super::carry::Call;
use super::{Inner, Plain};
use crate::Error;
use crate::ca::records::{self as certificates, IssuedCertificate};
use crate::ca::{Holder, NamePlan, Names};
use crate::records;
use crate::service::{Attempt, Caller};

/// The peer of a request.
pub(super) struct Who<'a> {
    /// What it may do.
    pub(super) standing: Standing,
    /// Whose certificate it would be, if it may have one.
    pub(super) holder: Option<Holder>,
    /// The name templates that apply to it.
    pub(super) names: &'a NamePlan,
}

impl<'a> Who<'a> {
    fn refused(inner: &'a Inner, code: &'static str, reason: impl Into<String>) -> Self {
        Self {
            standing: Standing::Refused {
                code,
                reason: reason.into(),
            },
            holder: None,
            names: &inner.names,
        }
    }
}

/// Finds out who asks. A certificate of this domain counts first, then enrolment without BRSKI
/// where it is served, then the IDevID of a device with a voucher.
///
/// # Errors
/// The database or something behind us failed; what the peer lacks is its [`Standing`].
pub(super) async fn asks<'a>(
    inner: &'a Inner,
    attempt: &mut Attempt,
    call: &Call<'_>,
    request: &Request<'_>,
) -> Result<Who<'a>, Error> {
    let (caller, label) = (call.caller, call.label);
    // EST-3.2.2-04: without a label the same CA answers.
    let plain = inner
        .plain
        .as_ref()
        .filter(|plain| plain.label.is_none() || plain.label.as_deref() == label);
    let chain = caller.chain().unwrap_or_default();
    if let Some((leaf, others)) = chain.split_first() {
        if let Some(who) = member(inner, attempt, leaf, others).await? {
            return Ok(who);
        }
        if let Some(plain) = plain
            && let Some(who) = trusted_client(inner, plain, leaf, others)
        {
            return Ok(who);
        }
    }
    if let Some(plain) = plain {
        if let Some(who) = user(plain, call.authorization).await? {
            return Ok(who);
        }
        // A client without certificate, or with one that says nothing to us here, is asked for
        // credentials where there are any; the rest is a matter of vouchers.
        if plain.users.is_some() && (chain.is_empty() || plain.label.is_some()) {
            return Ok(Who {
                standing: Standing::Anonymous {
                    credentials_offered: true,
                },
                holder: None,
                names: &plain.names,
            });
        }
    }
    if defects::seeded!("est-enrols-anybody", "est-renews-for-anybody") {
        return Ok(Who {
            standing: Standing::MayEnrol,
            holder: Some(Holder {
                id: "est:anybody".to_owned(),
                is_device: false,
                names_from_request: true,
                scope: String::new(),
                names: Names::default(),
            }),
            names: &inner.names,
        });
    }
    if chain.is_empty() && caller.chain().is_ok() {
        return Ok(Who {
            standing: Standing::Anonymous {
                credentials_offered: false,
            },
            holder: None,
            names: &inner.names,
        });
    }
    if matches!(request.operation, Operation::CaCerts | Operation::CsrAttrs) {
        return Ok(device_without_voucher(
            inner,
            attempt,
            caller,
            request.transport,
        ));
    }
    device(inner, attempt, caller).await
}

/// A holder of a certificate that this registrar obtained.
async fn member<'a>(
    inner: &'a Inner,
    attempt: &mut Attempt,
    leaf: &Certificate,
    others: &[Certificate],
) -> Result<Option<Who<'a>>, Error> {
    let service = &inner.service;
    let id = hex::encode(leaf.sha256());
    let mut snapshot = service.store().lookup().await?;
    let Some(known) = certificates::by_id(&mut snapshot, &id).await? else {
        return Ok(None);
    };
    let device = records::device(&mut snapshot, &known.holder).await?;
    let withdrawn = certificates::is_withdrawn(&mut snapshot, &known).await?;
    let denied = match &device {
        Some(device) => service.denied(&mut snapshot, device).await?,
        None => None,
    };
    drop(snapshot);
    if let Some(device) = &device {
        attempt.sighting = device.sighting();
    }
    if withdrawn {
        return Ok(Some(Who::refused(
            inner,
            "est.certificate-revoked",
            "the certificate, or the one that took its place, is revoked",
        )));
    }
    if denied.is_some() {
        return Ok(Some(Who::refused(
            inner,
            "registrar.device-denied",
            "the operator denies it",
        )));
    }
    // EST-3.3.2-02: "Certificates are validated according to RFC 5280".
    let mut anchors = service.keys().anchors.clone();
    anchors.extend(
        service
            .ca()
            .map(|ca| ca.ca_certificates())
            .unwrap_or_default(),
    );
    let options = PathOptions::new(Purpose::Client, service.now());
    if let Err(error) = pki::path::validate(leaf, others, &anchors, &options) {
        return Ok(Some(Who::refused(inner, error.code(), error.to_string())));
    }
    let plain_names = inner.plain.as_ref().map(|plain| &plain.names);
    let names = if device.is_some() { None } else { plain_names };
    Ok(Some(Who {
        standing: Standing::Member {
            current: leaf.clone(),
            may_enrol: service.config().est.additional_certificates,
        },
        holder: Some(member_holder(inner, known, device.as_ref(), leaf)),
        names: names.unwrap_or(&inner.names),
    }))
}

fn member_holder(
    inner: &Inner,
    known: IssuedCertificate,
    device: Option<&records::Device>,
    leaf: &Certificate,
) -> Holder {
    let names = match device {
        Some(device) => Names {
            acp: inner.acp_names.name_of(&device.serial),
            serial: Some(device.serial.clone()),
            product: device.product.clone(),
            vendor: Some(device.vendor.clone()),
            name: None,
        },
        None => Names {
            name: common_name(leaf),
            ..Names::default()
        },
    };
    Holder {
        id: known.holder,
        is_device: device.is_some(),
        names_from_request: false,
        // A request to renew is a repetition only for the same old certificate.
        scope: known.certificate_id,
        names,
    }
}

/// A client of a configured CA.
fn trusted_client<'a>(
    inner: &Inner,
    plain: &'a Plain,
    leaf: &Certificate,
    others: &[Certificate],
) -> Option<Who<'a>> {
    let mut options = PathOptions::new(Purpose::Client, inner.service.now());
    if defects::seeded!("est-ignores-validity") {
        options.at = None;
    }
    let named_alike = plain
        .anchors
        .iter()
        .any(|anchor| anchor.subject_der() == leaf.issuer_der());
    let believed = match named_alike {
        true => defects::seeded!("est-trusts-any-client", "est-trusts-the-issuer-name"),
        false => defects::seeded!("est-trusts-any-client"),
    };
    if !believed {
        pki::path::validate(leaf, others, &plain.anchors, &options).ok()?;
    }
    // EST-3.7-01: "If the client's certificate was issued by the EST CA, and it includes the
    // id-kp-cmcRA [...] extended key usage extension, then the client is a Registration Authority".
    let speaks_for_others = plain.registration_authorities && leaf.has_cmc_ra();
    let kind = if speaks_for_others {
        "authority"
    } else {
        "client"
    };
    Some(Who {
        standing: Standing::MayEnrol,
        holder: Some(Holder {
            id: format!("est:{kind}:{}", hex::encode(leaf.public_key().sha256())),
            is_device: false,
            names_from_request: speaks_for_others,
            scope: hex::encode(leaf.sha256()),
            names: Names {
                serial: leaf.subject_serial_number(),
                name: common_name(leaf).or_else(|| leaf.subject_serial_number()),
                ..Names::default()
            },
        }),
        names: &plain.names,
    })
}

/// A user with the right password.
async fn user<'a>(plain: &'a Plain, authorization: Option<&str>) -> Result<Option<Who<'a>>, Error> {
    let Some(users) = &plain.users else {
        return Ok(None);
    };
    let Some((name, password)) = authorization.and_then(basic) else {
        return Ok(None);
    };
    if !users.check(&name, &password).await.ok_or(Error::Busy)? {
        return Ok(None);
    }
    Ok(Some(Who {
        standing: Standing::MayEnrol,
        holder: Some(Holder {
            id: format!("est:user:{name}"),
            is_device: false,
            names_from_request: false,
            scope: "user".to_owned(),
            names: Names {
                name: Some(name),
                ..Names::default()
            },
        }),
        names: &plain.names,
    }))
}

/// Name and password of an Authorization header, by RFC 7617.
fn basic(value: &str) -> Option<(String, String)> {
    let (scheme, token) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(token.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

/// A device that only reads: CSR attributes are made for it, and they are no secret. Over CoAP it
/// has to be one that a vendor vouches for.
fn device_without_voucher<'a>(
    inner: &'a Inner,
    attempt: &mut Attempt,
    caller: &Caller,
    transport: Transport,
) -> Who<'a> {
    let presented = inner.service.identify(attempt, caller);
    let standing = match (&presented, transport) {
        (_, Transport::Https) => Standing::Anonymous {
            credentials_offered: false,
        },
        (Ok(_), Transport::Coaps { .. }) => Standing::Known,
        (Err(error), Transport::Coaps { .. }) => Standing::Refused {
            code: error.code(),
            reason: error.to_string(),
        },
    };
    let holder = presented.ok().map(|presented| Holder {
        id: attempt.sighting.device_id.clone(),
        is_device: true,
        names_from_request: false,
        scope: String::new(),
        names: Names {
            acp: inner.acp_names.name_of(&presented.device.key.serial),
            serial: Some(presented.device.key.serial.clone()),
            product: presented.product.clone(),
            vendor: Some(presented.device.vendor.clone()),
            name: None,
        },
    });
    Who {
        standing,
        holder,
        names: &inner.names,
    }
}

/// A device with a valid voucher exchange.
async fn device<'a>(
    inner: &'a Inner,
    attempt: &mut Attempt,
    caller: &Caller,
) -> Result<Who<'a>, Error> {
    let presented = match inner.service.may_enrol(attempt, caller).await {
        Ok(presented) => presented,
        Err(error) if error.is_refusal() => {
            return Ok(Who::refused(inner, error.code(), error.to_string()));
        }
        Err(error) => return Err(error),
    };
    let id = attempt.sighting.device_id.clone();
    let mut snapshot = inner.service.store().lookup().await?;
    let exchange = records::latest_exchange(&mut snapshot, &id).await?;
    drop(snapshot);
    Ok(Who {
        standing: Standing::MayEnrol,
        holder: Some(Holder {
            id,
            is_device: true,
            names_from_request: false,
            // A device that was bootstrapped anew gets a new certificate, even for an old request.
            scope: exchange.map(|row| row.exchange_id).unwrap_or_default(),
            names: Names {
                acp: inner.acp_names.name_of(&presented.device.key.serial),
                serial: Some(presented.device.key.serial.clone()),
                product: presented.product.clone(),
                vendor: Some(presented.device.vendor.clone()),
                name: None,
            },
        }),
        names: &inner.names,
    })
}

fn common_name(certificate: &Certificate) -> Option<String> {
    certificate
        .x509()
        .tbs_certificate()
        .subject()
        .iter()
        .find(|attribute| attribute.oid == ::est::csrattrs::oids::COMMON_NAME)
        .and_then(|attribute| String::from_utf8(attribute.value.value().to_vec()).ok())
}
