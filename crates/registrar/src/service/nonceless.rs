//! Nonceless vouchers, asked for before the device comes
//! ([RFC 8995 §5.5](https://www.rfc-editor.org/rfc/rfc8995.html#section-5.5)).

use artifacts::Envelope;
use brski::masa::DeviceKey;
use brski::registrar::{MasaAnswer, Nonceless, Refusal, masa_base_url, nonceless_call};

use super::Service;
use crate::Error;
use crate::vendor::Vendor;

impl Service {
    /// Asks a vendor's MASA for a voucher without a nonce. The voucher is not judged here.
    ///
    /// BRSKI-3.1-01: such a request has neither nonce nor prior-signed-voucher-request.
    ///
    /// # Errors
    /// The profile names no MASA, or the MASA does not give one.
    pub async fn request_nonceless(
        &self,
        vendor: &Vendor,
        serial: &str,
        issuer_key_id: Option<Vec<u8>>,
        envelope: Envelope,
    ) -> Result<Vec<u8>, Error> {
        // There is no IDevID yet whose extension could say it.
        let url = vendor
            .profile
            .masa
            .url
            .as_ref()
            .or(vendor.profile.masa.fallback_url.as_ref());
        let masa = masa_base_url(url.ok_or(Refusal::MasaUrlMissing)?)?;
        let wanted = Nonceless {
            device: DeviceKey {
                issuer_key_id,
                serial: serial.to_owned(),
            },
            masa,
            envelope,
            cose_name: vendor.profile.masa.cose_name,
        };
        let keys = self.keys();
        let call = nonceless_call(&wanted, keys.registrar()?, self.now())?;
        let answered = self.call_masa(vendor, &call).await?;
        match answered.as_protocol() {
            MasaAnswer::Http {
                status: 200, body, ..
            } => Ok(body.to_vec()),
            MasaAnswer::Http { status: 401, .. } => Err(Refusal::MasaUnauthorised.into()),
            MasaAnswer::Http { status, body, .. } => {
                let text = String::from_utf8_lossy(body);
                let text = text.chars().filter(|c| !c.is_control()).take(300).collect();
                Err(Refusal::MasaRefused { status, text }.into())
            }
            MasaAnswer::Unreachable(why) => Err(Refusal::MasaUnreachable(why.to_owned()).into()),
        }
    }
}
