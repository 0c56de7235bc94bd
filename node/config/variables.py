"""The variables that exist before the first line is read."""

from __future__ import annotations

import socket
import uuid
from pathlib import Path

from node.config import host
from node.config.identity import core_uuid


def predefined(conf_dir: Path, run_dir: Path | None) -> dict[str, str]:
    """FreeSWITCH's names; its directories are taken to lie in the run directory, save conf."""
    run = str(run_dir) if run_dir is not None else "/var/run/sofia-node"
    ip = host.local_ip_v4()
    directories = {
        f"{name}_dir": f"{run}/{name}"
        for name in """recordings log db mod htdocs script temp grammar fonts images certs storage cache data""".split()  # noqa: SIM905
    }
    return {
        **directories,
        "hostname": socket.gethostname(),
        "local_ip_v4": ip,
        "local_mask_v4": host.local_mask_v4(ip),
        "local_ip_v6": host.local_ip_v6(),
        "core_uuid": core_uuid(),
        "switch_serial": f"{uuid.getnode():012x}",
        "base_dir": str(conf_dir.parent),
        "conf_dir": str(conf_dir),
        "run_dir": run,
        "localstate_dir": run,
        "sounds_dir": str(conf_dir / "sounds"),
        "sound_prefix": str(conf_dir / "sounds"),
        "nat_public_addr": "",
        "nat_private_addr": "",
        "nat_type": "",
        "domain": "freeswitch.local",
    }
