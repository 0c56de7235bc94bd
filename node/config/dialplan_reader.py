"""The section `dialplan`: contexts, extensions, conditions and actions, expressions compiled."""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import MappingProxyType
from typing import get_args

from node.config.complaints import Complaints
from node.config.dialplan import Action, Break, Condition, Context, DialplanSection, Extension, Test
from node.config.document import Element
from node.config.regex import BadExpression, Expression
from node.config.times import ATTRIBUTES, TimeTest
from node.config.values import is_true

BREAKS = get_args(Break)
NESTING = 100
OFFSET = re.compile(r"[+-]?\d{1,2}(\.\d+)?")

APPLICATIONS = frozenset(
    """acknowledge_call answer att_xfer bind_digit_action bind_meta_app block_dtmf break bridge bridge_export broadcast
    check_acl clear_digit_action clear_speech_cache conference cng_plc db deflect delay_echo detect_speech
    digit_action_set_realm displace_session early_hangup eavesdrop echo enable_heartbeat enable_keepalive
    endless_playback enum erase eval event execute_extension export fax_detect fifo flush_dtmf gentones group hangup
    hash hold httapi info intercept ivr javascript jitterbuffer keepalive limit limit_execute limit_hash
    limit_hash_execute log loop_playback lua media_reset mkdir multiset multiunset mutex native_eavesdrop novideo
    park park_state phrase pickup play_and_detect_speech play_and_get_digits play_fsv playback pre_answer preprocess
    presence privacy push python queue_dtmf read record record_fsv record_session record_session_mask
    record_session_unmask recovery_refresh redirect remove_bugs rename reply respond reuse_caller_profile ring_ready
    rxfax say sched_broadcast sched_cancel sched_hangup sched_heartbeat sched_transfer send_display send_dtmf
    send_info session_loglevel set set_audio_level set_global set_media_stats set_mute set_name set_profile_var
    set_user set_zombie_exec sleep socket sofia_sla soft_hold sound_test spandsp_start_fax_detect speak spy
    start_dtmf start_dtmf_generate stop stop_displace_session stop_dtmf stop_dtmf_generate stop_record_session
    stop_tone_detect stopfax strftime system t38_gateway three_way tone_detect transfer transfer_vars txfax
    unbind_meta_app unblock_dtmf unhold unloop unset unshift uuid_media_neg vad_test valet_park verbose_events
    video_decode video_refresh video_write_overlay voicemail wait_for_answer wait_for_silence wait_for_video_ready
    callcenter curl distributor directory easyroute esf_page_group lcr nibblebill rss sofia_presence
    avmd_start avmd_stop cidlookup conference_set_auto_outcall fsv gsmopen mod_signalwire snom_bind_key soundtouch
    bgsystem capture capture_text chat deduplicate_dtmf debug_media detect_audio detect_silence filter_codecs
    limit_reset pre_process remove_media_bug send_text""".split()  # noqa: SIM905
)
"Applications that FreeSWITCH and its modules have: another name is most likely a slip of the pen."


class DialplanReader:
    """Reads all contexts; a context that is written twice goes on where it stopped."""

    def __init__(self, complaints: Complaints) -> None:
        self._complaints = complaints

    def read(self, sections: Iterable[Element]) -> DialplanSection:
        contexts: dict[str, list[Extension]] = {}
        for element in (child for section in sections for child in section.children):
            if element.name != "context":
                self._complaints.unknown(element.place, "element", element.name)
            elif not element.get("name"):
                self._complaints.error(element.place, "a context needs a name")
            else:
                contexts.setdefault(element.get("name"), []).extend(self._extensions(element))
        read = {name: Context(name=name, extensions=tuple(found)) for name, found in contexts.items()}
        return DialplanSection(contexts=MappingProxyType(read))

    def _extensions(self, context: Element) -> Iterable[Extension]:
        for element in context.children:
            if element.name != "extension":
                self._complaints.unknown(element.place, "element", element.name)
                continue
            conditions = [self._condition(child, 1) for child in element.children if child.name == "condition"]
            for child in element.children:
                if child.name != "condition":
                    self._complaints.error(child.place, f"<{child.name}> must stand inside a <condition>")
            if not conditions:
                self._complaints.warning(
                    element.place, f"extension {element.get('name')!r} has no condition: never taken"
                )
            yield Extension(
                name=element.get("name"), goes_on=is_true(element.get("continue")), conditions=tuple(conditions)
            )

    def _condition(self, element: Element, depth: int) -> Condition:
        if depth > NESTING:
            self._complaints.error(element.place, f"conditions are nested more than {NESTING} deep")
            return Condition()
        on = element.get("break", "on-false")
        if on not in BREAKS:
            self._complaints.error(element.place, f"break must be {', '.join(BREAKS)}, not {on!r}")
            on = "on-false"
        mode = element.get("regex")
        if mode and mode not in ("all", "any", "xor"):
            self._complaints.error(element.place, f"regex must be all, any or xor, not {mode!r}")
            mode = "any"
        for child in element.children:
            if child.name not in ("action", "anti-action", "condition", "regex", "expression"):
                self._complaints.unknown(child.place, "element", child.name)
        tests = tuple(self._test(child) for child in element.all("regex"))
        if mode and not tests:
            self._complaints.error(element.place, f"regex={mode!r} without <regex> children")
        return Condition(
            test=Test() if mode else self._test(element),
            regex=mode,  # type: ignore[arg-type]
            tests=tests,
            on=on,  # type: ignore[arg-type]
            require_nested=is_true(element.get("require-nested", "true")),
            actions=self._actions(element, "action"),
            anti_actions=self._actions(element, "anti-action"),
            nested=tuple(self._condition(child, depth + 1) for child in element.all("condition")),
        )

    def _test(self, element: Element) -> Test:
        child = element.first("expression")
        text = child.text if child is not None and child.text else element.get("expression")
        field = element.attributes.get("field")
        expression = None
        if field is not None or text:
            try:
                expression = Expression.parse(text)
            except BadExpression as error:
                self._complaints.error(element.place, f"expression is no regular expression: {error}")
        if text and field is None:
            self._complaints.warning(element.place, "an expression without a field is not looked at")
            expression = None
        offset = element.get("tz-offset")
        if offset and not OFFSET.fullmatch(offset):
            self._complaints.error(element.place, f"tz-offset must be hours such as +2 or -5.5, not {offset!r}")
            offset = ""
        return Test(field=field, expression=expression, times=self._times(element), tz_offset=offset)

    def _times(self, element: Element) -> tuple[TimeTest, ...]:
        tests = []
        for name, text in element.attributes.items():
            if name not in ATTRIBUTES:
                continue
            try:
                tests.append(TimeTest.parse(name, text))
            except ValueError as error:
                self._complaints.error(element.place, str(error))
        return tuple(tests)

    def _actions(self, element: Element, kind: str) -> tuple[Action, ...]:
        found = (self._action(child) for child in element.all(kind))
        return tuple(action for action in found if action is not None)

    def _action(self, element: Element) -> Action | None:
        application = element.get("application").strip()
        if not application:
            self._complaints.error(element.place, f"<{element.name}> needs an application")
            return None
        name, _colons, argument = application.partition("::")
        if name not in APPLICATIONS and "$" not in name:
            self._complaints.unknown(element.place, "application", name)
        loop = element.get("loop", "1")
        if not loop.isdecimal():
            self._complaints.error(element.place, f"loop must be a number, not {loop!r}")
            loop = "1"
        data = element.text or element.get("data") or argument
        return Action(name, data, inline=is_true(element.get("inline")), loop=int(loop))
