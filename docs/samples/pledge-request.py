#!/usr/bin/env python3
"""Writes a pledge's voucher request of constrained BRSKI, with nothing but Python and openssl.

    pledge-request.py SERIAL IDEVID-KEY REGISTRAR-CERTIFICATE > request.vch

The key is a P-256 key, the certificate that of the registrar as the DTLS handshake showed it.
"""

import hashlib
import os
import subprocess
import sys


def head(major, number):
    if number < 24:
        return bytes([major << 5 | number])
    if number < 256:
        return bytes([major << 5 | 24, number])
    return bytes([major << 5 | 25]) + number.to_bytes(2, "big")


def octets(value):
    return head(2, len(value)) + value


def text(value):
    return head(3, len(value.encode())) + value.encode()


def openssl(*arguments, given=None):
    return subprocess.run(("openssl",) + arguments, input=given, capture_output=True, check=True).stdout


def raw(signature):
    """The two numbers of an ECDSA signature in DER, 32 bytes each."""
    r_length = signature[3]
    r, s = signature[4 : 4 + r_length], signature[6 + r_length :]
    return b"".join(part.lstrip(b"\0").rjust(32, b"\0") for part in (r, s))


serial, key, certificate = sys.argv[1:]
public_key = openssl("x509", "-in", certificate, "-noout", "-pubkey")
public_key = openssl("pkey", "-pubin", "-outform", "DER", given=public_key)
# {2501: {assertion: proximity, nonce, proximity-registrar-pubk-sha256, serial-number}}
leaves = [
    (1, head(0, 2)),
    (7, octets(os.urandom(8))),
    (11, octets(hashlib.sha256(public_key).digest())),
    (13, text(serial)),
]
leaves = head(5, len(leaves)) + b"".join(head(0, name) + value for name, value in leaves)
payload = head(5, 1) + head(0, 2501) + leaves
# {alg: ES256}
protected = octets(bytes.fromhex("a10126"))
to_be_signed = head(4, 4) + text("Signature1") + protected + octets(b"") + octets(payload)
signature = raw(openssl("dgst", "-sha256", "-sign", key, given=to_be_signed))
sign1 = b"\xd2" + head(4, 4) + protected + head(5, 0) + octets(payload) + octets(signature)
sys.stdout.buffer.write(sign1)
