"""Small configuration trees for tests, written to a folder."""

from __future__ import annotations

from pathlib import Path

from node.config import check

ROOT = """\
<?xml version="1.0"?>
<document type="freeswitch/xml">
  <X-PRE-PROCESS cmd="include" data="vars.xml"/>
  <section name="configuration">
    <X-PRE-PROCESS cmd="include" data="autoload_configs/*.xml"/>
  </section>
  <section name="dialplan">
    <X-PRE-PROCESS cmd="include" data="dialplan/*.xml"/>
  </section>
  <section name="directory">
    <X-PRE-PROCESS cmd="include" data="directory/*.xml"/>
  </section>
</document>
"""

SOFIA = """\
<configuration name="sofia.conf">
  <profiles>
    <X-PRE-PROCESS cmd="include" data="../sip_profiles/*.xml"/>
  </profiles>
</configuration>
"""


def settings(*lines: str) -> str:
    return "\n".join(f"    {line}" for line in lines)


def profile(name: str = "internal", *lines: str, port: int = 5060) -> str:
    """A profile whose further params stand from line 5 on."""
    return f"""\
<profile name="{name}">
  <settings>
    <param name="sip-ip" value="127.0.0.1"/>
    <param name="sip-port" value="{port}"/>
{settings(*lines)}
  </settings>
</profile>
"""


def configuration(name: str, *lines: str) -> str:
    """A section of configuration whose params stand from line 3 on."""
    return f"""\
<configuration name="{name}">
  <settings>
{settings(*lines)}
  </settings>
</configuration>
"""


def context(*lines: str, name: str = "default") -> str:
    """A context whose content stands from line 2 on."""
    return f'<context name="{name}">\n' + "\n".join(lines) + "\n</context>\n"


def domain(*lines: str, name: str = "example.org") -> str:
    """A domain whose users stand from line 2 on."""
    return f'<domain name="{name}"><users>\n' + "\n".join(lines) + "\n</users></domain>\n"


def plant(folder: Path, files: dict[str, str] | None = None) -> Path:
    """A tree that loads without a complaint, with files of your own over it."""
    tree = {
        "freeswitch.xml": ROOT,
        "vars.xml": '<X-PRE-PROCESS cmd="set" data="domain=example.org"/>\n',
        "autoload_configs/sofia.conf.xml": SOFIA,
        "sip_profiles/internal.xml": profile(),
        **(files or {}),
    }
    for name, text in tree.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder


def said(folder: Path, files: dict[str, str], **overrides: str) -> list[str]:
    """What a check says of such a tree: `file:line: text`, the file relative to the tree."""
    plant(folder, files)
    return [str(complaint).removeprefix(f"{folder}/") for complaint in check(folder, overrides)]
