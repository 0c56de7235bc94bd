"""Header fields with structure: NameAddr, Via, CSeq; and lists of fields."""

from __future__ import annotations

from dataclasses import dataclass

from node.sip.uri import Params, Uri


@dataclass(frozen=True, slots=True)
class NameAddr:
    """`"Alice" <sip:alice@example.org>;tag=1` (RFC 3261 20.10)."""

    uri: Uri
    display: str = ""
    "Without quotes and escapes."
    params: Params = ()

    @classmethod
    def parse(cls, text: str) -> NameAddr:
        """Raises Malformed. In an addr-spec without brackets all parameters are the field's."""
        raise NotImplementedError

    def param(self, name: str) -> str | None: raise NotImplementedError
    def with_param(self, name: str, value: str | None) -> NameAddr: raise NotImplementedError
    def without_params(self, *names: str) -> NameAddr: raise NotImplementedError

    @property
    def tag(self) -> str:
        """`` if there is none."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Via:
    """RFC 3261 20.42. `host` of an IPv6 reference keeps its brackets."""

    transport: str
    host: str
    port: int | None = None
    params: Params = ()

    @classmethod
    def parse(cls, text: str) -> Via: raise NotImplementedError
    def param(self, name: str) -> str | None: raise NotImplementedError

    @property
    def branch(self) -> str: raise NotImplementedError
    @property
    def received(self) -> str: raise NotImplementedError
    @property
    def rport(self) -> int | None:
        """The port of `;rport=`; None without one. Whether rport was asked for: `param("rport") is not None`."""
        raise NotImplementedError
    @property
    def sent_by(self) -> str: raise NotImplementedError


@dataclass(frozen=True, slots=True)
class CSeq:
    """RFC 3261 20.16."""

    number: int
    method: str

    @classmethod
    def parse(cls, text: str) -> CSeq: raise NotImplementedError


def parse_name_addr(text: str) -> NameAddr:
    return NameAddr.parse(text)


def split_list(text: str) -> list[str]:
    """The items of a comma separated field, commas in quotes and angle brackets respected; empty ones dropped."""
    raise NotImplementedError


def quote(text: str) -> str:
    """As a quoted-string."""
    raise NotImplementedError


def unquote(text: str) -> str:
    """Inside of a quoted-string, escapes resolved; anything else as it is."""
    raise NotImplementedError
