//! Keys that stay inside a PKCS#11 token.
//!
//! A token is named by an [RFC 7512](https://www.rfc-editor.org/rfc/rfc7512.html) URI, for example
//! `pkcs11:token=masa;object=voucher?module-path=/usr/lib/softhsm/libsofthsm2.so`. The PIN is a
//! separate argument, so that the URI can stand in a configuration file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as CryptokiError, RvError};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsPssParams};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use zeroize::Zeroizing;

use crate::public_key::Kind;
use crate::tlv::{self, Reader};
use crate::{DigestAlgorithm, Error, KeyKind, PublicKey, SignatureAlgorithm, Signer, jws, oid};

/// Sessions kept open for one key. More are opened when more threads sign at once, and closed
/// again afterwards.
const IDLE_SESSIONS_MAX: usize = 16;

/// A private key in a PKCS#11 token.
pub struct Pkcs11Key {
    token: Token,
    query: Vec<Attribute>,
    idle: Mutex<Vec<OpenKey>>,
    public_key: PublicKey,
    algorithm: SignatureAlgorithm,
}

/// A session that is logged in, and the key's handle in it.
struct OpenKey {
    session: Session,
    private_key: ObjectHandle,
}

/// A slot of a loaded module, and the PIN to log in with.
struct Token {
    module: Pkcs11,
    slot: Slot,
    pin: Zeroizing<String>,
}

impl Pkcs11Key {
    /// Opens the key that an RFC 7512 URI names. The URI has the query attribute `module-path`,
    /// a token (`token`, `serial` or `slot-id`) and an object (`object` or `id`).
    ///
    /// # Errors
    /// [`Error::Pkcs11`] if the module, token, PIN or object is not usable.
    pub fn open(uri: &str, pin: &str) -> Result<Self, Error> {
        let uri = Uri::parse(uri)?;
        let token = Token::open(&uri, pin)?;
        let query = uri.object_query()?;
        let session = token.session()?;
        let private_key = find_one(&session, ObjectClass::PRIVATE_KEY, &query)?;
        let public_key = read_public_key(&session, private_key, &query)?;
        let algorithm = default_algorithm(&public_key)?;
        let idle = Mutex::new(vec![OpenKey {
            session,
            private_key,
        }]);
        Ok(Self {
            token,
            query,
            idle,
            public_key,
            algorithm,
        })
    }

    /// Generates a key pair in the token under the URI's `object` (label) and `id`, and opens it.
    /// The private key cannot be extracted.
    ///
    /// # Errors
    /// [`Error::Pkcs11`] if the token refuses, or has an object of that name already.
    pub fn generate(uri: &str, pin: &str, kind: KeyKind) -> Result<Self, Error> {
        let parsed = Uri::parse(uri)?;
        let token = Token::open(&parsed, pin)?;
        let query = parsed.object_query()?;
        let session = token.session()?;
        if find(&session, ObjectClass::PRIVATE_KEY, &query)?
            .next()
            .is_some()
        {
            return Err(Error::Pkcs11(
                "there is a key of that name already".to_owned(),
            ));
        }
        let mut public = query.clone();
        public.extend([Attribute::Token(true), Attribute::Verify(true)]);
        let mut private = query;
        private.extend([
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
        ]);
        let mechanism = match generation(kind)? {
            Generation::Ec(curve) => {
                public.push(Attribute::EcParams(tlv::encode_oid(curve)));
                Mechanism::EccKeyPairGen
            }
            Generation::Rsa(bits) => {
                public.push(Attribute::ModulusBits(std::ffi::c_ulong::from(bits).into()));
                public.push(Attribute::PublicExponent(vec![1, 0, 1]));
                Mechanism::RsaPkcsKeyPairGen
            }
        };
        session
            .generate_key_pair(&mechanism, &public, &private)
            .map_err(|error| failed("generating a key", &error))?;
        drop(session);
        Self::open(uri, pin)
    }

    /// Uses RSASSA-PSS (or PKCS#1 v1.5, the default) with an RSA key, or another hash with it.
    ///
    /// # Errors
    /// If the algorithm does not go with the key.
    pub fn with_algorithm(mut self, algorithm: SignatureAlgorithm) -> Result<Self, Error> {
        self.check(algorithm)?;
        self.algorithm = algorithm;
        Ok(self)
    }

    fn check(&self, algorithm: SignatureAlgorithm) -> Result<(), Error> {
        let rsa = (algorithm.is_rsa_pkcs1() || algorithm.is_rsa_pss()) && !algorithm.is_legacy();
        let is_rsa_key = matches!(self.public_key.kind_of(), Kind::Rsa { .. });
        if algorithm == self.algorithm || (rsa && is_rsa_key) {
            return Ok(());
        }
        Err(Error::AlgorithmKeyMismatch {
            algorithm: algorithm.to_string(),
            key: self.public_key.describe(),
        })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<OpenKey>> {
        // A panic elsewhere leaves a list of sessions, which is as good as before.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_key(&self) -> Result<OpenKey, Error> {
        let session = self.token.session()?;
        let private_key = find_one(&session, ObjectClass::PRIVATE_KEY, &self.query)?;
        Ok(OpenKey {
            session,
            private_key,
        })
    }
}

impl Signer for Pkcs11Key {
    fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.algorithm
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.sign_with(self.algorithm, message)
    }

    fn sign_with(&self, algorithm: SignatureAlgorithm, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.check(algorithm)?;
        let (mechanism, input) = mechanism(algorithm, message)?;
        let idle = self.idle().pop();
        let mut signed = None;
        if let Some(key) = idle {
            // A session dies with the token's power, its network link or a restart of the
            // service behind it. A fresh one is tried below.
            if let Ok(signature) = key.session.sign(&mechanism, key.private_key, &input) {
                signed = Some((key, signature));
            }
        }
        let (key, signature) = match signed {
            Some(signed) => signed,
            None => {
                let key = self.open_key()?;
                let signature = key
                    .session
                    .sign(&mechanism, key.private_key, &input)
                    .map_err(|error| failed("signing", &error))?;
                (key, signature)
            }
        };
        let mut idle = self.idle();
        if idle.len() < IDLE_SESSIONS_MAX {
            idle.push(key);
        }
        drop(idle);
        if !algorithm.is_ecdsa() {
            return Ok(signature);
        }
        // PKCS#11 gives R and S side by side.
        jws::fixed_to_der(&signature, signature.len() / 2)
            .ok_or_else(|| Error::Signing("the token's signature is malformed".to_owned()))
    }
}

/// Shows the public half only.
impl std::fmt::Debug for Pkcs11Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pkcs11Key")
            .field("public_key", &self.public_key)
            .finish_non_exhaustive()
    }
}

impl Token {
    fn open(uri: &Uri, pin: &str) -> Result<Self, Error> {
        let module = load_module(&uri.module_path)?;
        let slots = module
            .get_slots_with_initialized_token()
            .map_err(|error| failed("listing slots", &error))?;
        let mut found = Vec::new();
        for slot in slots {
            let info = module
                .get_token_info(slot)
                .map_err(|error| failed("reading a token", &error))?;
            let same = |wanted: &Option<String>, is: &str| {
                wanted.as_ref().is_none_or(|wanted| wanted == is.trim_end())
            };
            if same(&uri.token, info.label())
                && same(&uri.serial, info.serial_number())
                && uri.slot_id.is_none_or(|id| id == slot.id())
            {
                found.push(slot);
            }
        }
        match found.as_slice() {
            [slot] => Ok(Self {
                module,
                slot: *slot,
                pin: Zeroizing::new(pin.to_owned()),
            }),
            [] => Err(Error::Pkcs11("no token matches the URI".to_owned())),
            _ => Err(Error::Pkcs11("several tokens match the URI".to_owned())),
        }
    }

    fn session(&self) -> Result<Session, Error> {
        let session = self
            .module
            .open_rw_session(self.slot)
            .map_err(|error| failed("opening a session", &error))?;
        let pin = AuthPin::from(self.pin.as_str());
        match session.login(UserType::User, Some(&pin)) {
            // The login belongs to the application, not to the session.
            Ok(()) | Err(CryptokiError::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
            Err(error) => Err(failed("logging in", &error)),
        }
    }
}

/// Loads a module once in a process: C_Initialize may be called only once.
fn load_module(path: &Path) -> Result<Pkcs11, Error> {
    static MODULES: OnceLock<Mutex<HashMap<PathBuf, Pkcs11>>> = OnceLock::new();
    let modules = MODULES.get_or_init(Mutex::default);
    let mut modules = modules.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(module) = modules.get(path) {
        return Ok(module.clone());
    }
    let module = Pkcs11::new(path).map_err(|error| failed("loading the module", &error))?;
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        Ok(()) | Err(CryptokiError::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(error) => return Err(failed("initialising the module", &error)),
    }
    modules.insert(path.to_owned(), module.clone());
    Ok(module)
}

fn failed(what: &str, error: &CryptokiError) -> Error {
    // The long explanations of the library repeat the standard; its code is enough.
    let reason = match error {
        CryptokiError::Pkcs11(code, _) => format!("{code:?}"),
        other => other.to_string(),
    };
    Error::Pkcs11(format!("{what}: {reason}"))
}

fn find(
    session: &Session,
    class: ObjectClass,
    query: &[Attribute],
) -> Result<std::vec::IntoIter<ObjectHandle>, Error> {
    let mut template = query.to_vec();
    template.push(Attribute::Class(class));
    let found = session
        .find_objects(&template)
        .map_err(|error| failed("finding the key", &error))?;
    Ok(found.into_iter())
}

fn find_one(
    session: &Session,
    class: ObjectClass,
    query: &[Attribute],
) -> Result<ObjectHandle, Error> {
    let mut found = find(session, class, query)?;
    match (found.next(), found.next()) {
        (Some(object), None) => Ok(object),
        (None, _) => Err(Error::Pkcs11("no key matches the URI".to_owned())),
        (Some(_), Some(_)) => Err(Error::Pkcs11("several keys match the URI".to_owned())),
    }
}

/// Reads the public half: of an RSA key from the private key object, which has it; of an EC key
/// from the public key object beside it.
fn read_public_key(
    session: &Session,
    private_key: ObjectHandle,
    query: &[Attribute],
) -> Result<PublicKey, Error> {
    let attributes = |object, types: &[AttributeType]| {
        session
            .get_attributes(object, types)
            .map_err(|error| failed("reading the public key", &error))
    };
    let key_type = attributes(private_key, &[AttributeType::KeyType])?
        .into_iter()
        .next();
    let unusable = |detail: &str| Error::Pkcs11(format!("public key: {detail}"));
    match key_type {
        Some(Attribute::KeyType(KeyType::RSA)) => {
            let wanted = [AttributeType::Modulus, AttributeType::PublicExponent];
            let (mut modulus, mut exponent) = (None, None);
            for attribute in attributes(private_key, &wanted)? {
                match attribute {
                    Attribute::Modulus(octets) => modulus = Some(octets),
                    Attribute::PublicExponent(octets) => exponent = Some(octets),
                    _ => {}
                }
            }
            let modulus = modulus.ok_or_else(|| unusable("it has no modulus"))?;
            let exponent = exponent.ok_or_else(|| unusable("it has no exponent"))?;
            rsa_public_key(&modulus, &exponent)
        }
        Some(Attribute::KeyType(KeyType::EC)) => {
            let public_key = find_one(session, ObjectClass::PUBLIC_KEY, query)
                .map_err(|_| unusable("there is no public key object beside the EC key"))?;
            let (mut parameters, mut point) = (None, None);
            let wanted = [AttributeType::EcParams, AttributeType::EcPoint];
            for attribute in attributes(public_key, &wanted)? {
                match attribute {
                    Attribute::EcParams(octets) => parameters = Some(octets),
                    Attribute::EcPoint(octets) => point = Some(octets),
                    _ => {}
                }
            }
            let parameters = parameters.ok_or_else(|| unusable("it has no curve"))?;
            let point = point.ok_or_else(|| unusable("it has no point"))?;
            ec_public_key(&parameters, &point)
        }
        _ => Err(Error::UnsupportedKey(
            "a key type other than RSA and EC in the token".to_owned(),
        )),
    }
}

fn rsa_public_key(modulus: &[u8], exponent: &[u8]) -> Result<PublicKey, Error> {
    let integer = |octets: &[u8]| {
        let start = octets.iter().position(|octet| *octet != 0).unwrap_or(0);
        let octets = octets.get(start..).unwrap_or_default();
        let high = octets.first().is_some_and(|octet| octet & 0x80 != 0);
        let sign: &[u8] = if high { &[0] } else { &[] };
        tlv::element(tlv::INTEGER, &[sign, octets])
    };
    let key = tlv::element(tlv::SEQUENCE, &[&integer(modulus), &integer(exponent)]);
    let algorithm = tlv::element(
        tlv::SEQUENCE,
        &[&tlv::encode_oid(oid::RSA_ENCRYPTION), &[tlv::NULL, 0]],
    );
    spki(&algorithm, &key)
}

fn ec_public_key(parameters: &[u8], point: &[u8]) -> Result<PublicKey, Error> {
    // CKA_EC_POINT is a DER OCTET STRING; some modules give the bare point.
    let mut reader = Reader::der(point);
    let point = match reader.expect(tlv::OCTET_STRING) {
        Ok(wrapped) if reader.is_empty() => wrapped.value,
        _ => point,
    };
    let algorithm = tlv::element(
        tlv::SEQUENCE,
        &[&tlv::encode_oid(oid::EC_PUBLIC_KEY), parameters],
    );
    spki(&algorithm, point)
}

fn spki(algorithm: &[u8], key: &[u8]) -> Result<PublicKey, Error> {
    let bits = tlv::element(tlv::BIT_STRING, &[&[0], key]);
    PublicKey::from_spki_der(&tlv::element(tlv::SEQUENCE, &[algorithm, &bits]))
}

fn default_algorithm(key: &PublicKey) -> Result<SignatureAlgorithm, Error> {
    match key.kind_of() {
        Kind::P256 => Ok(SignatureAlgorithm::EcdsaP256Sha256),
        Kind::P384 => Ok(SignatureAlgorithm::EcdsaP384Sha384),
        Kind::P521 => Ok(SignatureAlgorithm::EcdsaP521Sha512),
        Kind::Rsa { bits, .. } if bits >= crate::limits::RSA_MODULUS_MIN_BITS => {
            Ok(SignatureAlgorithm::RsaPkcs1Sha256)
        }
        _ => Err(Error::UnsupportedKey(key.describe())),
    }
}

enum Generation {
    Ec(const_oid::ObjectIdentifier),
    Rsa(u32),
}

fn generation(kind: KeyKind) -> Result<Generation, Error> {
    match kind {
        KeyKind::EcdsaP256 => Ok(Generation::Ec(oid::P256)),
        KeyKind::EcdsaP384 => Ok(Generation::Ec(oid::P384)),
        KeyKind::EcdsaP521 => Ok(Generation::Ec(oid::P521)),
        KeyKind::Rsa2048 => Ok(Generation::Rsa(2048)),
        KeyKind::Rsa3072 => Ok(Generation::Rsa(3072)),
        KeyKind::Rsa4096 => Ok(Generation::Rsa(4096)),
        KeyKind::Ed25519 | KeyKind::MlDsa44 | KeyKind::MlDsa65 | KeyKind::MlDsa87 => Err(
            Error::UnsupportedKey(format!("{kind:?} in a PKCS#11 token")),
        ),
    }
}

/// The mechanism and what to give to it. The message is hashed here, because a mechanism that
/// takes a hash is what every token has.
fn mechanism(
    algorithm: SignatureAlgorithm,
    message: &[u8],
) -> Result<(Mechanism<'static>, Vec<u8>), Error> {
    let unsupported = || Error::UnsupportedAlgorithm(format!("{algorithm} in a PKCS#11 token"));
    let digest = algorithm.digest().ok_or_else(unsupported)?;
    let hash = digest.hash(message);
    if algorithm.is_ecdsa() {
        return Ok((Mechanism::Ecdsa, hash));
    }
    if algorithm.is_rsa_pss() {
        let (hash_alg, mgf) = match digest {
            DigestAlgorithm::Sha1 => return Err(unsupported()),
            DigestAlgorithm::Sha256 => (MechanismType::SHA256, PkcsMgfType::MGF1_SHA256),
            DigestAlgorithm::Sha384 => (MechanismType::SHA384, PkcsMgfType::MGF1_SHA384),
            DigestAlgorithm::Sha512 => (MechanismType::SHA512, PkcsMgfType::MGF1_SHA512),
        };
        // At most 64.
        let s_len = std::ffi::c_ulong::try_from(hash.len()).unwrap_or(0).into();
        return Ok((
            Mechanism::RsaPkcsPss(PkcsPssParams {
                hash_alg,
                mgf,
                s_len,
            }),
            hash,
        ));
    }
    if algorithm.is_rsa_pkcs1() {
        // RFC 8017 §9.2: DigestInfo, whose AlgorithmIdentifier has NULL parameters.
        let id = match digest {
            DigestAlgorithm::Sha1 => oid::SHA1,
            DigestAlgorithm::Sha256 => oid::SHA256,
            DigestAlgorithm::Sha384 => oid::SHA384,
            DigestAlgorithm::Sha512 => oid::SHA512,
        };
        let identifier = tlv::element(tlv::SEQUENCE, &[&tlv::encode_oid(id), &[tlv::NULL, 0]]);
        let info = tlv::element(
            tlv::SEQUENCE,
            &[&identifier, &tlv::element(tlv::OCTET_STRING, &[&hash])],
        );
        return Ok((Mechanism::RsaPkcs, info));
    }
    Err(unsupported())
}

/// What we read of an RFC 7512 URI.
#[derive(Debug, Default, Eq, PartialEq)]
struct Uri {
    module_path: PathBuf,
    token: Option<String>,
    serial: Option<String>,
    slot_id: Option<u64>,
    object: Option<String>,
    id: Option<Vec<u8>>,
}

impl Uri {
    fn parse(uri: &str) -> Result<Self, Error> {
        let refused = |detail: String| Error::Pkcs11(format!("URI: {detail}"));
        let rest = uri
            .strip_prefix("pkcs11:")
            .ok_or_else(|| refused("it does not start with pkcs11:".to_owned()))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut parsed = Self::default();
        let attributes = path.split(';').chain(query.split('&'));
        for attribute in attributes.filter(|attribute| !attribute.is_empty()) {
            let (name, value) = attribute
                .split_once('=')
                .ok_or_else(|| refused(format!("{attribute:?} has no value")))?;
            let octets =
                unescape(value).ok_or_else(|| refused(format!("{name} is badly escaped")))?;
            let text = || {
                String::from_utf8(octets.clone())
                    .map_err(|_| refused(format!("{name} is not UTF-8")))
            };
            match name {
                "module-path" => parsed.module_path = text()?.into(),
                "token" => parsed.token = Some(text()?),
                "serial" => parsed.serial = Some(text()?),
                "slot-id" => {
                    let number = text()?.parse();
                    parsed.slot_id =
                        Some(number.map_err(|_| refused("slot-id is no number".to_owned()))?);
                }
                "object" => parsed.object = Some(text()?),
                "id" => parsed.id = Some(octets),
                "type" if value == "private" => {}
                // A PIN in a URI ends up in configuration files and logs.
                "pin-value" => return Err(refused("pin-value does not belong here".to_owned())),
                other => return Err(refused(format!("attribute {other} is not supported"))),
            }
        }
        if parsed.module_path.as_os_str().is_empty() {
            return Err(refused("module-path is missing".to_owned()));
        }
        Ok(parsed)
    }

    fn object_query(&self) -> Result<Vec<Attribute>, Error> {
        let mut query = Vec::new();
        query.extend(
            self.object
                .clone()
                .map(|label| Attribute::Label(label.into_bytes())),
        );
        query.extend(self.id.clone().map(Attribute::Id));
        if query.is_empty() {
            return Err(Error::Pkcs11("URI: object or id is missing".to_owned()));
        }
        Ok(query)
    }
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet == b'%' {
            let pair = [rest.next()?, rest.next()?];
            octets.push(u8::from_str_radix(std::str::from_utf8(&pair).ok()?, 16).ok()?);
        } else {
            octets.push(octet);
        }
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris() {
        let uri = "pkcs11:token=My%20token;object=voucher;id=%01%ff?module-path=/lib/hsm.so";
        let parsed = Uri::parse(uri).unwrap();
        assert_eq!(parsed.token.as_deref(), Some("My token"));
        assert_eq!(parsed.object.as_deref(), Some("voucher"));
        assert_eq!(parsed.id, Some(vec![1, 0xff]));
        assert_eq!(parsed.module_path, Path::new("/lib/hsm.so"));
        for refused in [
            "file:/x",
            "pkcs11:object=a",
            "pkcs11:object=a?module-path=/x&pin-value=1234",
            "pkcs11:object=%zz?module-path=/x",
            "pkcs11:colour=red?module-path=/x",
        ] {
            assert!(Uri::parse(refused).is_err(), "{refused}");
        }
    }
}
