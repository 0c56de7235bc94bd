"""The command `sofia`: the console of a node, in the manner of fs_cli.

`sofia status profile internal reg` runs that one command; `sofia -x "show channels"` any api command; without either it
is interactive. Exit status: 0, or 1 when there was no answer or the answer begins with `-ERR`.
"""

from __future__ import annotations

import argparse
import asyncio
import configparser
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from node.config import secrets
from node.console.connection import CannotConnect, Disconnected
from node.console.login import Options, connect
from node.console.names import LEVELS, level_number

SECRET = "event_socket_password"
"Its name in the secrets file of the run directory."
FILES = ("~/.sofia.conf", "~/.fs_cli_conf", "/etc/fs_cli.conf")
PASSWORD_VARIABLE = "SOFIA_NODE_PASSWORD"
RUN_DIR_VARIABLE = "SOFIA_NODE_RUN_DIR"
RUN_DIRS = ("/run/sofia-node", "/var/run/sofia-node", "/var/lib/sofia-node")


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point."""
    options = read_options(sys.argv[1:] if arguments is None else arguments)
    try:
        if options.line:
            return asyncio.run(run_once(options))
        # prompt_toolkit takes as long to import as a single command takes to run.
        from node.console.shell import run_shell

        return asyncio.run(run_shell(options))
    except CannotConnect as error:
        print(f"sofia: {error}", file=sys.stderr)
        return 1
    except (Disconnected, BrokenPipeError):
        print("sofia: the node has closed the connection", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


async def run_once(options: Options) -> int:
    connection = await connect(options)
    try:
        async with asyncio.timeout(options.timeout or None):
            text = await connection.api(options.line)
    except TimeoutError as error:
        raise CannotConnect(f"no answer within {options.timeout:g} s") from error
    finally:
        await connection.close()
    sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()
    return status_of(text)


def status_of(text: str) -> int:
    """A command that has nothing to say has not failed."""
    return 1 if text.startswith(("-ERR", "-USAGE")) and not text.startswith("-ERR no reply") else 0


def _failure(text: str) -> SystemExit:
    """What ends the program with a sentence, and status 1."""
    return SystemExit(f"sofia: {text}")


# ---- options -------------------------------------------------------------------------------------------------------


def parser() -> argparse.ArgumentParser:
    one = argparse.ArgumentParser(
        prog="sofia",
        description="The console of a node. With words it runs `sofia WORDS`, with -x any command, else it is interactive.",
        epilog=f"The password comes from -p, ${PASSWORD_VARIABLE}, a configuration file ({', '.join(FILES)}), "
        f"or the secrets file of the run directory (--run-dir, ${RUN_DIR_VARIABLE}).",
    )
    one.add_argument("-H", "--host", help="host of the event socket (127.0.0.1)")
    one.add_argument("-P", "--port", type=int, help="its port (8021)")
    one.add_argument("-u", "-U", "--user", help="log in as this directory user, user@domain")
    one.add_argument("-p", "--password", help="better given by environment or file: others can see options")
    one.add_argument("-x", "--execute", metavar="COMMAND", help="run one command")
    one.add_argument("-l", "--loglevel", help="log lines to show when interactive: console ... debug, or 0 ... 7")
    one.add_argument("-q", "--quiet", action="store_true", help="show no log lines")
    one.add_argument("-r", "--retry", action="store_true", help="wait until the node listens")
    one.add_argument("-R", "--reconnect", action="store_true", help="connect again when the connection is lost")
    one.add_argument("-d", "--debug", type=int, default=0, metavar="LEVEL", help="show what is said on the socket")
    one.add_argument("-t", "--timeout", type=int, default=0, metavar="MS", help="milliseconds for the answer of -x")
    one.add_argument("-T", "--connect-timeout", type=int, default=5000, metavar="MS", help="milliseconds to connect")
    one.add_argument("--profile", default="default", help="section of the configuration file (default)")
    one.add_argument("--run-dir", type=Path, help="run directory of the node, for the password it made up")
    one.add_argument("words", nargs=argparse.REMAINDER, help="words of one `sofia` command")
    return one


def read_options(arguments: Sequence[str]) -> Options:
    """Options over environment over configuration file over defaults."""
    given = parser().parse_args(arguments)
    kept = read_file(given.profile)
    line = given.execute or (" ".join(["sofia", *given.words]) if given.words else "")
    if "\n" in line or "\r" in line:
        raise _failure("a command is one line")
    level = given.loglevel or kept.get("loglevel", "info")
    if level_number(level) is None:
        raise _failure(f"there is no log level `{level}`: {', '.join(LEVELS)} or 0 to 7")
    try:
        port = given.port or int(kept.get("port", "8021"))
    except ValueError:
        raise _failure("the port in the configuration file is no number") from None
    return Options(
        host=given.host or kept.get("host", "127.0.0.1"),
        port=port,
        user=given.user or kept.get("user", ""),
        password=given.password or os.environ.get(PASSWORD_VARIABLE) or kept.get("password") or secret(given.run_dir),
        line=line,
        log_level=level,
        quiet=given.quiet or kept.get("quiet", "") == "true",
        retry=given.retry,
        reconnect=given.reconnect or kept.get("reconnect", "") == "true",
        debug=given.debug,
        timeout=given.timeout / 1000,
        connect_timeout=given.connect_timeout / 1000,
        keys={name: value for name, value in kept.items() if name.startswith("key_f")},
    )


def read_file(section: str) -> Mapping[str, str]:
    """The section of the first configuration file there is (the form of fs_cli's)."""
    for name in FILES:
        path = Path(name).expanduser()
        if not path.is_file():
            continue
        # fs_cli writes `key => value`; as ini that is a value that begins with `>`.
        reader = configparser.ConfigParser(interpolation=None, strict=False, comment_prefixes=(";", "#"))
        try:
            reader.read(path, encoding="utf-8")
        except configparser.Error as error:
            raise _failure(f"{path}: {error.message}") from error
        if reader.has_section(section):
            return {key: value.lstrip("> ").strip() for key, value in reader.items(section)}
        if section != "default":
            raise _failure(f"{path} has no section [{section}]")
    return {}


def secret(run_dir: Path | None) -> str:
    """The password that the node made up for itself. Ends the program when there is none to be found."""
    named = run_dir or (Path(os.environ[RUN_DIR_VARIABLE]) if os.environ.get(RUN_DIR_VARIABLE) else None)
    for folder in (named,) if named is not None else [Path(name) for name in RUN_DIRS]:
        path = folder / secrets.FILE
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _failure(f"{path}: {error.strerror}") from error
        for line in lines:
            name, _, value = line.partition("=")
            if name == SECRET and value:
                return value
    where = f" and {named / secrets.FILE} does not hold it" if named is not None else ""
    raise _failure(
        f"no password: give it with -p, in ${PASSWORD_VARIABLE}, or name the run directory with --run-dir{where}"
    )


if __name__ == "__main__":
    sys.exit(main())
