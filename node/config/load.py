"""From a tree of files to a `Configuration`, or to everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from node.config import host, secrets
from node.config.complaints import Complaint, Complaints, ConfigurationError, Place
from node.config.crosscheck import check_certificates, check_together
from node.config.database import one_database
from node.config.dialplan_reader import DialplanReader
from node.config.directory import DirectorySection
from node.config.directory_reader import DirectoryReader
from node.config.document import Element, parse
from node.config.preprocess import Preprocessor
from node.config.profile import ProfileSettings
from node.config.profile_reader import ProfileReader, read_globals
from node.config.section_readers import read_acl, read_event_socket, read_ha, read_switch
from node.config.sections import Configuration
from node.config.values import SECRET, Notice, codecs
from node.config.variables import predefined

ROOT = "freeswitch.xml"
NOTHING: Mapping[str, str] = MappingProxyType({})
KNOWN = frozenset(("sofia.conf", "switch.conf", "acl.conf", "event_socket.conf", "ha.conf"))


def load(
    conf_dir: Path,
    overrides: Mapping[str, str] = NOTHING,
    *,
    run_dir: Path | None = None,
    allow_exec: bool = False,
    patient: bool = True,
) -> Configuration:
    """Read the tree. `overrides` win over its `set` lines. Raises ConfigurationError with all that is wrong.

    Who has other things to do meanwhile is not `patient`: then `stun-set` gives only what was found before.
    """
    configuration, complaints = _read(conf_dir, overrides, run_dir, allow_exec=allow_exec, patient=patient)
    if configuration is None:
        raise ConfigurationError(complaints)
    outside = MappingProxyType(dict(overrides))
    return replace(configuration, warnings=tuple(complaints), overrides=outside, allow_exec=allow_exec)


def check(
    conf_dir: Path, overrides: Mapping[str, str] = NOTHING, *, run_dir: Path | None = None, allow_exec: bool = False
) -> list[Complaint]:
    """Everything that is wrong with the tree, errors first."""
    return _read(conf_dir, overrides, run_dir, allow_exec=allow_exec, thorough=True)[1]


def _read(
    conf_dir: Path,
    overrides: Mapping[str, str],
    run_dir: Path | None,
    *,
    allow_exec: bool,
    thorough: bool = False,
    patient: bool = True,
) -> tuple[Configuration | None, list[Complaint]]:
    """The configuration, None if there is an error, and the complaints. `thorough`: keys are tried with OpenSSL too."""
    conf_dir = conf_dir.absolute()
    complaints = Complaints()
    made_up = secrets.placeholder() if run_dir is None else secrets.ensure(run_dir.absolute())
    variables = predefined(conf_dir, run_dir.absolute() if run_dir is not None else None) | dict(made_up)
    known = set(variables)
    resolve = partial(host.resolve, patient=patient)
    preprocessor = Preprocessor(complaints, variables, overrides=overrides, resolve=resolve, allow_exec=allow_exec)
    root = Place(conf_dir / ROOT, 1)
    document = _document(root, preprocessor, complaints)
    for name in overrides.keys() - preprocessor.named - known if document is not None else ():
        complaints.warning(root, f"variable {name!r} was set from outside, but no file sets or uses it")
    configuration = None
    if document is not None:
        sections = _sections(document, complaints)
        configuration = _configuration(sections, conf_dir, variables, made_up, complaints, thorough=thorough)
    for name, value in variables.items():
        if SECRET.search(name):
            complaints.hide(value)
    return None if complaints.fatal else configuration, complaints.sorted()


def _document(root: Place, preprocessor: Preprocessor, complaints: Complaints) -> Element | None:
    try:
        text = preprocessor.read(root.file)
    except OSError as error:
        complaints.error(root, f"cannot be read: {error.strerror}")
        return None
    return parse(text, complaints)


@dataclass(slots=True)
class _Sections:
    """The document by what it configures."""

    root: Place
    configurations: dict[str, Element]
    directory: list[Element]
    dialplan: list[Element]


def _sections(document: Element, complaints: Complaints) -> _Sections:
    found = _Sections(document.place, {}, [], [])
    for section in document.children:
        kind = section.get("name") if section.name == "section" else section.name
        if kind == "configuration":
            _configurations(section, found, complaints)
        elif kind == "directory":
            found.directory.append(section)
        elif kind == "dialplan":
            found.dialplan.append(section)
        else:
            complaints.unknown(section.place, "section", kind)
    return found


def _configurations(section: Element, found: _Sections, complaints: Complaints) -> None:
    for child in section.children:
        name = child.get("name")
        if child.name != "configuration" or name not in KNOWN:
            complaints.unknown(child.place, "configuration", name or child.name)
        elif name in found.configurations:
            complaints.error(child.place, f"{name} is already configured at {found.configurations[name].place}")
        else:
            found.configurations[name] = child


def _configuration(
    sections: _Sections,
    conf_dir: Path,
    variables: dict[str, str],
    made_up: Mapping[str, str],
    complaints: Complaints,
    *,
    thorough: bool,
) -> Configuration | None:
    part = sections.configurations.get
    switch = read_switch(part("switch.conf"), variables["hostname"], complaints)
    profiles = ProfileReader(complaints, switch, _global_codecs(variables), variables["certs_dir"])
    sofia = part("sofia.conf")
    if sofia is None:
        complaints.error(sections.root, "there is no sofia.conf: no profile to serve")
    else:
        profiles.read(sofia)
        if not profiles.profiles and not complaints.fatal:
            complaints.error(sofia.place, "sofia.conf has no profile: nothing to serve")
    dsns = {name: values.place("odbc-dsn", profiles.places[name]) for name, values in profiles.values.items()}
    switch = one_database(switch, profiles.profiles, dsns, complaints)
    users = DirectoryReader(complaints, profiles)
    directory = users.read(sections.directory)
    acl = read_acl(part("acl.conf"), directory, host.own_networks(), complaints)
    users.check_acls(acl)
    event_socket, event_values = read_event_socket(part("event_socket.conf"), complaints)
    ha, ha_values = read_ha(part("ha.conf"), complaints)
    dialplan = DialplanReader(complaints).read(sections.dialplan)
    configuration = Configuration(
        conf_dir=conf_dir,
        profiles=MappingProxyType(_with_domains(profiles.profiles, directory)),
        sofia=read_globals(sofia, complaints),
        switch=switch,
        directory=directory,
        dialplan=dialplan,
        acl=MappingProxyType(acl),
        event_socket=event_socket,
        ha=ha,
        globals=MappingProxyType(variables),
    )
    check_together(
        configuration,
        profiles=profiles,
        users=users,
        event_values=event_values,
        ha_values=ha_values,
        made_up=frozenset(made_up.values()),
        complaints=complaints,
    )
    check_certificates(profiles, complaints, thorough=thorough)
    return configuration


def _global_codecs(variables: Mapping[str, str]) -> tuple[str, ...] | None:
    """What FreeSWITCH's profiles without prefs of their own get: the variable `global_codec_prefs`."""
    try:
        return codecs(variables.get("global_codec_prefs", ""))
    except (Notice, ValueError):
        return None


def _with_domains(profiles: Mapping[str, ProfileSettings], directory: DirectorySection) -> dict[str, ProfileSettings]:
    """Domains with alias=true lend their names to the profile, those with parse=true their users' gateways.

    The first profile to claim a name keeps it.
    """
    taken = set(profiles) | {alias for profile in profiles.values() for alias in profile.aliases}
    adopted: set[str] = set()
    found = {}
    for name, profile in profiles.items():
        aliases, gateways = list(profile.aliases), list(profile.gateways)
        for tag in profile.domains:
            for domain in directory.domains:
                if tag.name.lower() not in ("all", domain.name.lower()):
                    continue
                if tag.alias and domain.name not in taken:
                    taken.add(domain.name)
                    aliases.append(domain.name)
                if tag.parse and domain.name not in adopted:
                    adopted.add(domain.name)
                    gateways += [g for group in domain.groups for user in group.users for g in user.gateways]
            if tag.alias and tag.name != "all" and tag.name not in taken:
                taken.add(tag.name)
                aliases.append(tag.name)
        found[name] = replace(profile, aliases=tuple(aliases), gateways=tuple(gateways))
    return found
