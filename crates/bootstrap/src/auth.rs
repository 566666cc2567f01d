//! Who a device is: by the certificate of its TLS connection, by HTTP Basic where its type allows
//! that, and by both only if both say the same.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use brski::{SerialRule, Template};
use http::{HeaderMap, header};
use net::Peer;
use pki::{Certificate, Coded as _};
use time::OffsetDateTime;

use crate::vendor::Vendors;

/// Judged chains that are kept; when there are more, all are forgotten.
const CHAINS_MAX: usize = 8192;
/// How long the judgement of a chain is believed.
const CHAIN_TIME_MAX: Duration = Duration::from_secs(60);
/// How some manufacturers write a model and a serial number into one attribute.
const PID_AND_SERIAL: &str = "PID:* SN:{serial}";
/// Longest credential that is looked at.
const CREDENTIAL_LENGTH_MAX: usize = 1024;
/// Longest `Client-Cert` or `Client-Cert-Chain` field that is looked at.
const CLIENT_CERT_LENGTH_MAX: usize = 32 * 1024;
/// Certificates of a chain that a proxy hands on.
const CLIENT_CERT_CHAIN_MAX: usize = 8;
/// Addresses whose failures are counted; when there are more, all are forgotten.
const ADDRESSES_MAX: usize = 65_536;

/// An identity that a certificate proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The manufacturer whose anchors vouch for it.
    pub vendor: String,
    /// The serial number by that manufacturer's rule.
    pub serial: String,
    /// The certificate.
    pub certificate: Certificate,
}

/// Why a certificate proves nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unproven {
    /// The code.
    pub code: &'static str,
    /// The reason.
    pub detail: String,
    /// The subject of what was shown, if it could be read.
    pub subject: Option<String>,
    /// The serial number in it. Anybody can write one there: it is for the eyes of an operator who
    /// looks for a device that is refused, and for nothing else.
    pub claimed_serial: Option<String>,
}

/// A user name and a password, as they came.
#[derive(Clone, PartialEq, Eq)]
pub struct Basic {
    /// The serial number that the device says it has.
    pub user: String,
    /// What proves it.
    pub password: String,
}

impl std::fmt::Debug for Basic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Basic")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// What a request shows about its sender, before anything is looked up.
#[derive(Clone, Debug)]
pub struct Shown {
    /// What its certificate says, if it has one.
    pub certificate: Option<Result<Proven, Unproven>>,
    /// Its HTTP credentials, if there are any that can be read.
    pub basic: Option<Basic>,
    /// Whether there is an Authorization field that is not readable Basic.
    pub other_authorization: bool,
}

impl Shown {
    /// The identity in one line, for the timeline.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut parts = Vec::new();
        match &self.certificate {
            Some(Ok(proven)) => parts.push(format!(
                "certificate {} ({})",
                proven.certificate.subject(),
                proven.vendor
            )),
            Some(Err(unproven)) => parts.push(format!(
                "unproven certificate {}",
                unproven.subject.as_deref().unwrap_or("(unreadable)")
            )),
            None => {}
        }
        if let Some(basic) = &self.basic {
            parts.push(format!("basic {}", basic.user));
        }
        if self.other_authorization {
            parts.push("an Authorization that is not Basic".to_owned());
        }
        if parts.is_empty() {
            parts.push("nothing".to_owned());
        }
        parts.join("; ")
    }
}

/// Judges chains and remembers for a moment how it judged.
#[derive(Debug, Default)]
pub struct Judge {
    chains: Mutex<HashMap<[u8; 32], Judged>>,
}

/// A chain that was found good.
#[derive(Debug)]
struct Judged {
    at: Instant,
    proven: Arc<Proven>,
}

impl Judge {
    /// Everything that a request shows. `proxies` are the addresses whose `Client-Cert` counts.
    #[must_use]
    pub fn look(
        &self,
        peer: &Peer,
        headers: &HeaderMap,
        vendors: &Vendors,
        proxies: &[IpAddr],
        now: OffsetDateTime,
    ) -> (Shown, bool) {
        let (basic, other_authorization) = basic(headers);
        let mut remembered = false;
        // A proxy's own certificate is the proxy's, so behind one only the header counts.
        let certificate = if proxies.contains(&canonical(peer.address.ip())) {
            forwarded(headers).map(|shown| match shown {
                Ok(chain) => judge(&chain, vendors, now),
                Err(detail) => Err(Unproven {
                    code: "bootstrap.client-cert-header",
                    detail,
                    subject: None,
                    claimed_serial: None,
                }),
            })
        } else {
            match peer.chain() {
                Ok([]) => None,
                Ok(chain) => {
                    let (result, known) = self.chain(chain, vendors, now);
                    remembered = known;
                    Some(result)
                }
                Err(error) => Some(Err(Unproven {
                    code: error.code(),
                    detail: error.to_string(),
                    subject: None,
                    claimed_serial: None,
                })),
            }
        };
        let shown = Shown {
            certificate,
            basic,
            other_authorization,
        };
        (shown, remembered)
    }

    /// Forgets all judgements: the anchors changed.
    pub fn forget(&self) {
        self.chains
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    fn chain(
        &self,
        chain: &[Certificate],
        vendors: &Vendors,
        now: OffsetDateTime,
    ) -> (Result<Proven, Unproven>, bool) {
        let mut context = digest::Context::new(&digest::SHA256);
        for certificate in chain {
            context.update(certificate.der());
        }
        let mut key = [0; 32];
        key.copy_from_slice(context.finish().as_ref());
        let known = self
            .chains
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .filter(|judged| judged.at.elapsed() < CHAIN_TIME_MAX)
            .map(|judged| Arc::clone(&judged.proven));
        if let Some(proven) = known {
            return (Ok(proven.as_ref().clone()), true);
        }
        let result = judge(chain, vendors, now);
        if let Ok(proven) = &result {
            let mut chains = self.chains.lock().unwrap_or_else(PoisonError::into_inner);
            if chains.len() >= CHAINS_MAX {
                chains.clear();
            }
            let judged = Judged {
                at: Instant::now(),
                proven: Arc::new(proven.clone()),
            };
            chains.insert(key, judged);
        }
        (result, false)
    }
}

/// The chain is verified before any identity is read from it.
fn judge(
    chain: &[Certificate],
    vendors: &Vendors,
    now: OffsetDateTime,
) -> Result<Proven, Unproven> {
    match brski::registrar::identify(chain, vendors.profiles(), now) {
        Ok(device) => Ok(Proven {
            vendor: device.vendor,
            serial: device.key.serial,
            certificate: device.certificate,
        }),
        Err(refusal) => Err(Unproven {
            code: refusal.code(),
            detail: refusal.to_string(),
            subject: chain.first().map(Certificate::subject),
            claimed_serial: claimed_serial(chain, vendors),
        }),
    }
}

/// The serial number that a chain claims: by the rule of the manufacturer that bears the name of
/// the issuer, else by any rule of a manufacturer with a pattern that fits, else where IDevIDs
/// have it.
fn claimed_serial(chain: &[Certificate], vendors: &Vendors) -> Option<String> {
    let leaf = chain.first()?;
    let issuer_of = |vendor: &&crate::vendor::Vendor| {
        vendor.idevid_certificates.iter().any(|anchor| {
            chain
                .iter()
                .any(|shown| shown.issuer_der() == anchor.subject_der())
        })
    };
    let pattern = |vendor: &&crate::vendor::Vendor| {
        matches!(
            vendor.file.serial,
            SerialRule::SubjectSerialNumberTemplate(_) | SerialRule::CommonNameTemplate(_)
        )
    };
    let named = vendors.list.iter().filter(issuer_of);
    let fitting = vendors.list.iter().filter(pattern);
    let mut rules = named
        .chain(fitting)
        .map(|vendor| vendor.file.serial.clone())
        .chain(
            Template::try_from(PID_AND_SERIAL.to_owned())
                .map(SerialRule::SubjectSerialNumberTemplate),
        )
        .chain([
            SerialRule::SubjectSerialNumber,
            SerialRule::HardwareModuleName,
            SerialRule::CommonName,
        ]);
    rules.find_map(|rule| rule.serial_of(leaf))
}

/// The chain in the fields of RFC 9440: byte sequences of RFC 8941, `:base64:`.
fn forwarded(headers: &HeaderMap) -> Option<Result<Vec<Certificate>, String>> {
    let leaf = headers.get("client-cert")?;
    let read = || -> Result<Vec<Certificate>, String> {
        let leaf = leaf
            .to_str()
            .map_err(|_| "Client-Cert is not ASCII".to_owned())?;
        let mut chain = vec![byte_sequence(leaf)?];
        if headers.get_all("client-cert").iter().count() > 1 {
            return Err("there are two Client-Cert fields".to_owned());
        }
        for field in headers.get_all("client-cert-chain") {
            let text = field
                .to_str()
                .map_err(|_| "Client-Cert-Chain is not ASCII".to_owned())?;
            for item in text.split(',') {
                chain.push(byte_sequence(item)?);
                if chain.len() > CLIENT_CERT_CHAIN_MAX {
                    return Err("Client-Cert-Chain is too long".to_owned());
                }
            }
        }
        Ok(chain)
    };
    Some(read())
}

fn byte_sequence(text: &str) -> Result<Certificate, String> {
    let inner = text
        .trim()
        .strip_prefix(':')
        .and_then(|rest| rest.strip_suffix(':'))
        .filter(|inner| inner.len() <= CLIENT_CERT_LENGTH_MAX)
        .ok_or_else(|| "Client-Cert is not a byte sequence of RFC 8941".to_owned())?;
    let der = STANDARD
        .decode(inner)
        .map_err(|_| "Client-Cert is not base64".to_owned())?;
    Certificate::from_der(&der).map_err(|error| error.to_string())
}

/// The Basic credentials of a request, and whether there is another Authorization.
fn basic(headers: &HeaderMap) -> (Option<Basic>, bool) {
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let Some(field) = fields.next() else {
        return (None, false);
    };
    if fields.next().is_some() {
        return (None, true);
    }
    let read = || -> Option<Basic> {
        let (scheme, token) = field.to_str().ok()?.trim().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("basic") || token.len() > CREDENTIAL_LENGTH_MAX {
            return None;
        }
        let text = String::from_utf8(STANDARD.decode(token.trim()).ok()?).ok()?;
        let (user, password) = text.split_once(':')?;
        Some(Basic {
            user: user.to_owned(),
            password: password.to_owned(),
        })
    };
    match read() {
        Some(basic) => (Some(basic), false),
        None => (None, true),
    }
}

/// An IPv4 address that came over an IPv6 socket is the IPv4 address.
#[must_use]
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// The network that counts as one sender: an IPv4 address, or an IPv6 /64.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match canonical(address) {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

/// Counts what each address does, in windows of a fixed length.
#[derive(Debug)]
pub struct Rate {
    window: Duration,
    counts: Mutex<HashMap<IpAddr, (Instant, u32)>>,
}

impl Rate {
    /// With windows of this length.
    #[must_use]
    pub fn new(window: Duration) -> Self {
        Self {
            window,
            counts: Mutex::default(),
        }
    }

    /// Counts one more, and says how many there were in this window with it.
    pub fn add(&self, address: IpAddr) -> u32 {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= ADDRESSES_MAX {
            let window = self.window;
            counts.retain(|_, (begun, _)| begun.elapsed() < window);
            if counts.len() >= ADDRESSES_MAX {
                counts.clear();
            }
        }
        let entry = counts
            .entry(network(address))
            .or_insert_with(|| (Instant::now(), 0));
        if entry.0.elapsed() >= self.window {
            *entry = (Instant::now(), 0);
        }
        entry.1 = entry.1.saturating_add(1);
        entry.1
    }

    /// How many there were in this window.
    #[must_use]
    pub fn count(&self, address: IpAddr) -> u32 {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts
            .get(&network(address))
            .filter(|(begun, _)| begun.elapsed() < self.window)
            .map_or(0, |(_, count)| *count)
    }
}

/// A password as it is kept: `sha256$SALT$HASH`, both in hexadecimal.
///
/// The passwords are random ones that the operator's tool makes, so one round of salted hashing
/// keeps them; a slow function would let strangers use up the processor.
#[must_use]
pub fn hash_password(password: &str, salt: &[u8]) -> String {
    format!(
        "sha256${}${}",
        hex::encode(salt),
        hex::encode(password_digest(password, salt))
    )
}

fn password_digest(password: &str, salt: &[u8]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(salt);
    context.update(password.as_bytes());
    let mut result = [0; 32];
    result.copy_from_slice(context.finish().as_ref());
    result
}

/// Whether a password fits a hash. It takes as long for a wrong one, and for a device that has
/// none, as for the right one.
#[must_use]
pub fn password_fits(password: &str, hash: Option<&str>) -> bool {
    let parts = hash.and_then(|hash| {
        let mut parts = hash.split('$');
        let scheme = parts.next()?;
        let salt = hex::decode(parts.next()?).ok()?;
        let digest = hex::decode(parts.next()?).ok()?;
        (scheme == "sha256" && digest.len() == 32).then_some((salt, digest))
    });
    let known = parts.is_some();
    let (salt, wanted) = parts.unwrap_or_else(|| (vec![0; 16], vec![0; 32]));
    let found = password_digest(password, &salt);
    let equal = aws_lc_rs::constant_time::verify_slices_are_equal(&found, &wanted).is_ok();
    equal && known
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_fit_their_own_hash_only() {
        let hash = hash_password("mountain-air", b"salt");
        assert!(password_fits("mountain-air", Some(&hash)));
        assert!(!password_fits("mountain-ai", Some(&hash)));
        assert!(!password_fits("", None));
        for broken in ["", "sha256", "sha256$00", "plain$00$00", "sha256$zz$00"] {
            assert!(!password_fits("", Some(broken)), "{broken}");
        }
    }

    #[test]
    fn credentials_are_read_or_refused_whole() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            basic(&headers)
        };
        let (found, other) = of("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(found.unwrap().user, "Aladdin");
        assert!(!other);
        for value in ["Bearer x", "Basic", "Basic !!", "Basic QWxhZGRpbg=="] {
            assert_eq!(of(value), (None, true), "{value}");
        }
    }

    #[test]
    fn one_sender_is_one_network() {
        let net = |text: &str| network(text.parse().unwrap());
        assert_eq!(net("::ffff:192.0.2.1"), net("192.0.2.1"));
        assert_eq!(net("2001:db8::1"), net("2001:db8::ffff:1"));
        assert_ne!(net("2001:db8:0:1::1"), net("2001:db8::1"));
        let rate = Rate::new(Duration::from_secs(600));
        let peer: IpAddr = "192.0.2.1".parse().unwrap();
        assert_eq!(
            (rate.count(peer), rate.add(peer), rate.add(peer)),
            (0, 1, 2)
        );
        assert_eq!(rate.count("192.0.2.2".parse().unwrap()), 0);
    }
}
