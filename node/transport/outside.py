"""What the world calls us: the `stun:` and `host:` forms of ext-sip-ip and ext-rtp-ip, asked for again and again.

Each process that names our addresses asks for itself, in its own loop and without waiting: a worker as soon as it is born,
so that it knows before it serves, and the console for what it shows. Until the first answer, and where there is none, the
local address is used, and the log says so. An address that was known stays when its server falls silent. It is not kept
over a failover: a successor has asked by then.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from node.config import stun as binding
from node.config.profile import ProfileSettings, is_form
from node.debug import stun
from node.sip.flow import Address
from node.sip.targets import Kind, Question, numeric
from node.transport.hosts import Hosts
from node.transport.questions import Answer, Questions

log = logging.getLogger(__name__)

REFRESH = 60.0
"Seconds until an address is asked for again: a router may get another one."
AGAIN = 15.0
"The same after a failure."
FIRST_WAIT = 0.5
SENDINGS = 4
"RFC 8489 6.2.1 with fewer repeats: at 0, 0.5, 1.5 and 3.5 s, given up after 7.5 s."


class Form(NamedTuple):
    """What is asked, and by which of our addresses."""

    text: str
    local: str


class Unknown(Exception):
    """Nobody says what the form stands for; the text says why."""


class Outside:
    """The forms of all profiles, and what they stand for. `changed` is called when that is known otherwise."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, changed: Callable[[], None], *, hosts: Path = Path("/etc/hosts")
    ) -> None:
        self.known: dict[Form, str] = {}
        self._loop = loop
        self._changed = changed
        self._questions = Questions(loop)
        self._hosts = Hosts(hosts)
        self._asking: dict[Form, asyncio.Task[None] | asyncio.TimerHandle] = {}
        "Being asked for, or resting until they are."
        self._failing: set[Form] = set()

    def configure(self, profiles: Mapping[str, ProfileSettings], servers: Sequence[Address] = ()) -> None:
        """Ask for the forms of these profiles from now on, by these name servers (none: those of resolv.conf)."""
        self._questions.configure(servers)
        wanted = {form for settings in profiles.values() for _field, form in forms(settings)}
        for form in self._asking.keys() - wanted:
            self._asking.pop(form).cancel()
            self.known.pop(form, None)
            self._failing.discard(form)
        for form in wanted:
            if form not in self._asking:
                self._begin(form)
            elif stun.level >= 5 and form in self.known:
                stun.say("%s is %s", form.text, self.known[form])

    def applied(self, profiles: Mapping[str, ProfileSettings]) -> Mapping[str, ProfileSettings]:
        """The profiles with the addresses that are known."""
        if not self._asking:
            return profiles
        return MappingProxyType({name: self._completed(settings) for name, settings in profiles.items()})

    def close(self) -> None:
        for asking in self._asking.values():
            asking.cancel()
        self._asking.clear()
        self._questions.close()

    def _completed(self, settings: ProfileSettings) -> ProfileSettings:
        found = {field: self.known.get(form, "") for field, form in forms(settings)}
        return replace(settings, **found) if found else settings  # type: ignore[arg-type]

    # ---- asking ----------------------------------------------------------------------------------------------------

    def _begin(self, form: Form) -> None:
        self._asking[form] = self._loop.create_task(self._once(form))

    async def _once(self, form: Form) -> None:
        """Ask, and have it asked again later."""
        try:
            self._learn(form, await self._ask(form))
        except (Unknown, OSError) as error:
            self._fail(form, str(error))
        except Exception:
            log.exception("asking for %s broke", form.text)
        if form in self._asking:
            pause = AGAIN if form in self._failing else REFRESH
            self._asking[form] = self._loop.call_later(pause, self._begin, form)

    def _learn(self, form: Form, address: str) -> None:
        self._failing.discard(form)
        if self.known.get(form) == address:
            return
        log.info("%s is %s, %s to us", form.text, address, form.local)
        self.known[form] = address
        self._changed()

    def _fail(self, form: Form, why: str) -> None:
        if stun.level >= 3:
            stun.say("%s: %s", form.text, why)
        if form not in self._failing:
            self._failing.add(form)
            instead = self.known.get(form, form.local)
            log.warning("%s gives no address: %s. Until it does, we call ourselves %s", form.text, why, instead)

    async def _ask(self, form: Form) -> str:
        kind, _, rest = form.text.partition(":")
        if kind == "host":
            return await self._lookup(rest, form.local)
        name, port = binding.server(rest)
        server = await self._lookup(name, form.local)
        address = await _bound(self._loop, (server, port), form.local)
        if stun.level >= 5:
            stun.say("%s is %s", form.text, address)
        return address

    async def _lookup(self, name: str, local: str) -> str:
        """An address of the family of ours."""
        address = numeric(name)
        if address is not None:
            return address
        kind: Kind = "AAAA" if ":" in local else "A"
        for address in self._hosts.find(name):
            if (":" in address) == (kind == "AAAA"):
                return address
        answered: asyncio.Future[Answer] = self._loop.create_future()
        self._questions.ask(
            Question(name.lower(), kind), lambda answer: None if answered.done() else answered.set_result(answer)
        )
        answer = await answered
        if not answer.records:
            raise Unknown(answer.failure or f"{name} has no address")
        return str(answer.records[0])


def forms(settings: ProfileSettings) -> Iterator[tuple[str, Form]]:
    """The fields that wait for an address, and what is to be asked for each."""
    if is_form(settings.ext_sip_ip):
        yield "ext_sip_address", Form(settings.ext_sip_ip, settings.sip_ip)
    if is_form(settings.ext_rtp_ip):
        yield "ext_rtp_address", Form(settings.ext_rtp_ip, settings.rtp_ip)


# ---- STUN --------------------------------------------------------------------------------------------------------------


class _Binding(asyncio.DatagramProtocol):
    """One binding transaction."""

    def __init__(self, transaction: bytes, answered: asyncio.Future[str]) -> None:
        self._transaction = transaction
        self._answered = answered

    def datagram_received(self, data: bytes, addr: object) -> None:
        if stun.level >= 9:
            stun.say("is answered %s", data.hex())
        if self._answered.done():
            return
        try:
            address = binding.mapped(data, self._transaction)
        except binding.Refused as error:
            self._answered.set_exception(Unknown(f"the STUN server says {error}"))
        else:
            if address:
                self._answered.set_result(address)

    def error_received(self, exc: Exception) -> None:
        if not self._answered.done():
            self._answered.set_exception(Unknown(f"the STUN server cannot be reached: {exc}"))


async def _bound(loop: asyncio.AbstractEventLoop, server: Address, local: str) -> str:
    """How the server sees us. Raises Unknown, OSError."""
    transaction = os.urandom(binding.TRANSACTION)
    answered: asyncio.Future[str] = loop.create_future()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Binding(transaction, answered), local_addr=(local, 0), remote_addr=server
    )
    try:
        for number in range(SENDINGS):
            if stun.level >= 7:
                stun.say("asks %s:%d", *server)
            transport.sendto(binding.request(transaction))
            try:
                async with asyncio.timeout(FIRST_WAIT * 2**number):
                    return await asyncio.shield(answered)
            except TimeoutError:
                continue
    finally:
        transport.close()
        answered.cancel()
    raise Unknown("the STUN server does not answer")
