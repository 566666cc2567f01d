//! What has to hold for a document, whoever made it and however the suite came by it.

pub mod voucher;
