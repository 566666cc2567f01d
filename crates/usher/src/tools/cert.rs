//! `usher cert verify`.

use std::net::IpAddr;

use daemon::{Clock, Format, Outcome};
use pki::path::{self, PathOptions, PolicyOptions, Purpose, Revocation, ServerName};
use pki::{Certificate, Coded, Crl, ObjectIdentifier};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::batch;
use super::case::Names;
use super::describe;
use super::input::{self, Problem};
use super::verify::print;

/// Options of `usher cert verify`. Wherever PEM is named, DER does as well.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Certificates to trust.
    #[arg(long, value_name = "PEM", num_args = 1.., required_unless_present = "batch")]
    anchors: Vec<String>,
    /// The certificate to validate, then whatever may help to build its path, in any order.
    #[arg(long, value_name = "PEM", num_args = 1.., required_unless_present = "batch")]
    chain: Vec<String>,
    /// The time at which to judge; now, if it is not given.
    #[arg(long, value_name = "RFC3339")]
    at: Option<String>,
    /// Judge without a clock: no date counts.
    #[arg(long, conflicts_with = "at")]
    no_clock: bool,
    /// What the certificate is to be used for: any, server, client, masa, registrar, idevid.
    #[arg(long, value_name = "PURPOSE")]
    purpose: Option<String>,
    /// The DNS name or IP address that it must have.
    #[arg(long, value_name = "DNS")]
    name: Option<String>,
    /// Revocation lists.
    #[arg(long, value_name = "CRL", num_args = 1..)]
    crl: Vec<String>,
    /// Refuse unless a current CRL covers each certificate; on where CRLs are given.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    require_crl: Option<bool>,
    /// Acceptable certificate policies.
    #[arg(long, value_name = "OID", num_args = 1..)]
    policy: Vec<String>,
    /// The path must be valid for an acceptable policy.
    #[arg(long)]
    require_policy: bool,
    /// Ignore policy mappings.
    #[arg(long)]
    inhibit_mapping: bool,
    /// anyPolicy counts for nothing.
    #[arg(long)]
    inhibit_any: bool,
    /// Enforce what RFC 5280 §4 demands of issuers, not only the path rules of §6; on for purpose
    /// server.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    strict_profile: Option<bool>,
    /// Accept SHA-1 signatures and short RSA keys.
    #[arg(long)]
    legacy: bool,
    /// Read one JSON object a line from standard input (`id` and these options as members) and
    /// write one verdict a line. Options given here hold for every line. Exits 0 only if all are
    /// valid.
    #[arg(long)]
    batch: bool,
    #[command(flatten)]
    format: Format,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Case {
    anchors: Names,
    chain: Names,
    at: Option<String>,
    #[serde(alias = "no-clock")]
    no_clock: Option<bool>,
    purpose: Option<String>,
    name: Option<String>,
    crl: Names,
    #[serde(alias = "require-crl")]
    require_crl: Option<bool>,
    policy: Names,
    #[serde(alias = "require-policy")]
    require_policy: Option<bool>,
    #[serde(alias = "inhibit-mapping")]
    inhibit_mapping: Option<bool>,
    #[serde(alias = "inhibit-any")]
    inhibit_any: Option<bool>,
    #[serde(alias = "strict-profile")]
    strict_profile: Option<bool>,
    legacy: Option<bool>,
}

const MEMBERS: &[&str] = &[
    "anchors",
    "chain",
    "at",
    "no_clock",
    "no-clock",
    "purpose",
    "name",
    "crl",
    "require_crl",
    "require-crl",
    "policy",
    "require_policy",
    "require-policy",
    "inhibit_mapping",
    "inhibit-mapping",
    "inhibit_any",
    "inhibit-any",
    "strict_profile",
    "strict-profile",
    "legacy",
];

impl Case {
    fn or(self, defaults: &Self) -> Self {
        let names = |mine: Names, theirs: &Names| {
            if mine.0.is_empty() {
                theirs.clone()
            } else {
                mine
            }
        };
        Self {
            anchors: names(self.anchors, &defaults.anchors),
            chain: names(self.chain, &defaults.chain),
            at: self.at.or_else(|| defaults.at.clone()),
            no_clock: self.no_clock.or(defaults.no_clock),
            purpose: self.purpose.or_else(|| defaults.purpose.clone()),
            name: self.name.or_else(|| defaults.name.clone()),
            crl: names(self.crl, &defaults.crl),
            require_crl: self.require_crl.or(defaults.require_crl),
            policy: names(self.policy, &defaults.policy),
            require_policy: self.require_policy.or(defaults.require_policy),
            inhibit_mapping: self.inhibit_mapping.or(defaults.inhibit_mapping),
            inhibit_any: self.inhibit_any.or(defaults.inhibit_any),
            strict_profile: self.strict_profile.or(defaults.strict_profile),
            legacy: self.legacy.or(defaults.legacy),
        }
    }
}

/// Prints the verdict as JSON on stdout; without `--json` also as a list on stderr.
pub(super) fn run(arguments: &Arguments) -> Outcome {
    let clock = Clock::system();
    let defaults = Case {
        anchors: Names(arguments.anchors.clone()),
        chain: Names(arguments.chain.clone()),
        at: arguments.at.clone(),
        no_clock: arguments.no_clock.then_some(true),
        purpose: arguments.purpose.clone(),
        name: arguments.name.clone(),
        crl: Names(arguments.crl.clone()),
        require_crl: arguments.require_crl,
        policy: Names(arguments.policy.clone()),
        require_policy: arguments.require_policy.then_some(true),
        inhibit_mapping: arguments.inhibit_mapping.then_some(true),
        inhibit_any: arguments.inhibit_any.then_some(true),
        strict_profile: arguments.strict_profile,
        legacy: arguments.legacy.then_some(true),
    };
    if arguments.batch {
        return batch::run(MEMBERS, |case: Case| judge(&case.or(&defaults), &clock));
    }
    match judge(&defaults, &clock) {
        Ok((members, outcome)) => {
            print(arguments.format, &Value::Object(members));
            outcome
        }
        Err(problem) => arguments.format.error(&problem),
    }
}

fn judge(case: &Case, clock: &Clock) -> Result<(Map<String, Value>, Outcome), Problem> {
    if case.chain.0.is_empty() {
        return Err(Problem::usage("no chain to validate"));
    }
    let anchors = input::anchors(&case.anchors.0)?;
    // A CRL that does not parse is a fault of the CA's: a verdict, as with the chain.
    let (crls, bad_crl) = match input::crls(&case.crl.0) {
        Ok(crls) => (crls, None),
        Err(Problem::Material { name, source }) => (Vec::new(), Some((name, source))),
        Err(problem) => return Err(problem),
    };
    let options = options(case, crls, clock)?;
    let at = options.at.map(describe::date);
    if let Some((name, error)) = bad_crl {
        return Ok(verdict(
            Err((error.code(), format!("{name}: {error}"))),
            &at,
        ));
    }
    let mut chain = Vec::new();
    for name in &case.chain.0 {
        let bytes = input::read(name)?;
        // A chain that does not parse is a peer's fault and therefore a verdict.
        match input::certificates_in(&bytes) {
            Ok(certificates) => chain.extend(certificates),
            Err(error) => return Ok(verdict(Err((error.code(), error.to_string())), &at)),
        }
    }
    let Some((leaf, others)) = chain.split_first() else {
        let detail = "there is no certificate in the chain".to_owned();
        return Ok(verdict(Err(("pki.pem-malformed", detail)), &at));
    };
    let result = path::validate(leaf, others, &anchors, &options);
    let result = result.map_err(|error| (error.code(), error.to_string()));
    Ok(verdict(
        result
            .as_ref()
            .map(path::ValidPath::certificates)
            .map_err(Clone::clone),
        &at,
    ))
}

fn options(case: &Case, crls: Vec<Crl>, clock: &Clock) -> Result<PathOptions, Problem> {
    let at = match (&case.at, case.no_clock) {
        (Some(_), Some(true)) => {
            return Err(Problem::usage("a time and no clock exclude each other"));
        }
        (None, Some(true)) => None,
        (Some(at), _) => Some(input::time(at)?),
        (None, _) => Some(clock.now()),
    };
    let purpose = match case.purpose.as_deref() {
        None | Some("any") => Purpose::Any,
        Some("server") => Purpose::Server,
        Some("client") => Purpose::Client,
        Some("masa") => Purpose::Masa,
        Some("registrar") => Purpose::Registrar,
        Some("idevid") => Purpose::Idevid,
        Some(other) => return Err(Problem::usage(format!("purpose {other:?} is not known"))),
    };
    let name = case.name.as_ref().map(|name| match name.parse::<IpAddr>() {
        Ok(address) => ServerName::Ip(address),
        Err(_) => ServerName::Dns(name.clone()),
    });
    let policies = case.policy.0.iter().map(|text| {
        ObjectIdentifier::new(text)
            .map_err(|error| Problem::usage(format!("policy {text:?} is no identifier: {error}")))
    });
    let on = |switch: Option<bool>| switch == Some(true);
    // Who names CRLs wants to know that nothing is revoked, not that nothing was found out.
    let require_crl = case.require_crl.unwrap_or(!crls.is_empty());
    // Devices and their manufacturers' CAs do not all keep the rules for issuers; servers on the
    // Internet do.
    let strict_profile = case.strict_profile.unwrap_or(purpose == Purpose::Server);
    Ok(PathOptions {
        at,
        purpose,
        name,
        crls,
        revocation: if require_crl {
            Revocation::Required
        } else {
            Revocation::BestEffort
        },
        policies: PolicyOptions {
            initial: policies.collect::<Result<_, _>>()?,
            require_explicit: on(case.require_policy),
            inhibit_mapping: on(case.inhibit_mapping),
            inhibit_any: on(case.inhibit_any),
        },
        tolerate_legacy_algorithms: on(case.legacy),
        strict_profile,
        ..PathOptions::default()
    })
}

fn verdict(
    result: Result<&[Certificate], (&str, String)>,
    at: &Option<String>,
) -> (Map<String, Value>, Outcome) {
    let path: Option<Vec<_>> = result
        .as_ref()
        .ok()
        .map(|path| path.iter().map(Certificate::subject).collect());
    let valid = path.is_some();
    let (code, detail) = result.err().unzip();
    let value = json!({
        "verdict": if valid { "valid" } else { "invalid" },
        "kind": "certificate",
        "code": code,
        "detail": detail,
        "path": path,
        "at": at,
    });
    (
        value.as_object().cloned().unwrap_or_default(),
        Outcome::of(valid),
    )
}
