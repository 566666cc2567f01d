//! Vouchers in CMS: the envelope.

use super::{
    super::vectors::{Encoding, Kind, Vector},
    NOW, World, pledge,
};
use crate::forge::cms::{ANIMA_JSON_VOUCHER, Attributes, Cms};

type Change = fn(&mut Cms, &World);

/// A voucher whose envelope is changed.
fn vector(
    name: &str,
    valid: bool,
    requirements: &[&'static str],
    reason: &str,
    change: Change,
) -> Vector {
    Vector::new(
        format!("voucher-cms/{name}"),
        (Kind::Voucher, Encoding::Cms),
        valid,
        requirements,
        reason,
        move |world| {
            let mut cms = right(world);
            change(&mut cms, world);
            cms.encode()
        },
    )
    .context(pledge())
}

fn right(world: &World) -> Cms {
    Cms::new(
        &world.voucher().encode(),
        ANIMA_JSON_VOUCHER,
        &world.masa.signatory,
        NOW,
    )
}

pub(super) fn vouchers() -> Vec<Vector> {
    vec![
        vector(
            "good",
            true,
            &["VOUCHER-5-01"],
            "a voucher as RFC 8366 has it",
            |_, _| {},
        ),
        vector(
            "no-signed-attributes",
            false,
            &["VOUCHERBIS-7.1-04", "CMS-5.3-03"],
            "signedAttrs are missing",
            |cms, _| cms.attributes = Attributes::Absent,
        ),
    ]
}
