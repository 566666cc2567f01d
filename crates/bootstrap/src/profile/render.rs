//! What a profile changes in what is sent.

use artifacts::Encoding;
use artifacts::conveyed::{ConfigurationHandling, ConveyedInformation};
use sztp::message::GetBootstrappingDataOutput;

use super::{Profile, Quirk};

/// The port that redirect information stands for when it says none.
const PORT_DEFAULT: u16 = 443;
/// Characters on one line of base64, as OpenSSL and PEM have it.
const LINE_LENGTH: usize = 64;
/// The namespace of the RPCs, and what one library makes of it.
const NAMESPACE: &str = "urn:ietf:params:xml:ns:yang:ietf-sztp-bootstrap-server";
const NAMESPACE_CASE: &str = "urn:ietf:params:xml:ns:yang:ietf-SZTP-bootstrap-server";
/// The namespace of conveyed information.
const CONVEYED_NAMESPACE: &str = "urn:ietf:params:xml:ns:yang:ietf-sztp-conveyed-info";

/// A device with this profile would not take what it is meant to get.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("profile {profile}, quirk {quirk}: {detail}")]
pub struct Unfit {
    /// The profile.
    pub profile: String,
    /// The quirk that says so.
    pub quirk: Quirk,
    /// Why.
    pub detail: String,
}

impl Profile {
    /// Brings conveyed information into the shape that such a device reads.
    ///
    /// # Errors
    /// [`Unfit`]: no shape of it is good for such a device.
    pub fn shape(
        &self,
        mut information: ConveyedInformation,
    ) -> Result<ConveyedInformation, Unfit> {
        let unfit = |quirk, detail: String| {
            Err(Unfit {
                profile: self.name.clone(),
                quirk,
                detail,
            })
        };
        match &mut information {
            ConveyedInformation::Redirect(redirect) => {
                for server in &mut redirect.bootstrap_servers {
                    if self.has(Quirk::RedirectTrustAnchor) && server.trust_anchor.is_none() {
                        return unfit(
                            Quirk::RedirectTrustAnchor,
                            format!("the redirect to {} has no trust anchor", server.address),
                        );
                    }
                    if self.has(Quirk::ExplicitPort) {
                        server.port = server.port.or(Some(PORT_DEFAULT));
                    }
                }
            }
            ConveyedInformation::Onboarding(onboarding) => {
                if self.has(Quirk::ReplaceOnly)
                    && onboarding.configuration_handling == Some(ConfigurationHandling::Merge)
                {
                    return unfit(Quirk::ReplaceOnly, "the handling is `merge`".to_owned());
                }
                let Some(image) = &mut onboarding.boot_image else {
                    return Ok(information);
                };
                if self.has(Quirk::HttpsImages) {
                    let other = image.download_uris.iter().find(|uri| {
                        !uri.get(..8)
                            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"))
                    });
                    if let Some(uri) = other {
                        return unfit(Quirk::HttpsImages, format!("{uri} is not https"));
                    }
                }
                if self.has(Quirk::OmitOsNames) {
                    image.os_name = None;
                    image.os_version = None;
                }
                if self.has(Quirk::SingleDownloadUri) {
                    image.download_uris.truncate(1);
                }
                if self.has(Quirk::PositionalImageVerification)
                    && let [one] = image.image_verifications.as_slice()
                {
                    // The same image at each place has the same hash.
                    image.image_verifications = vec![one.clone(); image.download_uris.len()];
                }
            }
        }
        Ok(information)
    }

    /// Changes the text of conveyed information as such a device wants it. What is signed is what
    /// comes out of this.
    #[must_use]
    pub fn finish_content(&self, content: Vec<u8>, encoding: Encoding) -> Vec<u8> {
        if encoding == Encoding::Json || !self.has(Quirk::WrappedConveyedInformation) {
            return content;
        }
        let open = format!("<conveyed-information xmlns=\"{CONVEYED_NAMESPACE}\">");
        let body = content
            .strip_prefix(b"<?xml".as_slice())
            .and_then(|rest| {
                let end = rest.windows(2).position(|pair| pair == b"?>")?;
                rest.get(end + 2..)
            })
            .unwrap_or(&content);
        let mut wrapped = open.into_bytes();
        wrapped.extend_from_slice(body.trim_ascii());
        wrapped.extend_from_slice(b"</conveyed-information>");
        wrapped
    }

    /// The body of a reply to get-bootstrapping-data, without what such a device cannot read.
    #[must_use]
    pub fn render(&self, output: &GetBootstrappingDataOutput, encoding: Encoding) -> Vec<u8> {
        let mut output = output.clone();
        if self.has(Quirk::OmitReportingLevel) {
            output.reporting_level = None;
        }
        if self.has(Quirk::OmitOwnerArtefacts) {
            output.owner_certificate = None;
            output.ownership_voucher = None;
        }
        let body = output.encode(encoding);
        if encoding == Encoding::Json {
            return body;
        }
        // Our own encoder writes UTF-8; if it did not, the body would go out as it is.
        let Ok(mut text) = String::from_utf8(body.clone()) else {
            return body;
        };
        if self.has(Quirk::NamespaceCaseInReply) {
            text = text.replace(NAMESPACE, NAMESPACE_CASE);
        }
        if self.has(Quirk::LineFeedsInReply) {
            for element in [
                "conveyed-information",
                "owner-certificate",
                "ownership-voucher",
            ] {
                text = break_lines(&text, element);
            }
        }
        text.into_bytes()
    }
}

/// Breaks the content of one element into lines.
fn break_lines(text: &str, element: &str) -> String {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let parts = text.split_once(&open).and_then(|(before, rest)| {
        let (content, after) = rest.split_once(&close)?;
        Some((before, content, after))
    });
    let Some((before, content, after)) = parts else {
        return text.to_owned();
    };
    let mut broken = String::with_capacity(text.len() + text.len() / LINE_LENGTH + 16);
    broken.push_str(before);
    broken.push_str(&open);
    for (index, character) in content.chars().enumerate() {
        if index % LINE_LENGTH == 0 {
            broken.push('\n');
        }
        broken.push(character);
    }
    broken.push('\n');
    broken.push_str(&close);
    broken.push_str(after);
    broken
}
