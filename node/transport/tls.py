"""TLS between a socket and a framing: bytes in, bytes out, no socket of its own."""

from __future__ import annotations

import ssl

READ = 65536


class TlsLayer:
    """One TLS connection over memory. Raises ssl.SSLError where the peer or its certificate is at fault."""

    def __init__(self, context: ssl.SSLContext, *, inbound: bool, host: str = "") -> None:
        """`host`: whom we call, for SNI."""
        self.made = False
        "Is the handshake through?"
        self.ended = False
        "Has the peer said that nothing more will come?"
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            self.connection = context.wrap_bio(
                self._incoming, self._outgoing, server_side=inbound, server_hostname=None if inbound else host or None
            )
        except ValueError:  # no name that SNI can carry
            self.connection = context.wrap_bio(self._incoming, self._outgoing, server_side=inbound)

    def begin(self) -> None:
        """Make the first step, which is the client's."""
        self._shake_hands()

    def feed(self, data: bytes) -> bytes:
        """What the peer said in clear."""
        self._incoming.write(data)
        if not self.made and not self._shake_hands():
            return b""
        said = []
        try:
            while chunk := self.connection.read(READ):
                said.append(chunk)
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        return b"".join(said) if len(said) != 1 else said[0]

    def write(self, data: bytes) -> None:
        """Say something; the handshake must be through."""
        self.connection.write(data)

    def outgoing(self) -> bytes:
        """What is to be sent now."""
        return self._outgoing.read()

    def farewell(self) -> bytes:
        """What ends it in order."""
        if self.made:
            try:
                self.connection.unwrap()
            except (ssl.SSLError, OSError):
                pass  # the peer has not said its farewell yet, and we do not wait for it
        return self._outgoing.read()

    def _shake_hands(self) -> bool:
        try:
            self.connection.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self.made = True
        return True
