//! Vouchers as they come from a manufacturer's portal: alone, or many in a tar, tar.gz or zip
//! archive, in DER, base64 or PEM.
//!
//! Nothing is ever written under a name that an archive gives, but a name with tricks in it is a
//! sign of a file that nobody should load, so such members are refused by name. Sizes, counts and
//! the ratio of decompression have limits, and members come one after the other: an archive of a
//! million vouchers needs no more memory than one.

use std::cell::Cell;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

/// Octets of one voucher, in whatever encoding.
pub const MEMBER_SIZE_MAX_BYTES: u64 = 256 * 1024;
/// Members of one archive.
pub const MEMBERS_MAX: u64 = 2_000_000;
/// Octets of everything in one archive, unpacked.
pub const TOTAL_SIZE_MAX_BYTES: u64 = 16 * 1024 * 1024 * 1024;
/// How many octets one octet of an archive may become.
pub const RATIO_MAX: u64 = 200;
/// Below this size the ratio is not looked at.
const RATIO_FREE_BYTES: u64 = 4 * 1024 * 1024;
/// Octets of an archive that came as base64 text, which is unpacked in memory.
const TEXT_ARCHIVE_SIZE_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Octets of the name of a member.
const NAME_LENGTH_MAX_BYTES: usize = 1024;
/// Octets of a tar header extension.
const EXTENSION_SIZE_MAX_BYTES: u64 = 64 * 1024;
/// What is looked at to tell the form of a file.
const HEAD_SIZE_BYTES: usize = 512;

/// What is allowed. The defaults are the constants of this module.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// See [`MEMBER_SIZE_MAX_BYTES`].
    pub member_size_max_bytes: u64,
    /// See [`MEMBERS_MAX`].
    pub members_max: u64,
    /// See [`TOTAL_SIZE_MAX_BYTES`].
    pub total_size_max_bytes: u64,
    /// See [`RATIO_MAX`].
    pub ratio_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            member_size_max_bytes: MEMBER_SIZE_MAX_BYTES,
            members_max: MEMBERS_MAX,
            total_size_max_bytes: TOTAL_SIZE_MAX_BYTES,
            ratio_max: RATIO_MAX,
        }
    }
}

/// Why a file or a member of it is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The stable code.
    pub code: &'static str,
    /// In words.
    pub detail: String,
}

impl Refused {
    fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
        }
    }
}

/// What a member of an archive, or a file alone, turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Something that may be a voucher: DER of a CMS structure.
    Voucher(Vec<u8>),
    /// Not a voucher by its name; why.
    Skipped(&'static str),
    /// Not taken.
    Refused(Refused),
}

/// One file, from an archive or alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name inside the archive, or the name of the file.
    pub name: String,
    /// What it is.
    pub found: Found,
}

/// Gets the members one after the other; says whether to go on.
pub type Sink<'a> = &'a mut dyn FnMut(Member) -> bool;

/// Reads a file in any of the forms and hands on its members in order.
///
/// `name` is the name of the file. A file that is no archive is one member, whatever its name
/// ends with.
///
/// # Errors
/// The file as a whole is refused: broken, or beyond a limit. Members before that place were
/// handed on.
pub fn read<R: Read + Seek>(
    name: &str,
    mut reader: R,
    limits: &Limits,
    sink: Sink<'_>,
) -> Result<(), Refused> {
    let size = reader.seek(SeekFrom::End(0)).map_err(unreadable)?;
    reader.seek(SeekFrom::Start(0)).map_err(unreadable)?;
    let head = head_of(&mut reader)?;
    reader.seek(SeekFrom::Start(0)).map_err(unreadable)?;
    match form_of(&head) {
        Form::Gzip => gzip(name, reader, limits, sink),
        Form::Zip => zip(reader, size, limits, sink),
        Form::Tar => tar(reader, limits, sink),
        Form::Text if size > limits.member_size_max_bytes || inner_form(&head).is_archive() => {
            // Some portals give an archive as base64 in one text.
            if size > TEXT_ARCHIVE_SIZE_MAX_BYTES {
                return Err(too_large("an archive in base64 text"));
            }
            let mut text = Vec::new();
            reader.read_to_end(&mut text).map_err(unreadable)?;
            let octets = base64_octets(&text)?;
            let size = octets.len() as u64;
            let form = form_of(octets.get(..HEAD_SIZE_BYTES).unwrap_or(&octets));
            let inner = Cursor::new(octets);
            match form {
                Form::Gzip => gzip(name, inner, limits, sink),
                Form::Zip => zip(inner, size, limits, sink),
                Form::Tar => tar(inner, limits, sink),
                Form::Text | Form::Other => Err(too_large("a voucher")),
            }
        }
        Form::Text | Form::Other => {
            let found = match contents(&mut reader, limits) {
                Ok(octets) => voucher(&octets),
                Err(refused) => Found::Refused(refused),
            };
            sink(Member {
                name: name.to_owned(),
                found,
            });
            Ok(())
        }
    }
}

/// The octets of a voucher that came as DER, base64 or PEM.
///
/// # Errors
/// It is none of these.
pub fn voucher_octets(bytes: &[u8]) -> Result<Vec<u8>, Refused> {
    const DER_SEQUENCE: u8 = 0x30;
    if bytes.is_empty() {
        return Err(Refused::new("bootstrap.voucher-encoding", "it is empty"));
    }
    // A text cannot begin with the octet of a DER SEQUENCE and be base64 of one: that is "0",
    // which decodes to another tag.
    if bytes.first() == Some(&DER_SEQUENCE) {
        return Ok(bytes.to_vec());
    }
    let octets = base64_octets(bytes)?;
    if octets.first() == Some(&DER_SEQUENCE) {
        return Ok(octets);
    }
    Err(Refused::new(
        "bootstrap.voucher-encoding",
        "neither DER, nor base64 or PEM of DER",
    ))
}

/// What a file name says about the serial number: the name without folder and ending.
#[must_use]
pub fn stem_of(name: &str) -> &str {
    let file = name.rsplit('/').next().unwrap_or(name);
    let mut stem = file;
    for ending in [".b64", ".vcj"] {
        if let Some(cut) = strip_ending(stem, ending) {
            stem = cut;
        }
    }
    stem
}

/// Whether a name is that of a voucher, so that its stem has to be the serial number.
#[must_use]
pub fn is_voucher_name(name: &str) -> bool {
    strip_ending(name, ".vcj").is_some() || strip_ending(name, ".vcj.b64").is_some()
}

fn strip_ending<'a>(name: &'a str, ending: &str) -> Option<&'a str> {
    let cut = name.len().checked_sub(ending.len())?;
    let (stem, tail) = (name.get(..cut)?, name.get(cut..)?);
    tail.eq_ignore_ascii_case(ending).then_some(stem)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Gzip,
    Zip,
    Tar,
    Text,
    Other,
}

impl Form {
    const fn is_archive(self) -> bool {
        matches!(self, Self::Gzip | Self::Zip | Self::Tar)
    }
}

fn form_of(head: &[u8]) -> Form {
    if head.starts_with(&[0x1f, 0x8b]) {
        return Form::Gzip;
    }
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        return Form::Zip;
    }
    if head.get(257..262) == Some(b"ustar") {
        return Form::Tar;
    }
    let text = |octet: &u8| octet.is_ascii_alphanumeric() || b"+/=-\r\n\t ".contains(octet);
    if !head.is_empty() && head.iter().all(text) {
        return Form::Text;
    }
    Form::Other
}

/// What the beginning of a base64 text would be.
fn inner_form(head: &[u8]) -> Form {
    let symbols: Vec<u8> = head
        .iter()
        .copied()
        .filter(|octet| !octet.is_ascii_whitespace() && *octet != b'=')
        .collect();
    let whole = symbols.len() - symbols.len() % 4;
    let octets = BASE64
        .decode(symbols.get(..whole).unwrap_or_default())
        .unwrap_or_default();
    form_of(&octets)
}

fn unreadable(error: std::io::Error) -> Refused {
    // The limits of this module travel through readers of other crates as I/O errors.
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Beyond>())
    {
        Some(Beyond(refused)) => refused.clone(),
        None => Refused::new("bootstrap.archive-broken", error.to_string()),
    }
}

fn too_large(what: &str) -> Refused {
    Refused::new("bootstrap.archive-limit", format!("too large for {what}"))
}

fn head_of<R: Read>(reader: &mut R) -> Result<Vec<u8>, Refused> {
    let mut head = Vec::with_capacity(HEAD_SIZE_BYTES);
    reader
        .take(HEAD_SIZE_BYTES as u64)
        .read_to_end(&mut head)
        .map_err(unreadable)?;
    Ok(head)
}

fn contents<R: Read>(reader: &mut R, limits: &Limits) -> Result<Vec<u8>, Refused> {
    let mut octets = Vec::new();
    reader
        .take(limits.member_size_max_bytes.saturating_add(1))
        .read_to_end(&mut octets)
        .map_err(unreadable)?;
    if octets.len() as u64 > limits.member_size_max_bytes {
        return Err(too_large("a voucher"));
    }
    Ok(octets)
}

fn voucher(octets: &[u8]) -> Found {
    match voucher_octets(octets) {
        Ok(der) => Found::Voucher(der),
        Err(refused) => Found::Refused(refused),
    }
}

fn base64_octets(text: &[u8]) -> Result<Vec<u8>, Refused> {
    let wrong = |detail: &str| Refused::new("bootstrap.voucher-encoding", detail);
    let text = std::str::from_utf8(text).map_err(|_| wrong("neither DER nor text"))?;
    let text = text.trim_start_matches('\u{feff}');
    let is_pem = text.trim_start().starts_with("-----BEGIN ");
    let mut symbols = String::with_capacity(text.len());
    let mut ended = false;
    for line in text.lines() {
        if is_pem && line.starts_with("-----") {
            if line.starts_with("-----END ") {
                ended = true;
            } else if ended {
                return Err(wrong("more than one PEM block in a file"));
            }
            continue;
        }
        symbols.extend(line.chars().filter(|c| !c.is_ascii_whitespace()));
    }
    BASE64
        .decode(symbols)
        .map_err(|error| wrong(&format!("neither DER nor base64: {error}")))
}

/// A limit that was passed, inside an I/O error.
#[derive(Debug)]
struct Beyond(Refused);

impl std::fmt::Display for Beyond {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.detail)
    }
}

impl std::error::Error for Beyond {}

/// Counts what passes.
struct Counting<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.count
            .set(self.count.get().saturating_add(length as u64));
        Ok(length)
    }
}

/// Ends with an error when too much comes out of what went in.
struct Bounded<R> {
    inner: R,
    taken: Rc<Cell<u64>>,
    given: u64,
    limits: Limits,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.given = self.given.saturating_add(length as u64);
        check_total(self.given, self.taken.get(), &self.limits)
            .map_err(|refused| std::io::Error::other(Beyond(refused)))?;
        Ok(length)
    }
}

fn check_total(given: u64, taken: u64, limits: &Limits) -> Result<(), Refused> {
    if given > limits.total_size_max_bytes {
        return Err(Refused::new(
            "bootstrap.archive-limit",
            format!("more than {} octets unpacked", limits.total_size_max_bytes),
        ));
    }
    if given > RATIO_FREE_BYTES && given / taken.max(1) > limits.ratio_max {
        return Err(Refused::new(
            "bootstrap.archive-limit",
            format!(
                "each octet becomes more than {}: a decompression bomb",
                limits.ratio_max
            ),
        ));
    }
    Ok(())
}

fn gzip<R: Read>(name: &str, reader: R, limits: &Limits, sink: Sink<'_>) -> Result<(), Refused> {
    let taken = Rc::new(Cell::new(0));
    let source = Counting {
        inner: BufReader::new(reader),
        count: Rc::clone(&taken),
    };
    let mut unpacked = Bounded {
        inner: flate2::read::MultiGzDecoder::new(source),
        taken,
        given: 0,
        limits: *limits,
    };
    let head = head_of(&mut unpacked)?;
    let form = form_of(&head);
    let mut whole = Cursor::new(head).chain(unpacked);
    match form {
        Form::Tar => tar(whole, limits, sink),
        Form::Gzip | Form::Zip => Err(Refused::new(
            "bootstrap.archive-nested",
            "an archive inside an archive",
        )),
        Form::Text | Form::Other => {
            let found = match contents(&mut whole, limits) {
                Ok(octets) => voucher(&octets),
                Err(refused) => Found::Refused(refused),
            };
            let name = strip_ending(name, ".gz").unwrap_or(name).to_owned();
            sink(Member { name, found });
            Ok(())
        }
    }
}

/// A member by its name: whether it is a voucher at all, and whether the name is honest.
fn by_name(raw: &[u8]) -> (String, Option<Found>) {
    let shown: String = String::from_utf8_lossy(raw).chars().take(200).collect();
    let refuse = |detail: &str| {
        let refused = Refused::new("bootstrap.archive-name", detail);
        (shown.clone(), Some(Found::Refused(refused)))
    };
    if raw.len() > NAME_LENGTH_MAX_BYTES {
        return refuse("its name is too long");
    }
    let Ok(name) = std::str::from_utf8(raw) else {
        return refuse("its name is not text");
    };
    if name.is_empty() || name.chars().any(char::is_control) {
        return refuse("its name is empty or has control characters");
    }
    let drive = name.get(1..2) == Some(":") && name.starts_with(|c: char| c.is_ascii_alphabetic());
    if name.starts_with('/') || name.contains('\\') || drive {
        return refuse("its name is a path from the root, or of another system");
    }
    if name.split('/').any(|part| part == "..") {
        return refuse("its name leads out of the archive");
    }
    let file = name.rsplit('/').next().unwrap_or_default();
    let skipped = if file.starts_with('.') || name.starts_with("__MACOSX/") {
        Some("a file of the packer's system")
    } else if is_voucher_name(file) || strip_ending(file, ".b64").is_some() {
        None
    } else if strip_ending(file, ".vjj").is_some() {
        Some("a JWS voucher: a device of RFC 8572 takes CMS")
    } else {
        Some("not named .vcj")
    };
    (name.to_owned(), skipped.map(Found::Skipped))
}

/// Counts members.
struct Members {
    count: u64,
    max: u64,
}

impl Members {
    fn next(&mut self) -> Result<(), Refused> {
        self.count += 1;
        if self.count > self.max {
            return Err(Refused::new(
                "bootstrap.archive-limit",
                format!("more than {} members", self.max),
            ));
        }
        Ok(())
    }
}

fn tar<R: Read>(reader: R, limits: &Limits, sink: Sink<'_>) -> Result<(), Refused> {
    let taken = Rc::new(Cell::new(0));
    let source = Counting {
        inner: reader,
        count: Rc::clone(&taken),
    };
    let mut archive = tar::Archive::new(source);
    let mut members = Members {
        count: 0,
        max: limits.members_max,
    };
    // Long names come as entries of their own. The library would read them whole, however long
    // they claim to be, so it is told to leave them alone.
    let mut long_name: Option<Vec<u8>> = None;
    for entry in archive.entries().map_err(unreadable)?.raw(true) {
        let mut entry = entry.map_err(unreadable)?;
        members.next()?;
        if taken.get() > limits.total_size_max_bytes {
            return Err(too_large("an archive of vouchers"));
        }
        let kind = entry.header().entry_type();
        let size = entry.header().entry_size().map_err(unreadable)?;
        if kind.is_gnu_longname() || kind.is_pax_local_extensions() {
            let mut octets = Vec::new();
            if size > EXTENSION_SIZE_MAX_BYTES {
                return Err(Refused::new(
                    "bootstrap.archive-limit",
                    "a header extension is too long",
                ));
            }
            entry.read_to_end(&mut octets).map_err(unreadable)?;
            if kind.is_gnu_longname() {
                while octets.last() == Some(&0) {
                    octets.pop();
                }
                long_name = Some(octets);
            } else if let Some(path) = pax_path(&octets) {
                long_name = Some(path);
            }
            continue;
        }
        let name = long_name
            .take()
            .unwrap_or_else(|| entry.header().path_bytes().into_owned());
        if kind.is_dir() || kind.is_pax_global_extensions() {
            continue;
        }
        let (name, verdict) = by_name(&name);
        let found = match verdict {
            Some(found) => found,
            None if !(kind.is_file() || kind.is_contiguous()) => Found::Refused(Refused::new(
                "bootstrap.archive-entry",
                "it is a link or a device and not a file",
            )),
            None if size > limits.member_size_max_bytes => Found::Refused(too_large("a voucher")),
            None => voucher(&contents(&mut entry, limits)?),
        };
        if !sink(Member { name, found }) {
            return Ok(());
        }
    }
    Ok(())
}

/// The record `path` of a pax header: `LENGTH path=NAME\n`.
fn pax_path(octets: &[u8]) -> Option<Vec<u8>> {
    tar::PaxExtensions::new(octets)
        .filter_map(Result::ok)
        .find(|extension| extension.key_bytes() == b"path")
        .map(|extension| extension.value_bytes().to_vec())
}

fn zip<R: Read + Seek>(
    reader: R,
    size: u64,
    limits: &Limits,
    sink: Sink<'_>,
) -> Result<(), Refused> {
    let broken =
        |error: zip::result::ZipError| Refused::new("bootstrap.archive-broken", error.to_string());
    let mut archive = zip::ZipArchive::new(BufReader::new(reader)).map_err(broken)?;
    if archive.len() as u64 > limits.members_max {
        return Err(Refused::new(
            "bootstrap.archive-limit",
            format!("more than {} members", limits.members_max),
        ));
    }
    let mut given: u64 = 0;
    for index in 0..archive.len() {
        // Names first, from the directory: what is skipped need not be readable.
        let (raw, is_dir, is_link) = {
            let entry = archive.by_index_raw(index).map_err(broken)?;
            (
                entry.name_raw().to_vec(),
                entry.is_dir(),
                entry.is_symlink(),
            )
        };
        if is_dir {
            continue;
        }
        let (name, verdict) = by_name(&raw);
        let found = match verdict {
            Some(found) => found,
            None if is_link => Found::Refused(Refused::new(
                "bootstrap.archive-entry",
                "it is a link and not a file",
            )),
            None => match archive.by_index(index) {
                Err(error) => Found::Refused(broken(error)),
                Ok(mut entry) => match contents(&mut entry, limits) {
                    // What was too large was unpacked up to the limit, and counts.
                    Err(refused) => {
                        given = given.saturating_add(limits.member_size_max_bytes);
                        check_total(given, size, limits)?;
                        Found::Refused(refused)
                    }
                    Ok(octets) => {
                        given = given.saturating_add(octets.len() as u64);
                        check_total(given, size, limits)?;
                        voucher(&octets)
                    }
                },
            },
        };
        if !sink(Member { name, found }) {
            return Ok(());
        }
    }
    Ok(())
}
