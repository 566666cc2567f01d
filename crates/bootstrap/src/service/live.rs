//! The voucher for a device's nonce, fetched from its manufacturer while it waits.

use super::Service;
use crate::Error;
use crate::content::{Facts, Refusal};
use crate::profile::Signing;
use crate::register::live;

impl Service {
    /// Has the MASA make a voucher for the nonce of this request, if the device gets signed data
    /// and its vendor's file names a MASA. The engine then finds it in the register.
    ///
    /// # Errors
    /// The MASA gave none; a voucher without a nonce can still be there.
    pub(super) async fn live_voucher(&self, facts: &Facts) -> Result<(), Error> {
        let wanted = match facts.profile.signing() {
            Signing::Always => true,
            Signing::WhenAsked => facts.signed_data_preferred,
            Signing::Never => false,
        };
        let Some(nonce) = facts.nonce.as_deref().filter(|_| wanted) else {
            return Ok(());
        };
        let rules = self.0.rules.load_full();
        let Some(live) = &rules.live else {
            return Ok(());
        };
        let name = &facts.device.vendor;
        let vendor = rules.vendors.named(name);
        let Some(vendor) = vendor.or_else(|| rules.legacy_vendors.named(name)) else {
            return Ok(());
        };
        let idevid = facts.identity.as_ref();
        live::fetch(
            &self.0.store,
            live,
            vendor,
            &facts.device,
            nonce,
            idevid,
            facts.now,
        )
        .await?;
        Ok(())
    }
}

/// What a device is told that has no voucher because the MASA gave none: come again.
pub(super) fn explained(refusal: Refusal, failed: Option<&Error>) -> Refusal {
    match (refusal, failed) {
        (Refusal::NoVoucher(_), Some(error)) => Refusal::VoucherUnavailable(error.to_string()),
        (refusal, _) => refusal,
    }
}
