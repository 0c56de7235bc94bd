"""A profile's TLS: contexts from its certificate files, loaded anew when those change, and who may be on the other side.

What is shown to whom is by the file names of `node/config/certificates.py`. A file that cannot be used leaves in force what
there was, and is complained of once for each change.
"""

from __future__ import annotations

import ipaddress
import logging
import ssl
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node.config.certificates import (
    BadCertificate,
    KeyPair,
    Kind,
    authorities,
    by_server_name,
    key_pair,
    kinds,
    look,
    reason,
)
from node.config.profile import ProfileSettings
from node.debug import tport

log = logging.getLogger(__name__)

NO_CHECK_TIME = 0x200000
"X509_V_FLAG_NO_CHECK_TIME, which Python's ssl does not name."
VERSIONS = {
    "tlsv1": ssl.TLSVersion.TLSv1,
    "tlsv1.1": ssl.TLSVersion.TLSv1_1,
    "tlsv1.2": ssl.TLSVersion.TLSv1_2,
    "tlsv1.3": ssl.TLSVersion.TLSv1_3,
}
"The older ones are in no OpenSSL any more."

Signature = tuple[tuple[str, int, int, int], ...]


class Unverified(Exception):
    """A peer's certificate does not say what `tls-verify-policy` wants to hear."""


@dataclass(slots=True)
class Shown:
    """What the server shows: the context without a server name, and those of server names."""

    context: ssl.SSLContext
    named: dict[str, ssl.SSLContext] = field(default_factory=dict)

    def choose(self, connection: Any, name: str | None, _context: ssl.SSLContext) -> None:
        """The SNI callback: a name that we have no certificate for gets the common one."""
        if not name or not self.named:
            return
        name = name.lower().rstrip(".")
        chosen = self.named.get(name) or self.named.get(f"*.{name.partition('.')[2]}")
        if chosen is not None:
            connection.context = chosen


class Certificates:
    """The TLS contexts of one profile."""

    def __init__(self, settings: ProfileSettings) -> None:
        self._settings = settings
        self._shown: dict[Kind, Shown] = {}
        self._client: ssl.SSLContext | None = None
        self._signature: Signature | None = None

    def configure(self, settings: ProfileSettings) -> None:
        """Go by other settings, and read the files whether they have changed or not."""
        self._settings = settings
        self._signature = None
        for kind in set(self._shown) - set(kinds(settings)):
            del self._shown[kind]
        self.refresh()

    def refresh(self) -> None:
        """Load what has changed since the last time; costs a few system calls when nothing has."""
        wanted = kinds(self._settings)
        if not wanted:
            return
        signature = tuple(_signature(Path(self._settings.tls_cert_dir)))
        if signature == self._signature:
            return
        if tport.level >= 5:
            tport.say(
                "profile %s: reads %s", self._settings.name, ", ".join(each[0] for each in signature) or "nothing"
            )
        first, self._signature = self._signature is None, signature
        for kind in wanted:
            try:
                shown, calling = self._show(kind), self._call() if kind == "TLS" else self._client
            except BadCertificate as error:
                what = "goes on with the certificate it had" if kind in self._shown else "does not start"
                log.error("profile %s: %s %s: %s", self._settings.name, kind, what, error)
            else:
                self._shown[kind], self._client = shown, calling
                if not first:
                    log.info("profile %s: the certificates of %s are read again", self._settings.name, kind)

    def server(self, kind: Kind) -> ssl.SSLContext | None:
        """For connections accepted on a TLS or WSS socket; None while there is no usable certificate."""
        if self._signature is None:
            self.refresh()
        shown = self._shown.get(kind)
        return shown.context if shown is not None else None

    def client(self) -> ssl.SSLContext | None:
        """For connections we make: shows the same certificate; None while TLS does not work."""
        if self._signature is None:
            self.refresh()
        return self._client

    # ---- who is on the other side ----------------------------------------------------------------------------------

    def verify(self, connection: ssl.SSLObject, *, inbound: bool, host: str) -> None:
        """Judge a peer whose handshake is through; `host` is whom we called. Raises Unverified."""
        policy = set(self._settings.tls_verify_policy)
        way = "in" if inbound else "out"
        if not policy & {way, "all", f"subjects_{way}", "subjects_all"}:
            return
        chain = _chain(connection)
        if len(chain) > self._settings.tls_verify_depth + 2:  # its own and the root do not count
            raise Unverified(f"a chain of {len(chain)} certificates is longer than tls-verify-depth allows")
        if not policy & {f"subjects_{way}", "subjects_all"}:
            return
        names = subjects(connection.getpeercert() or {})
        if not inbound:
            if not vouches(names, host):
                raise Unverified(f"the certificate of {', '.join(names) or 'nobody'} is not that of {host}")
        elif not set(names) & {name.lower() for name in self._settings.tls_verify_in_subjects}:
            raise Unverified(f"{', '.join(names) or 'nobody'} is not among tls-verify-in-subjects")

    @property
    def names_matter(self) -> bool:
        """Does a connection that we made belong to the name it was made for?"""
        return bool(set(self._settings.tls_verify_policy) & {"subjects_out", "subjects_all"})

    # ---- contexts --------------------------------------------------------------------------------------------------

    def _show(self, kind: Kind) -> Shown:
        directory = Path(self._settings.tls_cert_dir)
        shown = Shown(self._serving(kind, key_pair(directory, kind)))
        for name, pair in by_server_name(directory, kind).items():
            try:
                shown.named[name] = self._serving(kind, pair)
            except BadCertificate as error:
                log.error("profile %s: %s for %s: %s", self._settings.name, kind, name, error)
                before = self._shown.get(kind)
                if before is not None and name in before.named:
                    shown.named[name] = before.named[name]
        shown.context.sni_callback = shown.choose
        return shown

    def _serving(self, kind: Kind, pair: KeyPair) -> ssl.SSLContext:
        context = self._context(ssl.PROTOCOL_TLS_SERVER, pair)
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        # A browser has no certificate to show: WSS knows its peers by digest alone, as in mod_sofia.
        if kind == "TLS":
            self._vouch(context, {"in", "all", "subjects_in", "subjects_all"})
        return context

    def _call(self) -> ssl.SSLContext:
        context = self._context(ssl.PROTOCOL_TLS_CLIENT, key_pair(Path(self._settings.tls_cert_dir), "TLS"))
        context.check_hostname = False  # `verify` does, where it is wanted
        context.verify_mode = ssl.CERT_NONE
        self._vouch(context, {"out", "all", "subjects_out", "subjects_all"})
        return context

    def _context(self, protocol: int, pair: KeyPair) -> ssl.SSLContext:
        settings = self._settings
        look(pair)
        context = ssl.SSLContext(protocol)
        try:
            context.load_cert_chain(pair.certificate, pair.key, lambda: settings.tls_passphrase)
        except (OSError, ValueError) as error:
            raise BadCertificate(f"{pair.key}: {reason(error)}") from None
        try:
            context.set_ciphers(settings.tls_ciphers)
        except ssl.SSLError:
            raise BadCertificate(f"tls-ciphers names no cipher that OpenSSL has: {settings.tls_ciphers!r}") from None
        versions = [VERSIONS[name.lower()] for name in settings.tls_version if name.lower() in VERSIONS]
        with warnings.catch_warnings():
            # The operator asks for TLS 1.0 by name, or by mod_sofia's default.
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = min(versions, default=ssl.TLSVersion.TLSv1_2)
            context.maximum_version = max(versions, default=ssl.TLSVersion.MAXIMUM_SUPPORTED)
        return context

    def _vouch(self, context: ssl.SSLContext, policies: set[str]) -> None:
        """Have OpenSSL verify the peer, where one of these policies is set."""
        if not policies & set(self._settings.tls_verify_policy):
            return
        directory = Path(self._settings.tls_cert_dir)
        found = authorities(directory)
        if found is None:
            raise BadCertificate(f"{directory / 'cafile.pem'} is not there, and peers are to be verified")
        try:
            context.load_verify_locations(found)
        except (OSError, ValueError) as error:
            raise BadCertificate(f"{found}: {reason(error)}") from None
        context.verify_mode = ssl.CERT_REQUIRED
        if not self._settings.tls_verify_date:
            context.verify_flags |= NO_CHECK_TIME


def _signature(directory: Path) -> Iterator[tuple[str, int, int, int]]:
    """What changes when a certificate file does."""
    try:
        names = sorted(path for path in directory.iterdir() if path.suffix in (".pem", ".crt", ".key"))
    except OSError:
        return
    for path in names:
        try:
            found = path.stat()
        except OSError:
            continue
        yield path.name, found.st_mtime_ns, found.st_size, found.st_ino


def _chain(connection: Any) -> list[Any]:
    """The verified chain; a method of the object inside before Python 3.13."""
    inside = connection if hasattr(connection, "get_verified_chain") else connection._sslobj
    return inside.get_verified_chain() or []


def subjects(certificate: Any) -> list[str]:
    """The names in a certificate: DNS names, URIs and addresses, else the common names (RFC 5922 7.1); in lower case."""
    found = [
        value.lower() for kind, value in certificate.get("subjectAltName", ()) if kind in ("DNS", "URI", "IP Address")
    ]
    common = [value for part in certificate.get("subject", ()) for name, value in part if name == "commonName"]
    return found or [value.lower() for value in common]


def vouches(names: list[str], host: str) -> bool:
    """Do these names hold the one that was called? Wildcards count for nothing (RFC 5922 7.2)."""
    host = host.lower().strip("[]").rstrip(".")
    if host in names or f"sip:{host}" in names:
        return True
    try:
        return ipaddress.ip_address(host) in {ipaddress.ip_address(name) for name in names if _numeric(name)}
    except ValueError:
        return False


def _numeric(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
