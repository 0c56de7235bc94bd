"""The peers beside which we measure: Kamailio, sippy's B2BUA, rtpengine; each as its own authors ship it."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.node import DOMAIN, PASSWORD

KAMAILIO = """
#!KAMAILIO
children={children}
debug=0
log_stderror=yes
listen=udp:{host}:{port}
auto_aliases=no
tcp_accept_aliases=no
disable_tcp=yes
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "sanity.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
{storage}
modparam("registrar", "max_expires", 3600)
request_route {{
    if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
    if (!sanity_check()) {{ exit; }}
    if (is_method("REGISTER")) {{
        if (!pv_www_authenticate("{domain}", "{password}", "0")) {{ www_challenge("{domain}", "0"); exit; }}
        if (!save("location")) {{ sl_reply_error(); }}
        exit;
    }}
    sl_send_reply("404", "Not Found");
}}
"""


WRITTEN_THROUGH = """
loadmodule "db_{module}.so"
modparam("usrloc", "db_mode", 1)
modparam("usrloc", "db_url", "{url}")
"""
IN_MEMORY = """
modparam("usrloc", "db_mode", 0)
"""
TABLES = ("standard-create.sql", "usrloc-create.sql")


@contextlib.contextmanager
def kamailio(directory: Path, host: str, port: int, *, storage: str = IN_MEMORY, children: int = 1) -> Iterator[int]:
    """A digest registrar with this `storage`; yields its process id."""
    config = directory / "kamailio.cfg"
    config.write_text(
        KAMAILIO.format(host=host, port=port, storage=storage, domain=DOMAIN, password=PASSWORD, children=children)
    )
    program = shutil.which("kamailio", path="/usr/sbin:/usr/bin:/usr/local/sbin") or "kamailio"
    words = [program, "-DD", "-E", "-f", str(config), "-m", "64", "-M", "8", "-P", str(directory / "kamailio.pid")]
    with running(words, directory / "kamailio.log") as pid:
        yield pid


def in_sqlite(directory: Path) -> str:
    """Each binding is written through to a file there."""
    database = directory / "kamailio.db"
    for name in TABLES:
        script = (Path("/usr/share/kamailio/db_sqlite") / name).read_text()
        subprocess.run([sys.executable, "-c", _RUN_SQL, str(database)], input=script, text=True, check=True)
    return WRITTEN_THROUGH.format(module="sqlite", url=f"sqlite://{database}")


def in_postgres(port: int, program: str) -> str:
    """Each binding is written through to a database of its own on the server at this port; `program`: psql."""
    words = [program, "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres"]
    drop = ["-c", "DROP DATABASE IF EXISTS kamailio WITH (FORCE)"]
    subprocess.run([*words, *drop, "-c", "CREATE DATABASE kamailio"], check=True, capture_output=True)
    for name in TABLES:
        script = f"/usr/share/kamailio/postgres/{name}"
        subprocess.run([*words, "-d", "kamailio", "-f", script], check=True, capture_output=True)
    return WRITTEN_THROUGH.format(module="postgres", url=f"postgres://postgres@127.0.0.1:{port}/kamailio")


_RUN_SQL = """
import sqlite3, sys
base = sqlite3.connect(sys.argv[1])
base.execute("PRAGMA journal_mode=WAL")
base.executescript(sys.stdin.read())
"""


@contextlib.contextmanager
def sippy(directory: Path, host: str, port: int, callee: tuple[str, int]) -> Iterator[int]:
    """sippy's simplest B2BUA: every call goes on to one callee; no authentication, no media, no record of calls."""
    program = Path(sys.executable).with_name("b2bua_simple")
    if not program.exists():
        raise FileNotFoundError("sippy is not installed")
    words = [str(program), "-f", "-l", host, "-p", str(port), "-n", f"{callee[0]}:{callee[1]}", "-L", "/dev/null"]
    with running(words, directory / "sippy.log") as pid:
        yield pid


@contextlib.contextmanager
def rtpengine(directory: Path, host: str, control: int, ports: tuple[int, int]) -> Iterator[int]:
    """rtpengine in user space with one thread, as its kernel module cannot be had everywhere."""
    words = ["rtpengine", "--foreground", "--log-stderr", "--log-level=3", "--table=-1", f"--interface={host}"]
    words += [f"--listen-ng={host}:{control}", f"--port-min={ports[0]}", f"--port-max={ports[1]}", "--num-threads=1"]
    with running([*words, f"--pidfile={directory / 'rtpengine.pid'}"], directory / "rtpengine.log") as pid:
        yield pid


@contextlib.contextmanager
def running(words: list[str], log: Path) -> Iterator[int]:
    with log.open("wb") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=log.parent)
    try:
        time.sleep(1.0)
        if process.poll() is not None:
            raise RuntimeError(f"{words[0]} did not start: {log.read_text(errors='replace')[-800:]}")
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
