"""SIP, SIPS and TEL URIs (RFC 3261 19.1)."""

from __future__ import annotations

from dataclasses import dataclass, replace

Params = tuple[tuple[str, str | None], ...]
"Parameters in order, names as written; None for one without `=`."


@dataclass(frozen=True, slots=True)
class Uri:
    """A URI in its parts. `host` of an IPv6 reference keeps its brackets; of a foreign scheme (tel, urn), `user` holds the rest."""

    scheme: str
    user: str
    host: str
    port: int | None = None
    password: str | None = None
    params: Params = ()
    headers: str = ""

    @classmethod
    def parse(cls, text: str) -> Uri:
        """Raises Malformed."""
        raise NotImplementedError

    def param(self, name: str) -> str | None:
        """Value of a parameter: `""` if it stands there without one, None if it is not there."""
        raise NotImplementedError

    def with_param(self, name: str, value: str | None) -> Uri:
        """With this parameter set (None: present without value)."""
        raise NotImplementedError

    def without_params(self, *names: str) -> Uri:
        """Without these parameters; without any if none is named."""
        raise NotImplementedError

    @property
    def transport(self) -> str:
        """`;transport=` in capitals, or ``."""
        raise NotImplementedError

    @property
    def address(self) -> str:
        """The host without the brackets of an IPv6 reference."""
        raise NotImplementedError

    @property
    def host_port(self) -> str:
        raise NotImplementedError

    @property
    def aor(self) -> str:
        """`scheme:user@host`: without port, password, parameters and headers."""
        return str(replace(self, port=None, password=None, params=(), headers=""))


def same(a: Uri, b: Uri) -> bool:
    """Equal by the rules of RFC 3261 19.1.4."""
    raise NotImplementedError
