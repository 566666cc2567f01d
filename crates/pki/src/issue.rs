//! Issuing certificates and CRLs.
