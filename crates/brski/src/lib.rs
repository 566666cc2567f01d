//! Pledge, registrar and MASA side of BRSKI (RFC 8995, rfc8366bis, JWS vouchers) without I/O.
