"""The interactive side of `sofia`: a prompt with completion and history, events and log lines above it."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path

from prompt_toolkit import PromptSession, print_formatted_text
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.patch_stdout import patch_stdout

from node.console.connection import CannotConnect, Connection, Disconnected
from node.console.login import Options, connect
from node.console.protocol import Message

HISTORY = Path("~/.sofia_history")
WORD = re.compile(r"\[ *([^\]]+)\]\t")
WRITE = re.compile(r"\n\nwrite=(\d+):(.*)", re.S)
COLORS = {
    0: "ansicyan",
    1: "ansired",
    2: "ansired",
    3: "ansired",
    4: "ansimagenta",
    5: "ansicyan",
    6: "ansigreen",
    7: "ansiyellow",
}
HELP = """\
Any line is a command of the node: `help` lists them, Tab completes.
/help                     this text
/exit, /quit, /bye, ...   end
/event, /noevents, /nixevent, /filter, /myevents   what events to show
/log <level>, /nolog      what log lines to show
/logfilter <text>         show only log lines that hold this text
/uuid <uuid>              show only log lines that hold this uuid
/debug <0|1>              show what is said on the socket
Any other line that begins with a slash is sent as it stands, without the slash.
"""


def say(text: str, end: str = "\n") -> None:
    """Above the prompt, while there is one."""
    sys.stdout.write(text + end)
    sys.stdout.flush()


async def run_shell(options: Options) -> int:
    """Until the operator has had enough."""
    shell = Shell(options)
    interactive = sys.stdin.isatty()
    while True:
        await shell.connect()
        with patch_stdout(raw=True) if interactive else _Nothing():
            done = await shell.converse(shell.prompted() if interactive else shell.piped())
        if done or not options.reconnect:
            break
        say("sofia: the connection is lost, connecting again")
    await shell.close()
    if not done:
        raise Disconnected
    return shell.status


class Shell:
    """One operator at one node."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.status = 0
        self._connection: Connection | None = None
        self._prompt = "sofia> "
        self._filter = ""
        self._debug = bool(options.debug)
        self._session: PromptSession[str] | None = None

    async def connect(self) -> None:
        """Raises CannotConnect."""
        options = self.options
        while True:
            try:
                self._connection = await connect(options, on_message=self._show)
                break
            except CannotConnect:
                if self._session is None or not options.reconnect:
                    raise
                await asyncio.sleep(1)
        name = (await self._connection.api("switchname")).strip()
        self._prompt = f"sofia@{name}> "
        if not options.quiet and sys.stdin.isatty():
            await self._connection.request(f"log {options.log_level}")

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def converse(self, lines: AsyncIterator[str]) -> bool:
        """Carry out lines. False when the connection was lost."""
        try:
            async for line in lines:
                if not await self.obey(line.strip()):
                    return True
        except Disconnected:
            return False
        return True

    async def obey(self, line: str) -> bool:
        """One line; False when it was the last."""
        word, _, rest = line.partition(" ")
        if word.lower() in ("/exit", "/quit", "/bye", "..."):
            return False
        slash = SLASH.get(word.lower())
        if not line or line.startswith("#"):
            pass
        elif slash is not None:
            await slash(self, rest.strip())
        elif line.startswith("/"):
            say((await self._here.request(line[1:])).reply)
        elif line.lower().startswith("console loglevel "):
            # fs_cli takes this for itself: the level of what it shows.
            say((await self._here.request(f"log {line.split()[2]}")).reply)
        else:
            text = await self._here.api(line)
            self.status = 1 if text.startswith("-ERR") and not text.startswith("-ERR no reply") else 0
            say(text if text.endswith("\n") else text + "\n", end="")
        return True

    @property
    def _here(self) -> Connection:
        assert self._connection is not None, "connect comes first"
        return self._connection

    # ---- slash commands

    async def _help(self, rest: str) -> None:
        say(HELP, end="")

    async def _log_filter(self, rest: str) -> None:
        self._filter = rest
        say(f"log lines that hold `{rest}`" if rest else "all log lines")

    async def _trace(self, rest: str) -> None:
        self._debug = rest not in ("", "0", "off")

    # ---- lines

    async def piped(self) -> AsyncIterator[str]:
        """From a file or pipe: one after the other, without a prompt."""
        for line in sys.stdin:
            yield line

    async def prompted(self) -> AsyncIterator[str]:
        """From the terminal, until end of file or until the connection is lost."""
        session = self._session = self._session or self._new_session()
        while True:
            prompt = asyncio.ensure_future(session.prompt_async(self._prompt))
            lost = asyncio.ensure_future(self._here.lost.wait())
            await asyncio.wait({prompt, lost}, return_when=asyncio.FIRST_COMPLETED)
            lost.cancel()
            if not prompt.done():
                prompt.cancel()
                await asyncio.gather(prompt, return_exceptions=True)
                raise Disconnected
            try:
                yield prompt.result()
            except EOFError:
                return
            except KeyboardInterrupt:
                continue

    def _new_session(self) -> PromptSession[str]:
        return PromptSession(
            history=FileHistory(str(HISTORY.expanduser())),
            completer=NodeCompleter(lambda: self._here),
            complete_while_typing=False,
            key_bindings=self._keys(),
        )

    def _keys(self) -> KeyBindings:
        """Commands on function keys, from the configuration file."""
        keys = KeyBindings()
        for name, line in self.options.keys.items():
            keys.add(name.removeprefix("key_"))(_types(line))
        return keys

    # ---- what comes by itself

    def _show(self, message: Message) -> None:
        if message.kind == "log/data":
            if self._filter in message.body:
                level = int(message.headers.get("Log-Level", "6"))
                print_formatted_text(FormattedText([(COLORS.get(level, ""), message.body)]), end="")
        elif message.kind != "text/disconnect-notice":
            say(message.body)


def _types(line: str) -> Callable[[KeyPressEvent], None]:
    def press(event: KeyPressEvent) -> None:
        event.app.current_buffer.text = line
        event.app.current_buffer.validate_and_handle()

    return press


class NodeCompleter(Completer):
    """Asks the node itself, by `console_complete`."""

    def __init__(self, connection: Callable[[], Connection]) -> None:
        self._connection = connection

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> list[Completion]:
        """prompt_toolkit asks the other one."""
        return []

    async def get_completions_async(
        self, document: Document, complete_event: CompleteEvent
    ) -> AsyncGenerator[Completion, None]:
        text = document.text_before_cursor
        if "\n" in text or text.startswith("/"):
            return
        try:
            async with asyncio.timeout(3):
                answer = await self._connection().api(f"console_complete c={len(text)};{text}")
        except (TimeoutError, Disconnected):
            return
        for word, back in completions(answer):
            yield Completion(word, start_position=-back)


def completions(answer: str) -> list[tuple[str, int]]:
    """Words that may be written, and how many characters before the cursor each replaces."""
    write = WRITE.search(answer)
    if write is None:
        return []
    back = int(write[1])
    words = [word.strip() for word in WORD.findall(answer[: write.start()])]
    return [(word, back) for word in words] or [(write[2], back)]


class _Nothing:
    def __enter__(self) -> None:
        return None

    def __exit__(self, *_exception: object) -> None:
        return None


SLASH = {
    "/help": Shell._help,
    "/logfilter": Shell._log_filter,
    "/uuid": Shell._log_filter,
    "/debug": Shell._trace,
}
