"""Certificates for the tests, made by the `openssl` command: an authority, and what it issues."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path


class Authority:
    """A certificate authority with its files in one folder."""

    def __init__(self, folder: Path, name: str = "Test Authority", *, under: Authority | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.name, self._under = folder, name, under
        self.certificate, self._key = folder / "authority.pem", folder / "authority.key"
        extensions = [
            "-addext",
            "basicConstraints=critical,CA:TRUE",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
        ]
        _request(self._key, self.certificate, name, extensions, [] if under is None else under._signing)
        self._count = 0

    @property
    def text(self) -> str:
        return self.certificate.read_text()

    @property
    def chain(self) -> str:
        """Of an authority under another one: its own certificate and those above, save the root's."""
        return self.text + self._under.chain if self._under is not None else ""

    def issue(self, *names: str, common: str = "", passphrase: str = "", expired: bool = False) -> str:
        """Key, certificate and chain as one text, for DNS names, addresses and URIs."""
        self._count += 1
        key, certificate = self.folder / f"{self._count}.key", self.folder / f"{self._count}.crt"
        subjects = ",".join(f"{_kind(name)}:{name}" for name in names)
        extensions = ["-addext", f"subjectAltName={subjects}"] if names else []
        extensions += ["-addext", "basicConstraints=critical,CA:FALSE"]
        if expired:
            self._sign_long_ago(key, certificate, common or names[0], extensions)
            return key.read_text() + certificate.read_text() + self.chain
        _request(key, certificate, common or names[0], extensions, self._signing, passphrase=passphrase)
        return key.read_text() + certificate.read_text() + self.chain

    def settings(self, address: str, *names: str) -> dict[str, str]:
        """What a node on this address is told, so that it speaks TLS with a certificate of this authority."""
        (self.folder / "agent.pem").write_text(self.issue(*names, address))
        return {"internal_ssl_enable": "true", "certs_dir": str(self.folder)}

    def trusting(self, own: str = "") -> ssl.SSLContext:
        """A client's context that trusts this authority (and shows a certificate of its own)."""
        context = ssl.create_default_context(cafile=str(self.certificate))
        context.check_hostname = False
        if own:
            path = self.folder / "client.pem"
            path.write_text(own)
            context.load_cert_chain(path)
        return context

    def _sign_long_ago(self, key: Path, certificate: Path, name: str, extensions: list[str]) -> None:
        """`openssl req` knows no date but today; `openssl ca` wants files for a whole authority."""
        request, ca = self.folder / f"{self._count}.csr", self.folder / "ca.cnf"
        words = ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
        words += ["-keyout", str(key), "-out", str(request), "-subj", f"/CN={name}", *extensions]
        subprocess.run(words, check=True, capture_output=True)
        (self.folder / "index.txt").write_text("")
        ca.write_text(
            f"[ca]\ndefault_ca=d\n[d]\ndatabase={self.folder}/index.txt\nnew_certs_dir={self.folder}\nrand_serial=yes\n"
            "default_md=sha256\npolicy=p\ncopy_extensions=copy\nunique_subject=no\n[p]\ncommonName=supplied\n"
        )
        words = [
            "openssl",
            "ca",
            "-batch",
            "-notext",
            "-config",
            str(ca),
            "-in",
            str(request),
            "-out",
            str(certificate),
        ]
        words += ["-cert", str(self.certificate), "-keyfile", str(self._key)]
        words += ["-startdate", "20200101000000Z", "-enddate", "20200201000000Z"]
        subprocess.run(words, check=True, capture_output=True)

    @property
    def _signing(self) -> list[str]:
        return ["-CA", str(self.certificate), "-CAkey", str(self._key)]


def _request(
    key: Path,
    certificate: Path,
    name: str,
    extensions: list[str],
    signing: list[str],
    *,
    passphrase: str = "",
) -> None:
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-sha256"]
    words += ["-keyout", str(key), "-out", str(certificate), "-subj", f"/CN={name}", *extensions, *signing]
    words += ["-passout", f"pass:{passphrase}"] if passphrase else ["-noenc"]
    words += ["-days", "30"]
    subprocess.run(words, check=True, capture_output=True)


def _kind(name: str) -> str:
    if name.startswith(("sip:", "sips:")):
        return "URI"
    return "IP" if name.replace(".", "").isdigit() or ":" in name else "DNS"
