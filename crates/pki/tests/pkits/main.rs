//! Path validation held against NIST's PKITS, against rules one by one, and issuing against OpenSSL.

mod pkits;
