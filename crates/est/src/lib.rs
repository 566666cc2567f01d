//! EST (RFC 7030, 8951, 9908): what to ask and what to answer, whatever the transport.
