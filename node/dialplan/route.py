"""Walks the XML dialplan: facts of a call in, the actions to run out (`mod_dialplan_xml`).

All actions are collected before any of them runs, so a later condition does not see what an action will set; only actions
with `inline="true"` take effect at once. Three of FreeSWITCH's oddities are mended, as its own authors' intent demands:
`regex="xor"` decides with one result whether actions are taken and whether the extension matched; time attributes and a
field in one condition must both hold; and the captures of `regex=` are those of a child that matched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from types import MappingProxyType
from zoneinfo import ZoneInfo

from msgspec import Struct

from node.config.dialplan import Action, Condition, Context, DialplanSection, Extension, Test
from node.config.regex import BadExpression, compiled
from node.dialplan import inline
from node.dialplan.expand import Api, array, expand
from store.records import Step

CAPTURE = re.compile(r"\$(\d+)")
TRUE = frozenset(("true", "yes", "on", "t", "1", "enabled", "active", "allow"))
NONE: Mapping[str, str] = MappingProxyType({})


class Facts(Struct, frozen=True, kw_only=True):
    """What the dialplan may ask about a call: its caller profile, variables, globals, and the time."""

    destination_number: str = ""
    caller_id_name: str = ""
    caller_id_number: str = ""
    orig_caller_id_name: str = ""
    orig_caller_id_number: str = ""
    callee_id_name: str = ""
    callee_id_number: str = ""
    username: str = ""
    dialplan: str = "XML"
    context: str = ""
    ani: str = ""
    aniii: str = ""
    network_addr: str = ""
    rdnis: str = ""
    uuid: str = ""
    source: str = "mod_sofia"
    transfer_source: str = ""
    chan_name: str = ""
    soft: Mapping[str, str] = NONE
    "Further fields by name (`caller_ton`, ...)."
    variables: Mapping[str, str] = NONE
    globals: Mapping[str, str] = NONE
    now: float = 0.0
    "Seconds since 1970."
    api: Api | None = None
    "What `${api(arguments)}` in a condition asks; None: such an expansion gives nothing."

    def profile_field(self, name: str) -> str | None:
        """A caller-profile field by name; None for none."""
        if name in PROFILE_FIELDS:
            return str(getattr(self, name))
        return self.soft.get(name)


PROFILE_FIELDS = frozenset(Facts.__struct_fields__) - {"soft", "variables", "globals", "now", "api"}


@dataclass(slots=True)
class Route:
    """Where a call goes."""

    steps: list[Step] = field(default_factory=list)
    "The actions to run, in order, their data not yet expanded."
    variables: dict[str, str | None] = field(default_factory=dict)
    "What inline actions have set (None: unset); belongs onto the channel before the steps run."
    profile: dict[str, str] = field(default_factory=dict)
    "Caller-profile fields that inline actions have set."
    extensions: list[str] = field(default_factory=list)
    "Names of the extensions that matched."
    refused: list[str] = field(default_factory=list)
    "Applications that asked to be run inline and cannot be."


def route(section: DialplanSection, context: str, facts: Facts) -> list[Step]:
    """The actions for a call in a context."""
    return hunt(section, context, facts).steps


def hunt(section: DialplanSection, context: str, facts: Facts) -> Route:
    """The same, with what inline actions have set."""
    found = section.contexts.get(context or "default") or section.contexts.get("global")
    walk = _Hunt(facts)
    if found is not None:
        walk.through(_from(found, facts))
    return walk.route


def follow(section: DialplanSection, dialplans: str, context: str, facts: Facts) -> Route:
    """Ask each dialplan of a list (`XML`, `inline`) in turn; the first with something to run wins."""
    for name in dialplans.split(","):
        kind = name.partition(":")[0].strip().lower()
        if kind == "inline":
            return Route(steps=inline.steps(facts.destination_number))
        found = hunt(section, context, facts) if kind == "xml" else Route()
        if found.steps:
            return found
    return Route()


def _from(context: Context, facts: Facts) -> Iterable[Extension]:
    """The extensions to try: with the variable auto_hunt, from the one called as the number on, if there is one."""
    if facts.variables.get("auto_hunt", "").lower() in TRUE:
        for index, extension in enumerate(context.extensions):
            if extension.name == facts.destination_number:
                return context.extensions[index:]
    return context.extensions


class _Verdict(Struct, frozen=True):
    """What a condition's test said."""

    passed: bool
    captures: list[str] | None = None
    "None: `$1` is no capture here."


_PASSED, _FAILED = _Verdict(True), _Verdict(False)


class _Hunt:
    """One walk; sees the variables that its own inline actions set."""

    def __init__(self, facts: Facts) -> None:
        self.route = Route()
        self._facts = facts

    def through(self, extensions: Iterable[Extension]) -> None:
        for extension in extensions:
            if self._all(extension.conditions):
                self.route.extensions.append(extension.name)
                if not extension.goes_on:
                    return

    def _all(self, conditions: Iterable[Condition]) -> bool:
        """Walk conditions side by side. The result is that of the last one looked at."""
        proceed = False
        for condition in conditions:
            proceed, stop = self._one(condition)
            if stop:
                break
        return proceed

    def _one(self, condition: Condition) -> tuple[bool, bool]:
        """(the condition lets the extension match, its siblings behind it are not looked at)."""
        verdict = self._judge(condition)
        if verdict.passed:
            self._add(condition.actions, verdict.captures)
        else:
            self._add(condition.anti_actions, None)
        proceed = verdict.passed or bool(condition.anti_actions)
        stop = condition.on == "always" or condition.on == ("on-true" if verdict.passed else "on-false")
        if proceed and condition.nested and not self._all(condition.nested) and condition.require_nested:
            return False, stop or condition.on != "never"
        return proceed, stop

    # ---- tests -------------------------------------------------------------------------------------------------------

    def _judge(self, condition: Condition) -> _Verdict:
        if not condition.regex:
            verdict = self._test(condition.test)
            if verdict.captures is not None:
                self.route.variables["DP_MATCH"] = array(verdict.captures)
            return verdict
        passed = 0
        captures: list[str] | None = None
        for number, test in enumerate(condition.tests, start=1):
            verdict = self._test(test)
            passed += verdict.passed
            if verdict.captures is not None:
                captures = verdict.captures
                self.route.variables[f"DP_REGEX_MATCH_{number}"] = array(captures)
            if condition.regex == ("any" if verdict.passed else "all"):
                break
        enough = {"any": passed > 0, "all": passed == len(condition.tests), "xor": passed == 1}
        return _Verdict(enough[condition.regex], captures)

    def _test(self, test: Test) -> _Verdict:
        if test.times and not self._timely(test):
            return _FAILED
        if test.field is None:
            return _PASSED
        if test.expression is None:
            return _FAILED
        pattern = test.expression.pattern
        text = test.expression.text
        if pattern is None:
            text = self._expand(text)
            try:
                pattern = compiled(text)
            except BadExpression:
                return _FAILED
        match = pattern.search(self._asked(test.field))
        if match is None:
            return _FAILED
        return _Verdict(True, [match[0], *match.groups("")]) if "(" in text else _PASSED

    def _asked(self, name: str) -> str:
        """The text of a condition's field."""
        if "$" in name:
            return self._expand(name)
        return self._profile_field(name) or ""

    def _timely(self, test: Test) -> bool:
        try:
            moment = datetime.fromtimestamp(self._facts.now, UTC).astimezone(self._zone(test.tz_offset))
        except (OverflowError, ValueError, OSError):
            return False
        return all(time.passes(moment) for time in test.times)

    def _zone(self, attribute: str) -> tzinfo | None:
        """By the call's variables, then the condition's attribute, then the host (None)."""
        offset = self._look("tod_tz_offset")
        name = self._look("timezone")
        if not offset and name:
            try:
                return ZoneInfo(name)
            except (OSError, ValueError, KeyError):
                pass
        offset = offset or attribute
        return timezone(timedelta(hours=float(offset))) if offset else None

    # ---- variables ---------------------------------------------------------------------------------------------------

    def _expand(self, text: str) -> str:
        return expand(text, self._look, self._facts.api, globals_only=self._facts.globals.get)

    def _look(self, name: str) -> str | None:
        """A variable, a field of the caller profile, a global: in this order, variables in any case."""
        if name in self.route.variables:
            return self.route.variables[name]
        value = self._facts.variables.get(name)
        if value is None:
            lower = name.lower()
            for layer in (self.route.variables, self._facts.variables):
                for known, text in layer.items():
                    if known.lower() == lower:
                        return text
            value = self._profile_field(lower)
        return value if value is not None else self._facts.globals.get(name)

    def _profile_field(self, name: str) -> str | None:
        return self.route.profile.get(name, self._facts.profile_field(name))

    # ---- actions -----------------------------------------------------------------------------------------------------

    def _add(self, actions: Iterable[Action], captures: list[str] | None) -> None:
        for action in actions:
            written = action.data if captures is None or "$" not in action.data else substitute(action.data, captures)
            if action.inline:
                self._run(action.application, written)
            else:
                self.route.steps += [Step(action.application, written)] * action.loop

    def _run(self, application: str, written: str) -> None:
        """Inline: at once, its data expanded."""
        apply = inline.APPLICATIONS.get(application)
        if apply is None:
            self.route.refused.append(application)
            return
        changes = apply(self._expand(written), self._look)
        (self.route.profile if application == "set_profile_var" else self.route.variables).update(changes)  # type: ignore[arg-type]


def substitute(text: str, captures: list[str]) -> str:
    """Put captures in for `$0`, `$1`, ...; one that is not there leaves nothing."""

    def capture(match: re.Match[str]) -> str:
        number = int(match[1])
        return captures[number] if number < len(captures) else ""

    return CAPTURE.sub(capture, text)
