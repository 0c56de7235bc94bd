"""A worker's calls on real sockets, a real media process and a store in memory, with scripted phones around it.

`Rig` is one node; `crash` takes its voice away in the middle of whatever it does, and `succeed` starts another one on the
same sockets from what the store has.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

from node.calls.call import Call
from node.calls.ledger import Result
from node.calls.moving import Reinvite
from node.calls.switchboard import Switchboard
from node.config import Configuration, load
from node.directory import Directory
from node.events import Event, EventStream
from node.link import SocketName
from node.media.__main__ import prepare
from node.media.engines import Media
from node.media.session import MediaClient
from node.registrar.binding import stored_contact
from node.registrar.location import Location
from node.sip import compose
from node.sip.flow import Flow
from node.sip.layer import ClientTransaction, ServerTransaction
from node.sip.message import Request, Response
from node.transport.endpoint import Endpoint
from store.interface import Outcome, Put
from store.memory import memory_store
from store.records import CallRecord, Registration, decode_call, encode
from store.writer import Writer
from tests.node.calls.clock import ahead
from tests.support.node import loopback_address
from tests.support.phone import Phone
from tests.support.ports import free_port

DOMAIN = "pbx.test"
SLOT = "internal#0"
WITHIN = 15.0
"Seconds a test waits for anything at most."

_names = itertools.count()

CONF = """\
<document type="freeswitch/xml">
  <section name="configuration">
    <configuration name="switch.conf">
      <settings>
        <param name="switchname" value="anchor"/>
        <param name="max-sessions" value="{max_sessions}"/>
        <param name="sessions-per-second" value="10000"/>
      </settings>
    </configuration>
    <configuration name="sofia.conf">
      <profiles>
        <profile name="internal">
          <settings>
            <param name="sip-ip" value="127.0.0.1"/>
            <param name="sip-port" value="{internal}"/>
            <param name="rtp-ip" value="127.0.0.1"/>
            <param name="rtp-start-port" value="{rtp}"/>
            <param name="rtp-end-port" value="{rtp_end}"/>
            <param name="track-calls" value="true"/>
            <param name="context" value="default"/>
            <param name="inbound-codec-prefs" value="PCMU,PCMA"/>
            <param name="outbound-codec-prefs" value="PCMU,PCMA"/>
            {params}
          </settings>
        </profile>
        <profile name="external">
          <gateways>
            <gateway name="carrier">
              <param name="username" value="us"/>
              <param name="password" value="secret"/>
              <param name="realm" value="carrier.test"/>
              <param name="proxy" value="127.0.0.1:{carrier}"/>
              <param name="register" value="false"/>
            </gateway>
          </gateways>
          <settings>
            <param name="sip-ip" value="127.0.0.1"/>
            <param name="sip-port" value="{external}"/>
            <param name="rtp-ip" value="127.0.0.1"/>
            <param name="rtp-start-port" value="{rtp}"/>
            <param name="rtp-end-port" value="{rtp_end}"/>
            <param name="track-calls" value="true"/>
            <param name="context" value="default"/>
          </settings>
        </profile>
      </profiles>
    </configuration>
  </section>
  <section name="directory">
    <domain name="pbx.test">
      <params>
        <param name="dial-string" value="{{^^:sip_invite_domain=${{dialed_domain}}:presence_id=${{dialed_user}}@${{dialed_domain}}}}${{sofia_contact(*/${{dialed_user}}@${{dialed_domain}})}}"/>
      </params>
      <groups><group name="default"><users>
        {users}
      </users></group></groups>
    </domain>
  </section>
  <section name="dialplan">
    <context name="default">
      <extension name="local"><condition field="destination_number" expression="^(10\\d\\d)$">
        <action application="set" data="hangup_after_bridge=true"/>
        <action application="bridge" data="user/$1@pbx.test"/>
      </condition></extension>
      {extensions}
    </context>
  </section>
</document>
"""

USER = """<user id="{id}"><params><param name="password" value="s3cret"/></params><variables>
<variable name="user_context" value="default"/><variable name="effective_caller_id_name" value="Extension {id}"/>
<variable name="effective_caller_id_number" value="{id}"/></variables></user>"""


_processes = multiprocessing.get_context("forkserver")
# Hundreds of stages are set up here, and an interpreter takes longer to start than most of them last.
_processes.set_forkserver_preload(["node.media.__main__", "tests.node.calls.rig"])


def serve_media(path: Path) -> None:
    """A media process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prepare(path).run()


def extension(number: str, *actions: tuple[str, str]) -> str:
    """A dialplan extension for one number."""
    lines = "".join(f'<action application="{name}" data="{data}"/>' for name, data in actions)
    return (
        f'<extension name="x{number}"><condition field="destination_number" expression="^{number}$">'
        f"{lines}</condition></extension>"
    )


class Stage:
    """What outlives a node: kept sockets, the media process, the store, the configuration."""

    def __init__(
        self,
        folder: Path,
        extensions: str = "",
        *,
        max_sessions: int = 100,
        params: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.folder = folder
        self.host = "127.0.0.1"
        self.sockets: list[tuple[SocketName, socket.socket]] = []
        self.internal = self._bind("internal", SLOT)
        self.external = self._bind("external", "external#0")
        self.carrier = free_port()
        self.store_name = f"calls-{os.getpid()}-{next(_names)}"
        # Stages may stand side by side: each has media ports of its own.
        first = 20_000 + (os.getpid() * 7 + next(_names)) % 300 * 100
        users = "\n".join(USER.format(id=number) for number in range(1000, 1010))
        (folder / "conf").mkdir()
        (folder / "conf" / "freeswitch.xml").write_text(
            CONF.format(
                internal=self.internal[1],
                external=self.external[1],
                carrier=self.carrier,
                rtp=first,
                rtp_end=first + 98,
                users=users,
                extensions=extensions.replace("CARRIER", str(self.carrier)),
                max_sessions=max_sessions,
                params="".join(f'<param name="{name}" value="{value}"/>' for name, value in params.items()),
            )
        )
        self.configuration: Configuration = load(folder / "conf")
        self.media = _processes.Process(target=serve_media, args=(folder / "media",), daemon=True)
        self.media.start()
        until = time.monotonic() + WITHIN
        while not (folder / "media").exists():
            assert time.monotonic() < until, "the media process does not come up"
            time.sleep(0.005)
        self.location = Location(time.time)
        self.location.complete = True

    def _bind(self, profile: str, slot: str, port: int = 0) -> tuple[str, int]:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((self.host, port))
        address: tuple[str, int] = sock.getsockname()
        self.sockets.append((SocketName(profile, "udp", *address, slot), sock))
        return address

    def register(self, user: str, contact: str) -> None:
        self.location.learn(
            Registration(
                call_id=f"reg-{user}-{contact}",
                sip_user=user,
                sip_host=DOMAIN,
                contact=f'"" <{contact}>',
                profile_name="internal",
                expires=int(time.time()) + 600,
                version=1,
            )
        )

    def move(self) -> None:
        """The next node has an address of its own, and nobody is at the former one."""
        place = self.folder / "conf" / "freeswitch.xml"
        self.host, former = loopback_address(), self.host
        text = place.read_text()
        for name in ("sip-ip", "rtp-ip"):
            text = text.replace(f'name="{name}" value="{former}"', f'name="{name}" value="{self.host}"')
        place.write_text(text)
        self.configuration = load(self.folder / "conf")
        kept, self.sockets = self.sockets, []
        for name, sock in kept:
            sock.close()
            self._bind(name.profile, name.slot, name.port)
        self.internal, self.external = ((self.host, name.port) for name, _sock in kept)

    def close(self) -> None:
        self.media.terminate()
        self.media.join()
        for _name, sock in self.sockets:
            sock.close()


def binding_of(request: Request, flow: Flow) -> Registration:
    """What a registrar would write down of a REGISTER; behind a WebSocket as behind a NAT."""
    contact = request.contacts[0]
    nat = flow.transport in ("WS", "WSS")
    return Registration(
        call_id=request.call_id,
        sip_user=request.to.uri.user,
        sip_host=DOMAIN,
        contact=stored_contact(
            contact, request.to, source=flow.remote, nat="ws" if nat else "", path=(), received=False, secure_ws=nat
        ),
        profile_name="internal",
        expires=int(time.time()) + 600,
        version=time.time_ns() // 1000,
        flow=flow.to_record(),
        instance=contact.param("+sip.instance") or "",
        reg_id=int(contact.param("reg-id") or 0),
    )


class Tap:
    """Stands before the writer: counts the puts, and may pull the plug at one of them."""

    def __init__(self, writer: Writer, rig: Rig) -> None:
        self._writer = writer
        self._rig = rig
        self.records: list[bytes] = []
        self.crash_after = 0
        "The number of the put that is the last one to be stored."
        self.spoken = False
        "What was to be sent when the plug is pulled still goes out."
        self.lost = False
        "The last put does not reach the store."

    def put(self, record: CallRecord, then: Callable[[Outcome], None] | None = None) -> None:
        if self._rig.dead:
            return
        self.records.append(encode(record))
        if self.crash_after and len(self.records) >= self.crash_after:
            if self.spoken:
                self._rig.speak()
            if self.lost:
                self.records.pop()
            self._rig.crash()
            return
        self._writer.put(record, then)

    def store_time(self) -> float:
        return self._writer.store_time() + ahead()

    def __getattr__(self, name: str) -> object:
        return getattr(self._writer, name)


class Desk:
    """The transaction user: what a worker does, without asking for a password."""

    switchboard: Switchboard
    endpoint: Endpoint

    def on_request(self, request: Request, transaction: ServerTransaction | None, flow: Flow) -> None:
        if transaction is None or request.to_tag:
            self.switchboard.on_request(request, transaction, flow)
        elif request.method == "INVITE":
            number = request.from_.uri.user
            user = self.switchboard.exchange.directory.find(number, DOMAIN)
            self.switchboard.on_invite(request, transaction, flow, user=user)
        elif request.method == "REGISTER":
            self.switchboard.exchange.location.learn(binding_of(request, flow))
            self.endpoint.respond(transaction, compose.response(request, 200))
        elif request.method == "MESSAGE":
            self.switchboard.on_message(request, transaction)
        else:
            self.endpoint.respond(transaction, compose.response(request, 481))

    def on_cancel(self, transaction: ServerTransaction, request: Request) -> None:
        self.switchboard.on_cancel(transaction, request)

    def on_response(self, response: Response, transaction: ClientTransaction) -> None:
        self.switchboard.on_response(response, transaction)

    def on_failure(self, transaction: ClientTransaction, cause: str) -> None:
        self.switchboard.on_failure(transaction, cause)

    def on_unacknowledged(self, transaction: ServerTransaction) -> None:
        self.switchboard.on_unacknowledged(transaction)

    def on_ended_elsewhere(self, transaction: ServerTransaction) -> None:
        self.switchboard.on_ended_elsewhere(transaction)

    def on_stray_response(self, response: Response, flow: Flow) -> None:
        self.switchboard.on_stray_response(response, flow)

    def on_stray_cancel(self, request: Request, transaction: ServerTransaction, flow: Flow) -> None:
        self.switchboard.on_stray_cancel(request, transaction, flow)


class Rig:
    """One node with its calls."""

    def __init__(self, stage: Stage, node: str = "one", epoch: int = 1) -> None:
        loop = asyncio.get_running_loop()
        self.stage = stage
        self.epoch = epoch
        self.dead = False
        self.events: list[Event] = []
        self.desk = Desk()
        bus = stage.folder / f"bus-{node}-{epoch}"
        self.endpoint = Endpoint(
            stage.configuration.profiles,
            self.desk,
            profile="internal",
            token="internal.0",
            bus_folder=bus,
            loop=loop,
        )
        relay = MediaClient(
            stage.folder / "media",
            SLOT,
            add_reader=loop.add_reader,
            remove_reader=loop.remove_reader,
            call_later=loop.call_later,
        )
        self.media = Media(relay, loop)
        self.writer = Writer(
            memory_store(stage.store_name), call_soon=loop.call_soon_threadsafe, call_later=loop.call_later
        )
        self.writer.start()
        self.tap = Tap(self.writer, self)
        self.stream = EventStream()
        self.stream.listen(self.events.append)
        self.switchboard = Switchboard(
            slot=SLOT,
            node=node,
            epoch=epoch,
            endpoint=self.endpoint,
            media=self.media,
            writer=self.tap,  # type: ignore[arg-type]
            configuration=stage.configuration,
            directory=Directory(stage.configuration.directory),
            location=stage.location,
            events=self.stream,
        )
        self.desk.switchboard, self.desk.endpoint = self.switchboard, self.endpoint
        self.endpoint.moved = stage.location.moved
        # The other profile's worker has no calls here: what belongs to ours it hands on over the bus.
        self.other = Endpoint(
            stage.configuration.profiles,
            Desk(),
            profile="external",
            token="external.0",
            bus_folder=bus,
            loop=loop,
        )
        for endpoint in (self.endpoint, self.other):
            endpoint.open([(name, os.dup(sock.fileno())) for name, sock in stage.sockets])

    @property
    def live(self) -> list[Call]:
        return list(self.switchboard.exchange.calls.values())

    def speak(self) -> None:
        """Send what the stack holds ready."""
        for data, flow in self.endpoint.layer.outgoing():
            self.endpoint._transmit(data, flow)

    def crash(self) -> None:
        """From this moment nothing goes out any more, and nothing comes in."""
        self.dead = True
        self.endpoint._transmit = lambda data, flow: None  # type: ignore[method-assign]
        self.endpoint.deafen()
        self.other.deafen()

    def bury(self) -> None:
        """The rest of a crash: what the kernel does when a process is gone."""
        if not self.dead:
            self.crash()
        self.switchboard.close()
        self.endpoint.close()
        self.other.close()
        self.media.shut()
        self.writer.close(0.05)

    def succeed(self, reinvite: Reinvite = "auto", records: list[CallRecord] | None = None) -> tuple[Rig, list[Result]]:
        """Another node takes over."""
        if records is None:
            records = self.stored()
        self.bury()
        keep(self.stage, self.tap.records)
        other = Rig(self.stage, "two" if self.epoch % 2 else "one", self.epoch + 1)
        results = other.switchboard.revive(records, reinvite=reinvite)
        return other, results

    def stored(self) -> list[CallRecord]:
        """What the store would have, had everything that was put been committed: the last record of each call."""
        last: dict[str, CallRecord] = {}
        for data in self.tap.records:
            record = decode_call(data)
            last[record.uuid] = record
        return [record for record in last.values() if record.state != "ended"]

    async def idle(self, within: float = WITHIN) -> None:
        """Wait until no call is left."""
        await until(lambda: not self.live, within)


def keep(made: Stage, records: list[bytes]) -> None:
    """What was put is in the store, the ended calls too."""
    store = memory_store(made.store_name)()
    store.open()
    store.commit([Put(decode_call(data)) for data in records])
    store.close()


async def until(condition: Callable[[], object], within: float = WITHIN) -> None:
    """Wait until this holds, at most that long."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.005)


@contextlib.contextmanager
def stage(
    extensions: str = "", *, max_sessions: int = 100, params: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Stage]:
    """`params` are more params of the profile `internal`."""
    with TemporaryDirectory(prefix="calls-") as name:
        made = Stage(Path(name), extensions, max_sessions=max_sessions, params=params)
        try:
            yield made
        finally:
            made.close()


class Cast:
    """Phones by number, opened together and registered."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._exits = contextlib.AsyncExitStack()
        self.phones: list[Phone] = []

    async def phone(
        self, user: str, *, registered: bool = True, external: bool = False, kind: type[Phone] = Phone
    ) -> Phone:
        server = self._stage.external if external else self._stage.internal
        phone = await self._exits.enter_async_context(kind(user, "s3cret", server, domain=DOMAIN))
        self.phones.append(phone)
        if registered:
            self._stage.register(user, phone.contact)
        return phone

    async def close(self) -> None:
        await self._exits.aclose()


@contextlib.asynccontextmanager
async def node(
    extensions: str = "", *, max_sessions: int = 100, params: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[tuple[Rig, Cast]]:
    """A node and an empty cast; the node may have been buried by the test."""
    with stage(extensions, max_sessions=max_sessions, params=params) as made:
        rig = Rig(made)
        cast = Cast(made)
        try:
            yield rig, cast
        finally:
            await cast.close()
            if not rig.dead:
                rig.bury()
