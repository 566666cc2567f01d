//! Boot images that this server hosts: a folder of files named by their digests.
//!
//! A name is a digest, so a file can only ever be what it is called, and no name of a peer's ever
//! becomes part of a path. A file is there whole or not at all: it is written beside its place,
//! synced, and moved there.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{Read as _, SeekFrom, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::document::Digest;
use crate::Error;

/// What the paths of images begin with.
pub const PATH: &str = "/images/";
/// The largest image, in octets.
pub const IMAGE_SIZE_MAX: u64 = 64 * 1024 * 1024 * 1024;
/// Images that are sent at once; more devices are told to come back.
const TRANSFERS_MAX: usize = 256;
/// Of those, to one IPv4 address or IPv6 /64: whoever reads slowly keeps nobody else waiting.
const TRANSFERS_PER_SENDER_MAX: usize = 64;
/// Octets that are read at once.
const PIECE: usize = 64 * 1024;

/// The folder of images. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Images {
    folder: PathBuf,
    transfers: Arc<Semaphore>,
    senders: Transfers,
    /// Files that are not what they are called.
    broken: Arc<Mutex<HashSet<Digest>>>,
}

/// How many transfers each sender has under way.
type Transfers = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// One transfer, for as long as it lasts.
#[derive(Debug)]
struct Turn {
    _permit: OwnedSemaphorePermit,
    sender: Option<(IpAddr, Transfers)>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some((sender, senders)) = &self.sender else {
            return;
        };
        let mut senders = senders.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = senders.get_mut(sender) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                senders.remove(sender);
            }
        }
    }
}

/// The path under which devices find an image.
#[must_use]
pub fn path_of(digest: &Digest, file_name: &str) -> String {
    format!("{PATH}{digest}/{file_name}")
}

impl Images {
    /// Over a folder, which need not exist yet.
    #[must_use]
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            transfers: Arc::new(Semaphore::new(TRANSFERS_MAX)),
            senders: Arc::default(),
            broken: Arc::default(),
        }
    }

    /// Where the file of this digest is, or would be.
    #[must_use]
    pub fn file(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        let part = name.get(..2).unwrap_or_default().to_owned();
        self.folder.join(part).join(name)
    }

    /// Whether the file is there in this size.
    #[must_use]
    pub fn has(&self, digest: &Digest, size: u64) -> bool {
        fs::metadata(self.file(digest)).is_ok_and(|meta| meta.is_file() && meta.len() == size)
    }

    /// Takes a file in. Says whether it was not there before.
    ///
    /// # Errors
    /// It cannot be read or written, or is not what it is said to be.
    pub fn put(&self, source: &Path, digest: &Digest, size: u64) -> Result<bool, Error> {
        if self.has(digest, size) && self.is_sound(digest)? {
            return Ok(false);
        }
        let target = self.file(digest);
        let folder = target.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).map_err(|error| Error::file(folder, error))?;
        let mut from = File::open(source).map_err(|error| Error::file(source, error))?;
        let mut to = tempfile::Builder::new()
            .prefix(".incoming-")
            .tempfile_in(folder)
            .map_err(|error| Error::file(folder, error))?;
        let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        let mut buffer = vec![0; 4 * PIECE];
        let mut copied = 0_u64;
        loop {
            let read = from
                .read(&mut buffer)
                .map_err(|error| Error::file(source, error))?;
            let piece = buffer.get(..read).unwrap_or_default();
            if piece.is_empty() {
                break;
            }
            copied = copied.saturating_add(read as u64);
            if copied > IMAGE_SIZE_MAX {
                return Err(Error::Content(format!(
                    "{} has over {IMAGE_SIZE_MAX} octets",
                    source.display()
                )));
            }
            context.update(piece);
            to.write_all(piece)
                .map_err(|error| Error::file(&target, error))?;
        }
        if context.finish().as_ref() != digest.0 || copied != size {
            return Err(Error::Content(format!(
                "{} changed while it was read",
                source.display()
            )));
        }
        to.as_file()
            .sync_all()
            .map_err(|error| Error::file(&target, error))?;
        let file = to
            .persist(&target)
            .map_err(|error| Error::file(&target, error.error))?;
        readable(&file).map_err(|error| Error::file(&target, error))?;
        // The name is durable when the folder is.
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| Error::file(folder, error))?;
        self.broken().remove(digest);
        Ok(true)
    }

    fn broken(&self) -> std::sync::MutexGuard<'_, HashSet<Digest>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a file whole and says whether it is what it is called. One that is not is served no
    /// more.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn is_sound(&self, digest: &Digest) -> Result<bool, Error> {
        let path = self.file(digest);
        let (found, _) =
            super::load::digest_of_file(&path).map_err(|error| Error::file(&path, error))?;
        if found == *digest {
            self.broken().remove(digest);
            return Ok(true);
        }
        self.broken().insert(*digest);
        Ok(false)
    }

    /// Room for one more transfer, if there is any.
    fn turn(&self, sender: Option<IpAddr>) -> Option<Turn> {
        let permit = Arc::clone(&self.transfers).try_acquire_owned().ok()?;
        let sender = sender.map(crate::auth::network);
        if let Some(sender) = sender {
            let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
            let count = senders.entry(sender).or_default();
            if *count >= TRANSFERS_PER_SENDER_MAX {
                return None;
            }
            *count += 1;
        }
        Some(Turn {
            _permit: permit,
            sender: sender.map(|sender| (sender, Arc::clone(&self.senders))),
        })
    }

    /// The answer to a request for an image, or `None` if the path is not one of an image. Without
    /// a `sender` no limit for one sender holds.
    pub async fn answer(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
        sender: Option<IpAddr>,
    ) -> Option<Response> {
        let (digest, name) = path.strip_prefix(PATH)?.split_once('/')?;
        // Only the one form that we write ourselves: 64 lower-case digits and a plain name.
        let canonical = digest.len() == 64
            && digest
                .chars()
                .all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c));
        let plain = !name.is_empty()
            && !name.starts_with('.')
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if !canonical || !plain {
            return None;
        }
        let digest = Digest::parse(digest)?;
        if *method != Method::GET && *method != Method::HEAD {
            let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
            let allow = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(header::ALLOW, allow);
            return Some(response);
        }
        if self.broken().contains(&digest) {
            return None;
        }
        let file = tokio::fs::File::open(self.file(&digest)).await.ok()?;
        let size = file.metadata().await.ok().filter(|m| m.is_file())?.len();
        let asked = (method, headers);
        Some(self.send(asked, &digest, file, size, sender).await)
    }

    async fn send(
        &self,
        (method, headers): (&Method, &HeaderMap),
        digest: &Digest,
        mut file: tokio::fs::File,
        size: u64,
        sender: Option<IpAddr>,
    ) -> Response {
        let tag = format!("\"{digest}\"");
        let text = |name| {
            headers
                .get(name)
                .and_then(|value: &HeaderValue| value.to_str().ok())
        };
        let lists = |list: &str| {
            list.split(',')
                .map(|item| item.trim().trim_start_matches("W/"))
                .any(|item| item == "*" || item == tag)
        };
        if text(header::IF_NONE_MATCH).is_some_and(lists) {
            return described(StatusCode::NOT_MODIFIED, &tag, Body::empty());
        }
        if text(header::IF_MATCH).is_some_and(|list| !lists(list)) {
            return described(StatusCode::PRECONDITION_FAILED, &tag, Body::empty());
        }
        let ranges = text(header::RANGE)
            .filter(|_| *method == Method::GET)
            // The rest of another image would not fit to what is there.
            .filter(|_| text(header::IF_RANGE).is_none_or(|wanted| wanted == tag));
        let (status, first, length) = match ranges.map(|text| range(text, size)) {
            None | Some(Range::Whole) => (StatusCode::OK, 0, size),
            Some(Range::Part { first, last }) => {
                (StatusCode::PARTIAL_CONTENT, first, last - first + 1)
            }
            Some(Range::Unsatisfiable) => {
                let mut response =
                    described(StatusCode::RANGE_NOT_SATISFIABLE, &tag, Body::empty());
                set(
                    &mut response,
                    header::CONTENT_RANGE,
                    &format!("bytes */{size}"),
                );
                return response;
            }
        };
        let body = if *method == Method::HEAD {
            Body::empty()
        } else {
            let Some(turn) = self.turn(sender) else {
                let mut response = empty(StatusCode::SERVICE_UNAVAILABLE);
                set(&mut response, header::RETRY_AFTER, "30");
                return response;
            };
            if first > 0 && file.seek(SeekFrom::Start(first)).await.is_err() {
                return empty(StatusCode::SERVICE_UNAVAILABLE);
            }
            stream(file, length, turn)
        };
        let mut response = described(status, &tag, body);
        set(&mut response, header::CONTENT_LENGTH, &length.to_string());
        if status == StatusCode::PARTIAL_CONTENT {
            let last = first + length - 1;
            let text = format!("bytes {first}-{last}/{size}");
            set(&mut response, header::CONTENT_RANGE, &text);
        }
        response
    }
}

#[cfg(unix)]
fn readable(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    // Another replica's user may read it; nobody writes it.
    file.set_permissions(fs::Permissions::from_mode(0o444))
}

#[cfg(not(unix))]
fn readable(_: &File) -> std::io::Result<()> {
    Ok(())
}

fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

fn set(response: &mut Response, name: header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn described(status: StatusCode, tag: &str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    set(&mut response, header::ETAG, tag);
    set(&mut response, header::ACCEPT_RANGES, "bytes");
    set(
        &mut response,
        header::CONTENT_TYPE,
        "application/octet-stream",
    );
    response
}

/// The octets of a file, as many as were promised, in pieces.
fn stream(file: tokio::fs::File, length: u64, turn: Turn) -> Body {
    let pieces =
        futures::stream::try_unfold((file, length, turn), |(mut file, left, turn)| async move {
            if left == 0 {
                return Ok::<_, std::io::Error>(None);
            }
            let wanted = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
            let mut piece = vec![0; wanted];
            let read = file.read(&mut piece).await?;
            if read == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            piece.truncate(read);
            let left = left.saturating_sub(read as u64);
            Ok(Some((Bytes::from(piece), (file, left, turn))))
        });
    Body::from_stream(pieces)
}

#[derive(Debug, PartialEq, Eq)]
enum Range {
    /// Not a range that is understood: the whole file is a right answer.
    Whole,
    Part {
        first: u64,
        last: u64,
    },
    Unsatisfiable,
}

/// One range of [RFC 9110 §14.1.2](https://www.rfc-editor.org/rfc/rfc9110.html#section-14.1.2).
/// Several at once are answered with the whole, which is allowed and does not multiply work.
fn range(text: &str, size: u64) -> Range {
    let Some((first, last)) = text
        .strip_prefix("bytes=")
        .filter(|rest| !rest.contains(','))
        .and_then(|rest| rest.trim().split_once('-'))
    else {
        return Range::Whole;
    };
    let number = |text: &str| -> Option<u64> {
        (!text.is_empty() && text.chars().all(|c| c.is_ascii_digit()))
            .then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (number(first), number(last)) {
        (None, Some(count)) if first.is_empty() => {
            if count == 0 || size == 0 {
                return Range::Unsatisfiable;
            }
            Range::Part {
                first: size.saturating_sub(count),
                last: size - 1,
            }
        }
        (Some(first), last_number) if last.is_empty() || last_number.is_some() => {
            let last = last_number.unwrap_or(u64::MAX);
            if last < first {
                return Range::Whole;
            }
            if first >= size {
                return Range::Unsatisfiable;
            }
            Range::Part {
                first,
                last: last.min(size - 1),
            }
        }
        _ => Range::Whole,
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[test]
    fn one_sender_has_its_share_of_the_transfers() {
        let images = Images::new(PathBuf::from("nowhere"));
        let one: Option<IpAddr> = "192.0.2.1".parse().ok();
        let other: Option<IpAddr> = "2001:db8::1".parse().ok();
        let mut held: Vec<Turn> = (0..TRANSFERS_PER_SENDER_MAX)
            .map(|_| images.turn(one).unwrap())
            .collect();
        assert!(images.turn(one).is_none());
        assert!(images.turn(other).is_some());
        drop(held.pop());
        assert!(images.turn(one).is_some());
        drop(held);
        assert!(images.senders.lock().unwrap().is_empty());
        // Behind a proxy nobody can be told from the next.
        let all: Vec<Turn> = std::iter::from_fn(|| images.turn(None)).collect();
        assert_eq!(all.len(), TRANSFERS_MAX);
        assert!(images.turn(other).is_none());
    }

    #[test]
    fn ranges_are_read_as_http_says() {
        let part = |first, last| Range::Part { first, last };
        let cases = [
            ("bytes=0-9", part(0, 9)),
            ("bytes=5-", part(5, 99)),
            ("bytes=90-1000", part(90, 99)),
            ("bytes=-10", part(90, 99)),
            ("bytes=-1000", part(0, 99)),
            ("bytes=100-", Range::Unsatisfiable),
            ("bytes=-0", Range::Unsatisfiable),
            ("bytes=99999999999999999999999-", Range::Unsatisfiable),
            ("bytes=9-5", Range::Whole),
            ("bytes=0-1,5-6", Range::Whole),
            ("bytes=a-b", Range::Whole),
            ("bytes=-", Range::Whole),
            ("bytes=+1-2", Range::Whole),
            ("lines=0-9", Range::Whole),
        ];
        for (text, expected) in cases {
            assert_eq!(range(text, 100), expected, "{text}");
        }
    }

    async fn get(images: &Images, path: &str, fields: &[(&str, &str)]) -> Option<(u16, Vec<u8>)> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = header::HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.insert(name, HeaderValue::from_str(value).unwrap());
        }
        let response = images.answer(&Method::GET, path, &headers, None).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Some((status, body.to_vec()))
    }

    #[tokio::test]
    async fn an_image_is_served_whole_and_in_parts() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("image.bin");
        let octets: Vec<u8> = (0..200_000_u32).map(|i| (i % 251) as u8).collect();
        fs::write(&source, &octets).unwrap();
        let digest = Digest::of(&octets);
        let images = Images::new(folder.path().join("images"));
        assert!(images.put(&source, &digest, 200_000).unwrap());
        assert!(!images.put(&source, &digest, 200_000).unwrap());
        let path = path_of(&digest, "image.bin");
        assert_eq!(get(&images, &path, &[]).await, Some((200, octets.clone())));
        let tag = format!("\"{digest}\"");
        // What was broken off is taken up again where it ended.
        let resumed = get(
            &images,
            &path,
            &[("range", "bytes=150000-"), ("if-range", &tag)],
        )
        .await;
        assert_eq!(resumed, Some((206, octets[150_000..].to_vec())));
        let other = get(
            &images,
            &path,
            &[("range", "bytes=150000-"), ("if-range", "\"x\"")],
        )
        .await;
        assert_eq!(other, Some((200, octets.clone())));
        assert_eq!(
            get(&images, &path, &[("range", "bytes=200000-")])
                .await
                .unwrap()
                .0,
            416
        );
        assert_eq!(
            get(&images, &path, &[("if-none-match", &tag)])
                .await
                .unwrap()
                .0,
            304
        );
        assert_eq!(
            get(&images, &path, &[("if-match", "\"x\"")])
                .await
                .unwrap()
                .0,
            412
        );
        let head = images
            .answer(&Method::HEAD, &path, &HeaderMap::new(), None)
            .await
            .unwrap();
        assert_eq!(head.headers()["content-length"], "200000");
        let post = images
            .answer(&Method::POST, &path, &HeaderMap::new(), None)
            .await
            .unwrap();
        assert_eq!(post.status().as_u16(), 405);
    }

    #[tokio::test]
    async fn no_path_leads_anywhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let images = Images::new(folder.path().join("images"));
        fs::write(folder.path().join("secret"), "hunter2").unwrap();
        let digest = Digest::of(b"x").to_string();
        let upper = digest.to_uppercase();
        for path in [
            "/images/../secret".to_owned(),
            "/images/%2e%2e/secret".to_owned(),
            format!("/images/{digest}/../../secret"),
            format!("/images/{digest}/..%2f..%2fsecret"),
            format!("/images/{digest}/.hidden"),
            format!("/images/{digest}/"),
            format!("/images/{digest}"),
            format!("/images/{upper}/a"),
            format!("/images/{digest}/a/b"),
            format!("/images/{digest}/a"),
            "/images//a".to_owned(),
            "/other".to_owned(),
        ] {
            assert_eq!(get(&images, &path, &[]).await, None, "{path}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_not_what_it_is_called_is_not_served() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("image.bin");
        fs::write(&source, "image").unwrap();
        let digest = Digest::of(b"image");
        let images = Images::new(folder.path().join("images"));
        let wrong = images.put(&source, &Digest::of(b"other"), 5);
        assert!(wrong.is_err());
        images.put(&source, &digest, 5).unwrap();
        let place = images.file(&digest);
        fs::remove_file(&place).unwrap();
        fs::write(&place, "imAge").unwrap();
        assert!(!images.is_sound(&digest).unwrap());
        assert_eq!(get(&images, &path_of(&digest, "a"), &[]).await, None);
        // Applying the folder again mends it.
        fs::remove_file(&place).unwrap();
        assert!(images.put(&source, &digest, 5).unwrap());
        assert_eq!(
            get(&images, &path_of(&digest, "a"), &[]).await.unwrap().0,
            200
        );
        let entries = fs::read_dir(place.parent().unwrap()).unwrap().count();
        assert_eq!(entries, 1, "nothing half written stays");
    }
}
