//! X.509, CSR, CMS and JWS signatures, path validation, and the `Signer` trait with file and PKCS#11 keys.
