//! Fetching a boot image: in pieces, with resume, under a size limit, and verified as a whole.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Write},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use artifacts::conveyed::{HashAlgorithm, ImageVerification};
use aws_lc_rs::digest;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use net::{
    HttpVersion,
    client::{ClientConfig, ClientLimits, Connection, ServerTrust, Sink, Target},
};
use pki::path::{PathOptions, Purpose};
use sztp::agent::{Clock, Failure, State};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{
    IMAGE_IDLE_MAX, IMAGE_RESUMES_MAX, IMAGE_TIME_MAX, Options,
    disk::{Disk, failed},
};
use crate::Error;

/// Size of the pieces in which a file is read.
const PIECE_BYTES: usize = 64 * 1024;
const PART_PREFIX: &str = "image-part-";
const IMAGE_PREFIX: &str = "image-";

/// Fetches the image and verifies it. `Err` inside is a failure of this location.
pub(super) async fn fetch(
    disk: &mut Disk,
    options: &Options,
    at: time::OffsetDateTime,
    uri: &str,
    verifications: &[ImageVerification],
) -> Result<Result<(), Failure>, Error> {
    let Some(expected) = verifications
        .iter()
        .find(|one| one.algorithm == HashAlgorithm::Sha256)
    else {
        return Ok(Err(Failure::new(
            "device.image-hash-algorithm",
            "no fingerprint is of an algorithm that this device knows",
        )));
    };
    let wanted = hex::encode(&expected.value);
    let whole = image_file(&wanted);
    if disk.path(&whole).exists() {
        // It was fetched before the power went; a file under this name was verified.
        return Ok(Ok(()));
    }
    // What was begun for another image is of no use any more.
    let part = format!("{PART_PREFIX}{wanted}");
    for other in disk.names(PART_PREFIX) {
        if other != part {
            disk.remove(&other)?;
        }
    }
    let path = disk.path(&part);
    let resumed = fs::metadata(&path).is_ok_and(|metadata| metadata.len() > 0);
    let mut result = download(disk, options, at, uri, &path).await?;
    if result.is_ok() {
        let mut right =
            sha256_of(&path)? == wanted || defects::seeded!("sztp-device-verifies-no-image");
        if !right && resumed {
            // The part that lay there may have been of something else: once more from the start.
            disk.remove(&part)?;
            result = download(disk, options, at, uri, &path).await?;
            right = result.is_ok() && sha256_of(&path)? == wanted;
        }
        // SZTP-8572-5.6-15: "To verify the boot image, the device MUST use either one of the
        // verification fingerprints".
        if result.is_ok() && !right {
            disk.remove(&part)?;
            result = Err(Failure::new(
                "device.image-hash",
                "the boot image is not the one that the fingerprint is of",
            ));
        }
    }
    if let Err(failure) = result {
        return Ok(Err(failure));
    }
    disk.rename(&part, &whole)?;
    Ok(Ok(()))
}

/// Whether the image that is to be installed lies there.
pub(super) fn is_ready(disk: &Disk) -> bool {
    disk.names(IMAGE_PREFIX)
        .iter()
        .any(|name| !name.starts_with(PART_PREFIX) && !name.ends_with(".new"))
}

/// Removes every image but the one that runs.
pub(super) fn tidy(disk: &mut Disk, state: &State) -> Result<(), Error> {
    let running = state.os.image_sha256.as_deref().map(image_file);
    for name in disk.names(IMAGE_PREFIX) {
        if Some(&name) != running.as_ref() {
            disk.remove(&name)?;
        }
    }
    Ok(())
}

fn image_file(sha256: &str) -> String {
    format!("{IMAGE_PREFIX}{sha256}.bin")
}

async fn download(
    disk: &mut Disk,
    options: &Options,
    at: time::OffsetDateTime,
    uri: &str,
    path: &Path,
) -> Result<Result<(), Failure>, Error> {
    let refuse = |text: &str| Ok(Err(Failure::new("device.image-uri", text)));
    let Ok(url) = Url::parse(uri) else {
        return refuse("the location is no URI");
    };
    match url.scheme() {
        "https" | "http" => {
            let mut failure = None;
            // A server that sends an octet now and then must not hold the device for ever.
            let deadline = Instant::now() + IMAGE_TIME_MAX;
            for _ in 0..=IMAGE_RESUMES_MAX {
                disk.tick()?;
                let before = size(path);
                let fetching = over_http(options, at, &url, path);
                let Ok(fetched) = timeout_at(deadline, fetching).await else {
                    let text = format!("the boot image did not come within {IMAGE_TIME_MAX:?}");
                    return Ok(Err(Failure::new("device.image-fetch", text)));
                };
                match fetched? {
                    Ok(()) => return Ok(Ok(())),
                    Err(Attempt::Refused(refusal)) => return Ok(Err(refusal)),
                    Err(Attempt::Broken(broken)) => {
                        let stuck = size(path) == before;
                        failure = Some(broken);
                        if stuck {
                            break;
                        }
                    }
                }
            }
            let failure =
                failure.unwrap_or_else(|| Failure::new("device.image-fetch", "it was not fetched"));
            Ok(Err(failure))
        }
        "file" => {
            let Some(folder) = &options.image_folder else {
                return refuse("there is no removable storage");
            };
            disk.tick()?;
            copy(&url, folder, path, options.image_size_max_bytes)
        }
        _ => refuse("the scheme of the location is not supported"),
    }
}

enum Attempt {
    /// It makes no sense to ask again.
    Refused(Failure),
    /// The connection broke; the rest may still be had.
    Broken(Failure),
}

async fn over_http(
    options: &Options,
    at: time::OffsetDateTime,
    url: &Url,
    path: &Path,
) -> Result<Result<(), Attempt>, Error> {
    let refused = |error: &net::Error| Attempt::Refused(Failure::of(error));
    let mut target = match Target::from_url(url) {
        Ok(target) => target,
        Err(error) => return Ok(Err(refused(&error))),
    };
    let mut address = None;
    if let net::client::Host::Name(name) = &target.host {
        let known = options.hosts.iter().find(|(host, _)| host == name);
        address = known
            .and_then(|(_, addresses)| addresses.first())
            .map(|address| (*address, target.port).into());
    }
    target.secure = url.scheme() == "https";
    let trust = if options.image_anchors.is_empty() {
        // SZTP-8572-6.3-10: "a device MAY establish an untrusted connection to the remote server,
        // by blindly accepting the server's end-entity certificate, to obtain the boot image."
        ServerTrust::Provisional
    } else {
        let options_of_path = PathOptions {
            at: (options.clock == Clock::Trusted).then_some(at),
            purpose: Purpose::Server,
            ..PathOptions::default()
        };
        ServerTrust::anchors(Arc::new(options.image_anchors.clone()), options_of_path)
    };
    let config = ClientConfig {
        trust,
        // Whoever keeps images need not know which device fetches one.
        identity: None,
        http: HttpVersion::Http1,
        tls: options.tls,
        address,
        limits: ClientLimits {
            response_time_max: IMAGE_IDLE_MAX,
            ..ClientLimits::default()
        },
        ..ClientConfig::default()
    };
    let mut connection = match Connection::open(&target, &config).await {
        Ok(connection) => connection,
        Err(error) => return Ok(Err(refused(&error))),
    };
    let offset = size(path);
    let mut headers = HeaderMap::new();
    headers.insert(
        HeaderName::from_static("accept-encoding"),
        HeaderValue::from_static("identity"),
    );
    if offset > 0
        && let Ok(range) = HeaderValue::from_str(&format!("bytes={offset}-"))
    {
        headers.insert(header::RANGE, range);
    }
    let request_path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let mut part = Part {
        path: path.to_owned(),
        offset,
        size_max: options.image_size_max_bytes,
        file: None,
        written: 0,
        refusal: None,
        complete: false,
    };
    let result = connection.download(&request_path, headers, &mut part).await;
    if let Some(file) = &part.file {
        file.sync_all().map_err(failed(path))?;
    }
    Ok(match (part.refusal, result) {
        (Some(failure), _) => Err(Attempt::Refused(failure)),
        (None, Ok(())) => Ok(()),
        (None, Err(_)) if part.complete => Ok(()),
        (None, Err(error)) => Err(Attempt::Broken(Failure::of(&error))),
    })
}

/// Where the pieces go.
struct Part {
    path: PathBuf,
    /// What was there before.
    offset: u64,
    size_max: u64,
    file: Option<File>,
    written: u64,
    refusal: Option<Failure>,
    /// The server says that the part is the whole.
    complete: bool,
}

impl Part {
    fn refuse(&mut self, code: &str, text: String) -> net::Error {
        self.refusal = Some(Failure::new(code, text.clone()));
        net::Error::Http(text)
    }
}

impl Sink for Part {
    fn head(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<(), net::Error> {
        let offset = match status {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT if begins_at(headers) == Some(self.offset) => self.offset,
            // All of it is there already.
            StatusCode::RANGE_NOT_SATISFIABLE if self.offset > 0 => {
                self.complete = true;
                return Err(net::Error::Http("nothing is left to fetch".to_owned()));
            }
            // SZTP-8572-5.6-14: "the device MUST only use the URIs supplied by the onboarding
            // information", so a redirect leads nowhere.
            _ => {
                let text = format!("the file server answers with HTTP status {status}");
                return Err(self.refuse("device.image-fetch", text));
            }
        };
        let opened = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&self.path)
            .and_then(|mut file| {
                file.set_len(offset)?;
                std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(offset))?;
                Ok(file)
            });
        match opened {
            Ok(file) => {
                self.file = Some(file);
                self.written = offset;
                Ok(())
            }
            Err(error) => Err(self.refuse("device.image-disk", error.to_string())),
        }
    }

    fn data(&mut self, piece: &[u8]) -> Result<(), net::Error> {
        self.written = self.written.saturating_add(piece.len() as u64);
        if self.written > self.size_max {
            let text = format!("the boot image is above {} octets", self.size_max);
            return Err(self.refuse("device.image-too-large", text));
        }
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        match file.write_all(piece) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.refuse("device.image-disk", error.to_string())),
        }
    }
}

/// The first octet of a `Content-Range: bytes 100-199/200`.
fn begins_at(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let range = range.trim().strip_prefix("bytes ")?;
    range.split_once('-')?.0.trim().parse().ok()
}

/// Takes an image from the removable storage. The location's path is looked up below the folder
/// as it stands, and, as vendors write the name of the drive first, without its first segment.
fn copy(
    url: &Url,
    folder: &Path,
    path: &Path,
    size_max: u64,
) -> Result<Result<(), Failure>, Error> {
    let refuse = |code: &str, text: String| Ok(Err(Failure::new(code, text)));
    let Some(found) = candidates(url, folder)
        .into_iter()
        .find(|path| path.is_file())
    else {
        return refuse(
            "device.image-fetch",
            "the removable storage has no such file".to_owned(),
        );
    };
    let inside = fs::canonicalize(&found)
        .and_then(|found| Ok(found.starts_with(fs::canonicalize(folder)?)))
        .unwrap_or(false);
    if !inside {
        return refuse(
            "device.image-uri",
            "the file is not on the removable storage".to_owned(),
        );
    }
    if size(&found) > size_max {
        let text = format!("the boot image is above {size_max} octets");
        return refuse("device.image-too-large", text);
    }
    match fs::copy(&found, path).and_then(|_| File::open(path)?.sync_all()) {
        Ok(()) => Ok(Ok(())),
        Err(error) => refuse("device.image-disk", error.to_string()),
    }
}

fn candidates(url: &Url, folder: &Path) -> Vec<PathBuf> {
    let Ok(path) = url.to_file_path() else {
        return Vec::new();
    };
    let names: Vec<&std::ffi::OsStr> = path
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect();
    let below = |names: &[&std::ffi::OsStr]| {
        let mut path = folder.to_owned();
        path.extend(names);
        path
    };
    let mut found = vec![below(&names)];
    if let Some((_, rest)) = names.split_first().filter(|(_, rest)| !rest.is_empty()) {
        found.push(below(rest));
    }
    found
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

fn sha256_of(path: &Path) -> Result<String, Error> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(failed(path)(error)),
    };
    let mut context = digest::Context::new(&digest::SHA256);
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = file.read(&mut piece).map_err(failed(path))?;
        if count == 0 {
            return Ok(hex::encode(context.finish()));
        }
        context.update(piece.get(..count).unwrap_or_default());
    }
}
