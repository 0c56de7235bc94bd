"""Where a profile's certificates lie, by mod_sofia's file names and one rule of ours for server names; and what is wrong with them.

agent.pem          key, certificate and its chain, for TLS; without it tls.pem
cafile.pem         who may vouch for peers; without it, if there is no agent.pem either, tls.pem
wss.crt, wss.key   for WSS; without them wss.pem; without that the one for TLS
agent.NAME.pem     ours: shown to a client that asks for the server NAME (SNI) by TLS; `_` for `*` as in agent._.a.test.pem
wss.NAME.pem       ours: the same by WSS
"""

from __future__ import annotations

import binascii
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from node.config.profile import ProfileSettings

Kind = Literal["TLS", "WSS"]
PREFIX: dict[Kind, str] = {"TLS": "agent", "WSS": "wss"}

_NAME = re.compile(r"(?P<prefix>agent|wss)\.(?P<name>[^/]+)\.pem", re.IGNORECASE)
_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)


class BadCertificate(Exception):
    """A certificate, key or list of authorities cannot be used; the text names the file."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A certificate with its chain, and its key; often one file."""

    certificate: Path
    key: Path


def key_pair(directory: Path, kind: Kind) -> KeyPair:
    """The one shown to who asks for no server by name. The files need not be there."""
    if kind == "WSS":
        certificate, key, both = directory / "wss.crt", directory / "wss.key", directory / "wss.pem"
        if certificate.exists() and key.exists():
            return KeyPair(certificate, key)
        if both.exists() or not any((directory / name).exists() for name in ("agent.pem", "tls.pem")):
            return KeyPair(both, both)
    agent, tls = directory / "agent.pem", directory / "tls.pem"
    chosen = tls if tls.exists() and not agent.exists() else agent
    return KeyPair(chosen, chosen)


def authorities(directory: Path) -> Path | None:
    """Who may vouch for peers; None if there is no such file."""
    own, tls = directory / "cafile.pem", directory / "tls.pem"
    if own.exists():
        return own
    return tls if tls.exists() and not (directory / "agent.pem").exists() else None


def by_server_name(directory: Path, kind: Kind) -> dict[str, KeyPair]:
    """The certificates of server names, in lower case; `*.a.test` for one written `_.a.test`."""
    found = {}
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return {}
    for name in names:
        match = _NAME.fullmatch(name)
        if match is not None and match["prefix"].lower() == PREFIX[kind]:
            server = match["name"].lower()
            server = f"*{server[1:]}" if server.startswith("_.") else server
            found[server] = KeyPair(directory / name, directory / name)
    return found


def kinds(settings: ProfileSettings) -> list[Kind]:
    """The transports of a profile that need a certificate."""
    return [*(("TLS",) if settings.tls else ()), *(("WSS",) if settings.wss_binding is not None else ())]


def wrongs(settings: ProfileSettings, *, thorough: bool) -> Iterator[tuple[str, str]]:
    """(param, sentence) of each thing that keeps TLS or WSS of a profile from working.

    `thorough`: the keys are tried too, as OpenSSL would; else it is only looked whether the files could be what they should.
    """
    directory = Path(settings.tls_cert_dir)
    for kind in kinds(settings):
        param = "tls" if kind == "TLS" else "wss-binding"
        for pair in (key_pair(directory, kind), *by_server_name(directory, kind).values()):
            try:
                look(pair)
                if thorough:
                    _try(pair, settings.tls_passphrase)
            except BadCertificate as error:
                yield param, f"{kind} does not start: {error}"
    if not settings.tls:
        return
    vouching = authorities(directory)
    if vouching is None and set(settings.tls_verify_policy) - {"none"}:
        yield (
            "tls-verify-policy",
            f"TLS does not start: {directory / 'cafile.pem'} is not there, and peers are to be verified",
        )
    elif vouching is not None and thorough:
        try:
            _try_authorities(vouching)
        except BadCertificate as error:
            yield "tls-verify-policy", f"TLS does not start: {error}"
    if thorough and not _ciphers_known(settings.tls_ciphers):
        yield "tls-ciphers", f"TLS does not start: names no cipher that OpenSSL has: {settings.tls_ciphers!r}"


def look(pair: KeyPair) -> None:
    """Could these files be a certificate and its key? Raises BadCertificate."""
    for path, wanted in ((pair.certificate, "CERTIFICATE"), (pair.key, "PRIVATE KEY")):
        try:
            text = path.read_text("utf-8", "replace")
        except OSError as error:
            raise BadCertificate(f"{path}: {error.strerror}") from None
        blocks = [(label, body) for label, body in _BLOCK.findall(text) if label.endswith(wanted)]
        if not blocks:
            raise BadCertificate(f"{path}: there is no {wanted} in it")
        for _label, body in blocks:
            if not _readable(body):
                raise BadCertificate(f"{path}: its {wanted} is no base64")


def _readable(body: str) -> bool:
    # An encrypted key in the old form begins with fields of its own.
    _fields, blank, rest = body.strip().partition("\n\n")
    try:
        return bool(binascii.a2b_base64("".join((rest if blank else body).split()), strict_mode=True))
    except ValueError:  # what is not ASCII, and all that binascii finds
        return False


# The supervisor reads configurations too, and shall not load OpenSSL: what needs it is for `sofia-node check` alone.


def _try(pair: KeyPair, passphrase: str) -> None:
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(pair.certificate, pair.key, lambda: passphrase)
    except (OSError, ValueError) as error:
        raise BadCertificate(f"{pair.key}: {reason(error)}") from None


def _try_authorities(path: Path) -> None:
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except (OSError, ValueError) as error:
        raise BadCertificate(f"{path}: {reason(error)}") from None


def _ciphers_known(text: str) -> bool:
    import ssl

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).set_ciphers(text)
    except ssl.SSLError:
        return False
    return True


def reason(error: Exception) -> str:
    """What OpenSSL's error says, in words that name the remedy where they can."""
    said = str(getattr(error, "reason", None) or getattr(error, "strerror", None) or error)
    if "KEY_VALUES_MISMATCH" in said:
        return "the key is not the certificate's"
    if "PEM lib" in said or "BAD_DECRYPT" in said:
        return "it cannot be read; if the key is encrypted, tls-passphrase does not open it"
    return said.replace("_", " ").lower()
