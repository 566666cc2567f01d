//! What a device reaches over the network: its image, the DHCP option's URL, the TLS listener.

use std::sync::Arc;
use std::time::Duration;

use artifacts::conveyed::BootImage;
use aws_lc_rs::digest;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt as _;
use net::client::{ClientConfig, ClientLimits, Connection, Host, ServerTrust, Sink, Target};
use net::{HttpVersion, TlsVersions};
use pki::path::{Anchors, PathOptions, Purpose, ServerName};
use pki::{Certificate, Coded as _};
use sztp::dhcp::{BootstrapUri, encode_v4, encode_v6};
use time::OffsetDateTime;
use url::Url;

use super::{PreflightArguments, Report};
use crate::Config;
use crate::cli::text::when;
use crate::content::Engine;
use crate::profile::{DhcpForm, Profile};

/// Time for one connection or answer.
const NETWORK_TIME_MAX: Duration = Duration::from_secs(10);
/// Octets of an image that is read to compute its hash.
const IMAGE_SIZE_MAX_BYTES: u64 = 64 * 1024 * 1024 * 1024;

/// Whether a device can fetch its image, and whether the hash is that of the file.
pub(super) async fn images(
    report: &mut Report,
    config: &Config,
    engine: &Engine,
    arguments: &PreflightArguments,
    image: &BootImage,
) {
    const NAME: &str = "image";
    let wanted = image
        .image_verifications
        .first()
        .map(|verification| verification.value.clone());
    if wanted.is_none() {
        report.warn(
            NAME,
            "bootstrap.image-unverified",
            "no hash goes along: the device cannot tell a broken image from a good one",
            "give the image a file, or its sha256",
        );
    }
    for uri in &image.download_uris {
        let Ok(url) = Url::parse(uri) else {
            report.fail(
                NAME,
                "bootstrap.image-uri",
                format!("{uri} is no URL"),
                "mend it",
            );
            continue;
        };
        if !matches!(url.scheme(), "https" | "http") {
            report.not_made(NAME, format!("{uri} cannot be fetched from here"));
            continue;
        }
        let ours = config
            .content
            .base_url
            .as_deref()
            .and_then(|base| Url::parse(base).ok())
            .is_some_and(|base| base.origin() == url.origin());
        if ours {
            // What lies here is judged here, whether the server runs or not.
            hosted(report, engine, &url, wanted.as_deref()).await;
            continue;
        }
        if arguments.offline {
            report.not_made(NAME, format!("{uri}: --offline"));
            continue;
        }
        match fetch(&url, arguments.no_download).await {
            Err(error) => report.fail(
                NAME,
                "bootstrap.image-unreachable",
                format!("{uri}: {error}"),
                "look whether the devices' network can reach it",
            ),
            Ok(None) => report.pass(NAME, format!("{uri} is there; its hash was not computed")),
            Ok(Some((size, hash))) => compare(report, uri, size, &hash, wanted.as_deref()),
        }
    }
}

fn compare(report: &mut Report, uri: &str, size: u64, hash: &[u8], wanted: Option<&[u8]>) {
    match wanted {
        Some(wanted) if wanted != hash => report.fail(
            "image",
            "bootstrap.image-hash",
            format!(
                "{uri}: sha-256 is {}, not {}",
                hex::encode(hash),
                hex::encode(wanted)
            ),
            "put the right file there, or apply the content with the right hash",
        ),
        Some(_) => report.pass(
            "image",
            format!("{uri}: {size} octets, sha-256 as announced"),
        ),
        None => report.pass("image", format!("{uri}: {size} octets")),
    }
}

async fn hosted(report: &mut Report, engine: &Engine, url: &Url, wanted: Option<&[u8]>) {
    let answer = engine
        .hosted(&Method::GET, url.path(), &HeaderMap::new())
        .await;
    let Some(response) = answer.filter(|response| response.status() == StatusCode::OK) else {
        report.fail(
            "image",
            "bootstrap.image-missing",
            format!("{url} is not among the hosted images"),
            "apply the content again, with the file in it",
        );
        return;
    };
    let mut sink = Hasher::default();
    let mut body = response.into_body();
    let failed = loop {
        match body.frame().await {
            None => break None,
            Some(Err(error)) => break Some(error.to_string()),
            Some(Ok(frame)) => {
                if let Some(piece) = frame.data_ref() {
                    sink.take(piece);
                }
            }
        }
    };
    if let Some(error) = failed {
        let fix = "look at the disk";
        report.fail("image", "bootstrap.image-missing", error, fix);
        return;
    }
    let (size, hash) = sink.finish();
    compare(report, url.as_str(), size, &hash, wanted);
}

/// Computes size and SHA-256 of what comes.
struct Hasher {
    context: digest::Context,
    size: u64,
    status: Option<StatusCode>,
}

impl Default for Hasher {
    fn default() -> Self {
        Self {
            context: digest::Context::new(&digest::SHA256),
            size: 0,
            status: None,
        }
    }
}

impl Hasher {
    fn take(&mut self, piece: &[u8]) {
        self.context.update(piece);
        self.size = self.size.saturating_add(piece.len() as u64);
    }

    fn finish(self) -> (u64, Vec<u8>) {
        (self.size, self.context.finish().as_ref().to_vec())
    }
}

impl Sink for Hasher {
    fn head(&mut self, status: StatusCode, _: &HeaderMap) -> Result<(), net::Error> {
        self.status = Some(status);
        if status == StatusCode::OK {
            Ok(())
        } else {
            Err(net::Error::Request(format!("the answer is {status}")))
        }
    }

    fn data(&mut self, piece: &[u8]) -> Result<(), net::Error> {
        self.take(piece);
        if self.size > IMAGE_SIZE_MAX_BYTES {
            return Err(net::Error::Request("the image does not end".to_owned()));
        }
        Ok(())
    }
}

fn limits() -> ClientLimits {
    ClientLimits {
        connect_time_max: NETWORK_TIME_MAX,
        handshake_time_max: NETWORK_TIME_MAX,
        response_time_max: NETWORK_TIME_MAX,
        ..ClientLimits::default()
    }
}

/// Fetches an image; `None` if it was only seen to be there. Whose certificate the server has is
/// the device's business: the hash is what proves the image.
async fn fetch(url: &Url, only_look: bool) -> Result<Option<(u64, Vec<u8>)>, net::Error> {
    let target = Target::from_url(url)?;
    let config = ClientConfig {
        trust: ServerTrust::Provisional,
        http: HttpVersion::Http1,
        limits: limits(),
        ..ClientConfig::default()
    };
    let mut connection = Connection::open(&target, &config).await?;
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    if only_look {
        let answer = connection
            .request(Method::HEAD, &path, HeaderMap::new(), Bytes::new())
            .await?;
        return if answer.status.is_success() {
            Ok(None)
        } else {
            Err(net::Error::Request(format!(
                "the answer is {}",
                answer.status
            )))
        };
    }
    let mut hasher = Hasher::default();
    connection
        .download(&path, HeaderMap::new(), &mut hasher)
        .await?;
    Ok(Some(hasher.finish()))
}

pub(super) fn dhcp(report: &mut Report, url: Option<&str>, profile: &Profile) {
    const NAME: &str = "dhcp option";
    let Some(url) = url else {
        report.warn(
            NAME,
            "bootstrap.base-url-missing",
            "[content] base_url is not set, so it is not known what the option should say",
            "set it to https://HOST:PORT, as devices reach this server",
        );
        return;
    };
    if profile.dhcp != DhcpForm::Rfc {
        report.warn(
            NAME,
            "bootstrap.dhcp-form",
            format!(
                "devices of type {} read another form than RFC 8572's",
                profile.name
            ),
            "`usher bootstrap profiles show` says which",
        );
        return;
    }
    let uri = match BootstrapUri::parse(url) {
        Ok(uri) => uri,
        Err(fault) => {
            let fix = "https://HOST[:PORT] and nothing after it";
            report.fail(NAME, fault.code(), format!("{url}: {fault}"), fix);
            return;
        }
    };
    let list = [uri];
    match encode_v4(&list).and_then(|v4| Ok((v4, encode_v6(&list)?))) {
        Ok((v4, v6)) => report.pass(
            NAME,
            format!("143: {}  136: {}", hex::encode(v4), hex::encode(v6)),
        ),
        Err(error) => report.fail(NAME, error.code(), error.to_string(), "a shorter URL"),
    }
}

pub(super) async fn tls(
    report: &mut Report,
    config: &Config,
    arguments: &PreflightArguments,
    url: Option<&str>,
    now: OffsetDateTime,
) {
    const NAME: &str = "tls";
    let identities = match config.identities() {
        Ok(identities) if !identities.is_empty() => identities,
        Ok(_) => {
            let fix = "name certificate and key in [[identity]]";
            report.fail(
                NAME,
                "bootstrap.identity-missing",
                "no server certificate",
                fix,
            );
            return;
        }
        Err(error) => {
            report.fail(NAME, error.code(), error.to_string(), "mend [[identity]]");
            return;
        }
    };
    let Some(target) = url
        .and_then(|url| Url::parse(url).ok())
        .and_then(|url| Target::from_url(&url).ok())
    else {
        report.not_made(NAME, "without a URL there is no name to check");
        return;
    };
    let anchors: Vec<Certificate> = match &arguments.tls_anchors {
        Some(file) => match Certificate::load_all(file) {
            Ok(anchors) => anchors,
            Err(error) => {
                let text = format!("{}: {error}", file.display());
                report.fail(NAME, "bootstrap.file-malformed", text, "name a PEM file");
                return;
            }
        },
        None => identities
            .iter()
            .filter_map(|identity| identity.chain.last().cloned())
            .collect(),
    };
    let mut options = PathOptions::new(Purpose::Server, now);
    options.name = Some(match &target.host {
        Host::Name(name) => ServerName::Dns(name.clone()),
        Host::Address(address) => ServerName::Ip(*address),
    });
    let anchors: Arc<Anchors> = Arc::new(anchors.into_iter().collect());
    if arguments.offline {
        report.not_made(NAME, "--offline");
        own_chain(report, &identities, &anchors, &options);
        return;
    }
    for versions in [TlsVersions::Only13, TlsVersions::Only12] {
        let client = ClientConfig {
            trust: ServerTrust::Provisional,
            http: HttpVersion::Http1,
            tls: versions,
            address: arguments.connect,
            limits: limits(),
            ..ClientConfig::default()
        };
        let mut connection = match Connection::open(&target, &client).await {
            Ok(connection) => connection,
            Err(error) => {
                report.warn(
                    NAME,
                    "bootstrap.not-listening",
                    format!("{target}: {error}"),
                    "`usher bootstrap serve`; then look at the name, the firewall, the port; \
                     --connect ADDRESS:PORT where the name leads elsewhere",
                );
                own_chain(report, &identities, &anchors, &options);
                return;
            }
        };
        let shown = match versions {
            TlsVersions::Only12 => "TLS 1.2",
            _ => "TLS 1.3",
        };
        judge_chain(report, shown, connection.peer_chain(), &anchors, &options);
        if versions == TlsVersions::Only13 {
            host_meta(report, &mut connection).await;
        }
    }
}

/// What the server will show, judged from its files.
fn own_chain(
    report: &mut Report,
    identities: &[pki::Identity],
    anchors: &Anchors,
    options: &PathOptions,
) {
    for identity in identities {
        judge_chain(report, "its file", &identity.chain, anchors, options);
    }
}

fn judge_chain(
    report: &mut Report,
    shown: &str,
    chain: &[Certificate],
    anchors: &Anchors,
    options: &PathOptions,
) {
    const NAME: &str = "tls";
    let Some((leaf, others)) = chain.split_first() else {
        let fix = "look at [[identity]]";
        report.fail(
            NAME,
            "bootstrap.identity-missing",
            "no certificate is shown",
            fix,
        );
        return;
    };
    let until = when(leaf.not_after());
    match pki::path::validate(leaf, others, anchors, options) {
        Ok(path) => report.pass(
            NAME,
            format!(
                "{shown}: {}, {} certificates to the root, until {until}",
                leaf.subject(),
                path.certificates().len()
            ),
        ),
        Err(error) => report.fail(
            NAME,
            error.code(),
            format!("{shown}: {}: {error}", leaf.subject()),
            "a certificate for the name in the URL, with its intermediates",
        ),
    }
}

async fn host_meta(report: &mut Report, connection: &mut Connection) {
    const NAME: &str = "restconf";
    let answer = connection
        .request(
            Method::GET,
            "/.well-known/host-meta",
            HeaderMap::new(),
            Bytes::new(),
        )
        .await;
    match answer {
        Ok(answer) if answer.status == StatusCode::OK => {
            report.pass(NAME, "host-meta names the root");
        }
        Ok(answer) => report.fail(
            NAME,
            "bootstrap.not-restconf",
            format!("host-meta answers {}", answer.status),
            "something else listens there, or a proxy is in between",
        ),
        Err(error) => report.fail(
            NAME,
            error.code(),
            error.to_string(),
            "something else listens there, or a proxy is in between",
        ),
    }
}
