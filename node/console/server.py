"""The console process: listens on the event socket, asks workers, store and supervisor, and tells events.

Its loop answers the supervisor's beats; end of file on the link ends it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from node import debug
from node import log as node_log
from node.config import Configuration, ConfigurationError, Identity, load
from node.config.acl import check
from node.console.client import Client
from node.console.commands import channel, core, show, sofia_contact, sofia_dig, sofia_global
from node.console.format import Origin, stamp, uptime
from node.console.gauge import Gauge
from node.console.records import Records
from node.console.registry import Command, Registry, is_true
from node.console.session import Grant
from node.console.site import ProfileState, Silent, Site, Switches
from node.console.subscription import Written
from node.console.supervisor import Supervisor
from node.console.tail import Tail
from node.console.version import FULL
from node.console.view import counters
from node.console.workers import Workers
from node.directory import Directory
from node.events import Event
from node.link import Link
from node.sip.mask import shown
from node.transport.outside import Outside
from store.records import CallRecord, Registration

log = logging.getLogger(__name__)

HEARTBEAT = 20.0
SAMPLE = 5.0
"Seconds between two looks at how many sessions there are."
LOG_LOOK = 0.25
BIND_AGAIN = 2.0
CLIENTS = 256


def main(link: Link, identity: Identity, configuration: Configuration, run_dir: Path) -> None:
    """The entry point of the child."""
    node_log.setup(run_dir, node_log.level_of(configuration.switch.loglevel), "console")
    general = configuration.sofia
    debug.begin(general.log_level, general.tracelevel, presence_on=False, sla_on=False, environment=os.environ)
    asyncio.run(_serve(link, identity, configuration, run_dir))


async def _serve(link: Link, identity: Identity, configuration: Configuration, run_dir: Path) -> None:
    supervisor = Supervisor(link)
    console = Console(supervisor, identity, configuration, run_dir)
    try:
        await console.start()
        await supervisor.gone.wait()
    finally:
        await console.close()
        supervisor.close()


class Console:
    """The site of all commands, and the host of all connections."""

    def __init__(self, supervisor: Supervisor, identity: Identity, configuration: Configuration, run_dir: Path) -> None:
        self.identity = identity
        self.configuration = configuration
        self.directory = Directory(configuration.directory)
        self.switches = Switches()
        self.switches.begin(configuration.sofia, os.environ)
        self.gauge = Gauge()
        self.origin = Origin(
            identity.core_uuid,
            socket.gethostname(),
            configuration.switch.switchname,
            configuration.globals.get("local_ip_v4", "") or "127.0.0.1",
            configuration.globals.get("local_ip_v6", "") or "::1",
        )
        self._supervisor = supervisor
        supervisor.on_event = self.fire
        self._run_dir = run_dir
        self._workers = Workers(run_dir / "workers", on_event=self.fire)
        self._records = Records(configuration, run_dir)
        self._registry = registry()
        self._clients: set[Client] = set()
        self._listened: set[str] = set()
        self._tail = Tail(run_dir / "log" / "sofia-node.log")
        self._tailing = False
        self._sequence = 0
        self._server: asyncio.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._outside = Outside(asyncio.get_running_loop(), self._complete)

    # ---- life

    async def start(self) -> None:
        self._go_by(self.configuration)
        await self._listen()
        self._tasks = [
            asyncio.create_task(work()) for work in (self._workers.watch, self._beat, self._sample, self._follow_log)
        ]
        self._tasks.append(asyncio.create_task(self._remember()))
        self._supervisor.ready()

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        for client in list(self._clients):
            client.close()
        self._outside.close()
        await self._workers.close()
        self._records.close()

    async def _listen(self) -> None:
        settings = self.configuration.event_socket
        if not settings.enabled:
            log.info("no event_socket.conf: nothing listens for clients")
            return
        loop = asyncio.get_running_loop()
        while not self._supervisor.gone.is_set():
            try:
                sock = listening_socket(settings.listen_ip, settings.listen_port)
                self._server = await loop.create_server(lambda: Client(self), sock=sock)
                log.info("event socket listens on %s:%d", settings.listen_ip, settings.listen_port)
                return
            except OSError as error:
                text = f"event socket cannot listen on {settings.listen_ip}:{settings.listen_port}: {error.strerror}"
                log.error(text)
                if settings.stop_on_bind_error:
                    self._supervisor.failed(text)
                    return
                try:
                    async with asyncio.timeout(BIND_AGAIN):
                        await self._supervisor.gone.wait()
                except TimeoutError:
                    pass

    # ---- what connections need

    def admits(self, ip: str) -> bool:
        lists = self.configuration.event_socket.apply_inbound_acl
        return all(check(self.configuration.acl, name, ip)[0] for name in lists)

    def password(self) -> str:
        return self.configuration.event_socket.password

    def lookup(self, user: str, domain: str) -> Grant | None:
        """What a directory user may do here: its params `esl-...`."""
        found = self.directory.find(user, domain)
        password = found.params.get("esl-password", "") if found is not None else ""
        if found is None or not password:
            return None
        return Grant(
            password,
            api=_allowed(found.params.get("esl-allowed-api", "")),
            events=_allowed(found.params.get("esl-allowed-events", "")),
            log=is_true(found.params.get("esl-allowed-log", "true")),
        )

    def joined(self, client: Client) -> bool:
        if len(self._clients) >= CLIENTS:
            return False
        self._clients.add(client)
        return True

    def left(self, client: Client) -> None:
        self._clients.discard(client)
        self.listening()

    def listening(self) -> None:
        """Tell the workers what anybody wants to hear, and follow the log while anybody wants it."""
        self._listened = set().union(*(client.session.subscription.wants() for client in self._clients))
        self._workers.want(self._listened)
        wanted = any(client.session.log_level is not None for client in self._clients)
        if wanted and not self._tailing:
            self._tail.start()
        self._tailing = wanted

    async def run(self, line: str) -> str:
        """Run a command line; whatever goes wrong becomes its answer."""
        if "API" in self._listened or "ALL" in self._listened:
            command, _, argument = line.partition(" ")
            headers = [("API-Command", command), ("API-Command-Argument", argument)]
            self.fire(Event(name="API", headers=headers, function="switch_api_execute"))
        if debug.nth_server.level >= 7:
            debug.nth_server.say("runs %s", line.partition(" ")[0])
        if debug.nth_server.level >= 9:
            debug.nth_server.say("runs %s", shown(line))
        try:
            return await self._registry.run(self._site, line)
        except Silent as error:
            return f"-ERR {error}\n"
        except Exception:
            log.exception("command %s broke", line.partition(" ")[0])
            return "-ERR internal error\n"

    # ---- what commands need

    @property
    def _site(self) -> Site:
        return self

    @property
    def workers(self) -> Workers:
        return self._workers

    def now(self) -> float:
        return time.time()

    async def ask(self, verb: str, words: Sequence[str] = (), *, within: float = 5.0) -> str:
        if debug.nth_client.level >= 5:
            debug.nth_client.say("asks the supervisor: %s %s", verb, " ".join(words))
        return await self._supervisor.ask(verb, words, within=within)

    async def instruct(self, verb: str, words: Sequence[str] = ()) -> None:
        answer = await self.ask("instruct", [verb, *words])
        if answer.startswith("-ERR"):
            log.warning("the supervisor refused %s %s: %s", verb, " ".join(words), answer.strip())

    async def profile_states(self) -> dict[str, ProfileState]:
        """As the supervisor says; when it is silent, a profile runs that has a worker here."""
        try:
            told = json.loads(await self.ask("profiles", within=2.0))
        except (Silent, ValueError):
            return {name: ProfileState(running=True) for name in self._workers.profiles}
        return {
            name: ProfileState(
                running=state.get("state") == "RUNNING",
                since=float(state.get("since") or 0.0),
                workers=tuple(state.get("workers", ())),
            )
            for name, state in told.items()
        }

    async def registrations(self, profile: str | None = None) -> list[Registration]:
        return await self._records.registrations(profile)

    async def calls(self) -> list[CallRecord]:
        return await self._records.calls()

    async def remove(self, registrations: Iterable[Registration]) -> None:
        await self._records.remove(registrations)

    def fire(self, event: Event) -> None:
        """Tell an event to all who listen; it is stamped and written once."""
        self._sequence += 1
        takers = [one for one in self._clients if one.session.subscription.takes(event.name, event.subclass)]
        if not takers:
            return
        if not event.at:
            event.at = time.time_ns() // 1000
        written = Written(event, stamp(event, self.origin, self._sequence))
        for client in takers:
            client.happened(written)

    def reload(self) -> str:
        old = self.configuration
        try:
            new = load(old.conf_dir, old.overrides, run_dir=self._run_dir, allow_exec=old.allow_exec, patient=False)
        except ConfigurationError as error:
            return str(error).replace("\n", "; ")
        self._go_by(new)
        self.directory = Directory(new.directory)
        self.origin = replace(self.origin, switchname=new.switch.switchname)
        self.fire(Event(name="RELOADXML", function="switch_xml_open_root"))
        return "Success"

    def _go_by(self, configuration: Configuration) -> None:
        self._outside.configure(configuration.profiles, configuration.sofia.dns_servers)
        self.configuration = configuration
        self._complete()

    def _complete(self) -> None:
        """Show the addresses that others have told, as far as they are known."""
        profiles = self._outside.applied(self.configuration.profiles)
        self.configuration = replace(self.configuration, profiles=profiles)

    async def complete(self, text: str, cursor: int | None = None) -> list[str]:
        return await self._registry.complete(self._site, text if cursor is None else text[:cursor])

    def commands(self) -> Iterable[Command]:
        return self._registry

    async def _remember(self) -> None:
        """A console that is born anew learns from the supervisor what operators have turned on and off."""
        try:
            orders = json.loads(await self._supervisor.ask("switches"))
            for verb, words in orders:
                self.switches.replay(verb, words)
                if verb == "loglevel":
                    debug.set_level(words[0], int(words[1]))
                elif verb == "tracelevel":
                    debug.set_tracelevel(words[0])
        except (Silent, ValueError) as error:
            log.debug("nothing is known of earlier switches: %s", error)

    # ---- what time brings

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT)
            self.fire(await self.heartbeat())

    async def heartbeat(self) -> Event:
        gauge, switch = self.gauge, self.configuration.switch
        microseconds = max(0, round((self.now() - self.identity.started) * 1_000_000))
        headers = [
            ("Event-Info", "System Ready"),
            ("Up-Time", uptime(microseconds)),
            ("FreeSWITCH-Version", FULL),
            ("Uptime-msec", str(microseconds // 1000)),
            ("Session-Count", str(gauge.sessions)),
            ("Max-Sessions", str(switch.max_sessions)),
            ("Session-Per-Sec", str(switch.sessions_per_second)),
            ("Session-Per-Sec-Last", str(gauge.rate)),
            ("Session-Per-Sec-Max", str(gauge.peak_rate)),
            ("Session-Per-Sec-FiveMin", str(gauge.five_minute_rate)),
            ("Session-Since-Startup", str(gauge.since_startup)),
            ("Session-Peak-Max", str(gauge.peak)),
            ("Session-Peak-FiveMin", str(gauge.five_minute_peak)),
            ("Idle-CPU", "100.000000"),
        ]
        return Event(name="HEARTBEAT", headers=headers, function="send_heartbeat")

    async def _sample(self) -> None:
        while True:
            await self.measure()
            await asyncio.sleep(SAMPLE)

    async def measure(self) -> None:
        numbers = [await counters(self._site, name) for name in self.configuration.profiles]
        total = sum(one.calls_in + one.calls_out for one in numbers)
        self.gauge.read(time.monotonic(), sum(one.in_use for one in numbers), total)

    async def _follow_log(self) -> None:
        while True:
            await asyncio.sleep(LOG_LOOK)
            if self._tailing:
                for line in self._tail.read():
                    for client in list(self._clients):
                        client.logged(line)


def listening_socket(host: str, port: int) -> socket.socket:
    """`::` listens for IPv4 as well."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if host == "::" else 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _allowed(text: str) -> frozenset[str] | None:
    """A list of an `esl-allowed-...` param; none or `any` or `all`: everything."""
    names = frozenset(text.replace(",", " ").split())
    return None if not names or names & {"any", "all"} else names


def registry() -> Registry:
    """Every command of the node."""
    families = (sofia_global, sofia_contact, sofia_dig, show, channel, core)
    return Registry(
        [command for family in families for command in family.COMMANDS],
        {"profile": _profile_names, "gateway": _gateway_names, "channel": _channel_uuids},
    )


async def _profile_names(site: Site) -> list[str]:
    profiles = site.configuration.profiles.values()
    return [name for profile in profiles for name in (profile.name, *profile.aliases)]


async def _gateway_names(site: Site) -> list[str]:
    return [gateway.name for profile in site.configuration.profiles.values() for gateway in profile.gateways]


async def _channel_uuids(site: Site) -> list[str]:
    return [row.get("uuid", "") for rows in await site.workers.ask_all("channels") for row in rows]
