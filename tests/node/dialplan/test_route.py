from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from node.config import check, load
from node.config.complaints import Complaints, Place
from node.config.dialplan import DialplanSection
from node.config.dialplan_reader import DialplanReader
from node.config.document import Element, parse
from node.config.preprocess import Preprocessed
from node.dialplan.route import Facts, Route, follow, hunt, route
from store.records import Step

CONF = Path(__file__).parents[3] / "conf"


def dialplan(text: str) -> DialplanSection:
    """Contexts as XML, without a complaint."""
    complaints = Complaints()
    lines = f"<section>{text}</section>".split("\n")
    places = [Place(Path("dialplan.xml"), number) for number in range(1, len(lines) + 1)]
    root = parse(Preprocessed(lines, places), complaints)
    assert isinstance(root, Element)
    section = DialplanReader(complaints).read([root])
    assert complaints.sorted() == []
    return section


def walk(extensions: str, number: str = "1000", **facts: Any) -> Route:
    return hunt(
        dialplan(f'<context name="default">{extensions}</context>'),
        "default",
        Facts(destination_number=number, **facts),
    )


def ran(extensions: str, number: str = "1000", **facts: Any) -> list[str]:
    """The applications that would run, with their data."""
    return [f"{step.application} {step.data}".strip() for step in walk(extensions, number, **facts).steps]


def extension(*conditions: str, name: str = "e", goes_on: bool = False) -> str:
    return f'<extension name="{name}" continue="{str(goes_on).lower()}">' + "".join(conditions) + "</extension>"


def number(expression: str, *inside: str, attributes: str = "") -> str:
    return f'<condition field="destination_number" expression="{expression}" {attributes}>{"".join(inside)}</condition>'


def always(*inside: str, attributes: str = "") -> str:
    return f"<condition {attributes}>{''.join(inside)}</condition>"


def log(data: str, attributes: str = "") -> str:
    return f'<action application="log" data="{data}" {attributes}/>'


def anti(data: str) -> str:
    return f'<anti-action application="log" data="{data}"/>'


# ---- contexts and extensions --------------------------------------------------------------------------------------------


def test_a_context_that_is_not_there_leads_nowhere() -> None:
    assert route(dialplan('<context name="a"/>'), "b", Facts()) == []


def test_the_context_global_stands_in_for_one_that_is_not_there() -> None:
    section = dialplan(f'<context name="global">{extension(always(log("g")))}</context>')
    assert route(section, "b", Facts()) == [Step("log", "g")]


def test_no_context_means_default() -> None:
    section = dialplan(f'<context name="default">{extension(always(log("d")))}</context>')
    assert route(section, "", Facts()) == [Step("log", "d")]


def test_the_first_extension_that_matches_ends_the_hunt() -> None:
    assert ran(extension(number("^2", log("a"))) + extension(number("^1", log("b"))) + extension(always(log("c")))) == [
        "log b"
    ]


def test_continue_goes_on_collecting() -> None:
    assert ran(extension(always(log("a")), goes_on=True) + extension(always(log("b")))) == ["log a", "log b"]


def test_the_names_of_the_extensions_that_matched_are_told() -> None:
    found = walk(
        extension(always(), name="one", goes_on=True)
        + extension(number("^9"), name="two")
        + extension(always(), name="three")
    )
    assert found.extensions == ["one", "three"]


def test_auto_hunt_jumps_to_the_extension_of_that_name() -> None:
    text = extension(always(log("a"))) + extension(always(log("b")), name="1000")
    assert ran(text, variables={"auto_hunt": "true"}) == ["log b"]
    assert ran(text, "2000", variables={"auto_hunt": "true"}) == ["log a"]


def test_an_extension_without_conditions_does_not_match() -> None:
    complaints = Complaints()
    element = Element("section", {}, Place(Path("x"), 1))
    element.children.append(Element("context", {"name": "default"}, element.place))
    element.children[0].children.append(Element("extension", {"name": "e"}, element.place))
    section = DialplanReader(complaints).read([element])
    assert hunt(section, "default", Facts()).extensions == []


# ---- fields and expressions ---------------------------------------------------------------------------------------------


def test_a_search_is_not_anchored() -> None:
    assert ran(extension(number("00", log("a")))) == ["log a"]


def test_an_unknown_field_is_empty() -> None:
    assert ran(
        extension('<condition field="shoe_size" expression="^$"><action application="log" data="a"/></condition>')
    ) == ["log a"]


def test_a_field_of_the_caller_profile_is_asked_by_name() -> None:
    text = extension(
        '<condition field="network_addr" expression="^192"><action application="log" data="a"/></condition>'
    )
    assert (ran(text, network_addr="192.0.2.1"), ran(text, network_addr="10.0.0.1")) == (["log a"], [])


def test_a_soft_field_is_asked_by_name() -> None:
    text = extension('<condition field="caller_ton" expression="^1$"><action application="log" data="a"/></condition>')
    assert ran(text, soft={"caller_ton": "1"}) == ["log a"]


def test_a_field_with_a_dollar_is_expanded() -> None:
    text = extension(
        '<condition field="${toll_allow}" expression="local"><action application="log" data="a"/></condition>'
    )
    assert (ran(text, variables={"Toll_Allow": "domestic,local"}), ran(text)) == (["log a"], [])


def test_a_global_stands_in_for_a_variable_that_is_not_set() -> None:
    text = extension(
        '<condition field="${call_debug}" expression="^true$"><action application="log" data="a"/></condition>'
    )
    assert ran(text, globals={"call_debug": "true"}) == ["log a"]


def test_a_field_may_ask_an_api() -> None:
    text = extension(
        '<condition field="${even(${destination_number})}" expression="^yes$"><action application="log" data="a"/></condition>'
    )
    api = {"even": lambda words: "yes" if int(words) % 2 == 0 else "no"}
    assert ran(text, api=lambda name, words: api[name](words)) == ["log a"]
    assert ran(text, "1001", api=lambda name, words: api[name](words)) == []


def test_an_expression_may_be_made_of_variables() -> None:
    text = extension(number("^${prefix}(\\d+)$", log("$1")))
    assert (ran(text, variables={"prefix": "10"}), ran(text, variables={"prefix": "("})) == (["log 00"], [])


def test_an_expression_may_be_an_element() -> None:
    text = extension(
        '<condition field="destination_number"><expression><![CDATA[^1(.*)$]]></expression><action application="log" data="$1"/></condition>'
    )
    assert ran(text) == ["log 000"]


def test_an_expression_may_have_flags_or_be_a_pattern_of_asterisk() -> None:
    name = '<condition field="caller_id_name" expression="/^ALICE$/i"><action application="log" data="a"/></condition>'
    assert ran(extension(name), caller_id_name="Alice") == ["log a"]
    assert ran(extension(number("_ZXXX", log("a")))) == ["log a"]


# ---- captures -----------------------------------------------------------------------------------------------------------


def test_captures_go_into_the_actions_of_their_own_condition() -> None:
    assert ran(extension(number("^(1)(0+)$", log("$0 $1 $2 $3|")))) == ["log 1000 1 000 |"]


def test_without_a_parenthesis_there_is_no_capture() -> None:
    assert ran(extension(number("^1000$", log("$0 $1")))) == ["log $0 $1"]


def test_in_braces_a_number_is_a_variable() -> None:
    assert ran(extension(number("^(1000)$", log("${1}")))) == ["log ${1}"]


def test_captures_are_not_carried_over_to_the_next_condition() -> None:
    assert ran(extension(number("^(1000)$"), always(log("$1")))) == ["log $1"]


def test_a_group_that_took_no_part_leaves_nothing() -> None:
    assert ran(extension(number("^1(9)?000$", log("[$1]")))) == ["log []"]


def test_captures_are_kept_in_a_variable() -> None:
    assert walk(extension(number("^(1)(000)$"))).variables["DP_MATCH"] == "ARRAY::1000|:1|:000"


def test_anti_actions_see_no_captures() -> None:
    assert ran(extension(number("^(2)$", anti("$1")))) == ["log $1"]


# ---- actions ------------------------------------------------------------------------------------------------------------


def test_an_actions_text_wins_over_its_data() -> None:
    text = (
        '<action application="set" data="no"><![CDATA[sip_h_P-Charge-Info=<sip:${caller_id_number}@x>;npi=0]]></action>'
    )
    assert ran(extension(always(text))) == ["set sip_h_P-Charge-Info=<sip:${caller_id_number}@x>;npi=0"]


def test_data_is_left_for_the_application_to_expand() -> None:
    assert ran(extension(always(log("${later}"))), variables={"later": "now"}) == ["log ${later}"]


def test_a_loop_repeats_an_action() -> None:
    assert ran(extension(always(log("a", 'loop="3"'), log("b", 'loop="0"')))) == ["log a"] * 3


def test_an_application_may_carry_its_data_behind_two_colons() -> None:
    assert ran(extension(always('<action application="hangup::NORMAL_CLEARING"/>'))) == ["hangup NORMAL_CLEARING"]


# ---- break ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("on", "first", "expected"),
    [
        ("on-false", "^1", ["log a", "log b"]),
        ("on-false", "^9", []),
        ("on-true", "^1", ["log a"]),
        ("on-true", "^9", ["log b"]),
        ("always", "^1", ["log a"]),
        ("always", "^9", []),
        ("never", "^1", ["log a", "log b"]),
        ("never", "^9", ["log b"]),
    ],
)
def test_break(on: str, first: str, expected: list[str]) -> None:
    assert ran(extension(number(first, log("a"), attributes=f'break="{on}"'), always(log("b")))) == expected


def test_never_does_not_make_a_failing_last_condition_match() -> None:
    assert ran(extension(number("^9", log("a"), attributes='break="never"')) + extension(always(log("b")))) == ["log b"]


def test_the_last_condition_looked_at_decides() -> None:
    text = extension(always(log("a")), number("^9", attributes='break="never"'))
    assert ran(text + extension(always(log("b")))) == ["log a", "log b"]


def test_actions_of_an_extension_that_fails_later_are_kept() -> None:
    assert ran(extension(always(log("a")), number("^9", log("b"))) + extension(number("^1", log("c")))) == [
        "log a",
        "log c",
    ]


# ---- anti-actions ---------------------------------------------------------------------------------------------------------


def test_anti_actions_make_the_extension_match() -> None:
    assert ran(extension(number("^9", log("a"), anti("b"))) + extension(always(log("c")))) == ["log b"]


def test_anti_actions_of_a_condition_that_passes_are_not_taken() -> None:
    assert ran(extension(number("^1", log("a"), anti("b")))) == ["log a"]


def test_after_anti_actions_the_extension_stops_as_after_any_failure() -> None:
    assert ran(extension(number("^9", anti("a")), always(log("b")))) == ["log a"]


# ---- inline ---------------------------------------------------------------------------------------------------------------


SET = '<action application="set" data="a=$1" inline="true"/>'


def test_an_inline_action_takes_effect_at_once_and_is_not_collected() -> None:
    later = '<condition field="${a}" expression="^00$"><action application="log" data="a"/></condition>'
    found = walk(extension(number("^10(00)$", SET), later))
    assert (found.steps, found.variables["a"]) == ([Step("log", "a")], "00")


def test_a_normal_set_is_not_seen_by_later_conditions() -> None:
    later = '<condition field="${a}" expression="^00$"><action application="log" data="a"/></condition>'
    assert ran(extension(number("^10(00)$", SET.replace(' inline="true"', "")), later)) == ["set a=00"]


def test_inline_unset_hides_a_variable() -> None:
    unset = '<action application="unset" data="a" inline="true"/>'
    later = '<condition field="${a}" expression="^$"><action application="log" data="gone"/></condition>'
    assert ran(extension(always(unset), later), variables={"a": "1"}) == ["log gone"]


def test_an_inline_profile_variable_changes_the_field() -> None:
    change = '<action application="set_profile_var" data="caller_id_number=42" inline="true"/>'
    later = '<condition field="caller_id_number" expression="^42$"><action application="log" data="a"/></condition>'
    found = walk(extension(always(change), later))
    assert (found.steps, found.profile) == ([Step("log", "a")], {"caller_id_number": "42"})


def test_what_cannot_run_inline_is_skipped_and_told() -> None:
    found = walk(extension(always('<action application="bridge" data="x" inline="true"/>')))
    assert (found.steps, found.refused) == ([], ["bridge"])


# ---- nested conditions ----------------------------------------------------------------------------------------------------


def test_nested_conditions_add_their_actions_behind_those_of_the_outer() -> None:
    assert ran(extension(number("^1", number("0$", log("b")), log("a")))) == ["log a", "log b"]


def test_nested_conditions_of_one_that_fails_are_not_looked_at() -> None:
    assert ran(extension(number("^9", always(log("b"))))) == []


def test_a_nested_failure_fails_the_outer_and_skips_the_rest() -> None:
    assert ran(
        extension(number("^1", number("9$", log("b")), log("a")), always(log("c"))) + extension(always(log("d")))
    ) == ["log a", "log d"]


def test_a_nested_failure_with_break_never_goes_on_with_the_rest() -> None:
    assert ran(extension(number("^1", number("9$"), log("a"), attributes='break="never"'), always(log("c")))) == [
        "log a",
        "log c",
    ]


def test_a_nested_failure_that_is_not_required_is_ignored() -> None:
    text = extension(number("^1", number("9$"), log("a"), attributes='require-nested="false"'), always(log("c")))
    assert ran(text) == ["log a", "log c"]


# ---- regex= ---------------------------------------------------------------------------------------------------------------


def regexes(mode: str, *expressions: str) -> str:
    children = "".join(f'<regex field="destination_number" expression="{text}"/>' for text in expressions)
    return extension(f'<condition regex="{mode}">{children}{log("$1")}{anti("no")}</condition>')


@pytest.mark.parametrize(
    ("mode", "expressions", "expected"),
    [
        ("any", ("^9", "^(1)"), "log 1"),
        ("any", ("^(1)", "^(10)"), "log 1"),
        ("any", ("^9", "^8"), "log no"),
        ("all", ("^1", "(0)$"), "log 0"),
        ("all", ("^(1)", "9$"), "log no"),
        ("xor", ("^(1)", "9$"), "log 1"),
        ("xor", ("^1", "0$"), "log no"),
        ("xor", ("^9", "9$"), "log no"),
    ],
)
def test_several_expressions_in_one_condition(mode: str, expressions: tuple[str, ...], expected: str) -> None:
    assert ran(regexes(mode, *expressions)) == [expected]


def test_xor_decides_with_one_result_whether_the_extension_matches() -> None:
    section = regexes("xor", "^1", "9$").replace(anti("no"), "")
    assert ran(section + extension(always(log("after")))) == ["log $1"]
    both = regexes("xor", "^1", "0$").replace(anti("no"), "")
    assert ran(both + extension(always(log("after")))) == ["log after"]


def test_each_expressions_captures_are_kept_by_its_number() -> None:
    variables = walk(regexes("all", "^(1)", "(0)$")).variables
    assert (variables["DP_REGEX_MATCH_1"], variables["DP_REGEX_MATCH_2"]) == ("ARRAY::1|:1", "ARRAY::0|:0")


# ---- times ----------------------------------------------------------------------------------------------------------------


NOON = datetime(2026, 3, 4, 12, 0, tzinfo=UTC).timestamp()
ZONED = {"variables": {"timezone": "UTC"}, "now": NOON}


def test_all_time_attributes_must_hold() -> None:
    assert ran(extension(always(log("a"), attributes='hour="12" wday="wed"')), **ZONED) == ["log a"]
    assert ran(extension(always(log("a"), attributes='hour="12" wday="thu"')), **ZONED) == []


def test_a_time_and_a_field_in_one_condition_must_both_hold() -> None:
    for expression, hour, expected in [("^1", "12", ["log a"]), ("^9", "12", []), ("^1", "13", []), ("^9", "13", [])]:
        assert ran(extension(number(expression, log("a"), attributes=f'hour="{hour}"')), **ZONED) == expected


@pytest.mark.parametrize(
    ("variables", "attributes", "hour"),
    [
        ({"timezone": "UTC"}, "", 12),
        ({"timezone": "Europe/Berlin"}, "", 13),
        ({"tod_tz_offset": "-5"}, "", 7),
        ({"tod_tz_offset": "2", "timezone": "UTC"}, "", 14),
        ({}, 'tz-offset="5.5"', 17),
        ({"timezone": "UTC"}, 'tz-offset="3"', 12),
    ],
)
def test_the_zone_is_the_calls_then_the_conditions(variables: dict[str, str], attributes: str, hour: int) -> None:
    text = extension(always(log("a"), attributes=f'hour="{hour}" {attributes}'))
    assert ran(text, variables=variables, now=NOON) == ["log a"]


# ---- lists of dialplans ---------------------------------------------------------------------------------------------------


def test_the_first_dialplan_that_has_something_to_run_wins() -> None:
    section = dialplan('<context name="default"/>')
    facts = Facts(destination_number="answer,echo")
    assert follow(section, "enum,XML,inline", "default", facts).steps == [Step("answer"), Step("echo")]
    assert follow(section, "XML", "default", facts).steps == []


# ---- the tree we ship -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped() -> DialplanSection:
    assert check(CONF) == []
    return load(CONF, {"domain": "sofia.test"}).dialplan


def shipped_steps(shipped: DialplanSection, number: str, context: str = "default", **facts: Any) -> list[str]:
    return [step.application for step in route(shipped, context, Facts(destination_number=number, **facts))]


def test_a_local_extension_is_bridged_to_its_user(shipped: DialplanSection) -> None:
    steps = route(shipped, "default", Facts(destination_number="1001"))
    assert steps == [
        Step("export", "dialed_extension=1001"),
        Step("set", "call_timeout=30"),
        Step("set", "hangup_after_bridge=true"),
        Step("set", "continue_on_fail=false"),
        Step("bridge", "user/${dialed_extension}@${domain_name}"),
    ]


@pytest.mark.parametrize(
    ("number", "applications"),
    [
        ("9196", ["answer", "echo"]),
        ("9197", ["answer", "playback"]),
        ("9198", ["answer", "playback", "hangup"]),
        ("9199", ["answer", "sleep", "hangup"]),
        ("9664", ["answer", "playback"]),
        ("1020", []),
        ("00491234", []),
    ],
)
def test_numbers_of_our_own_users(shipped: DialplanSection, number: str, applications: list[str]) -> None:
    assert shipped_steps(shipped, number) == applications


def test_calls_from_outside_reach_local_extensions_and_nothing_else(shipped: DialplanSection) -> None:
    assert shipped_steps(shipped, "1000", "public") == ["set", "transfer"]
    assert shipped_steps(shipped, "00491234", "public") == ["set"]
    assert shipped_steps(shipped, "9196", "public") == ["set"]


def test_calls_to_the_world_need_somewhere_to_go_and_the_right(shipped: DialplanSection) -> None:
    configuration = load(CONF, {"outbound_host": "carrier.example.org"})
    section, everywhere = configuration.dialplan, configuration.globals
    allowed = Facts(
        destination_number="00491234", variables={"toll_allow": "domestic,international"}, globals=everywhere
    )
    assert route(section, "default", allowed)[-1] == Step("bridge", "sofia/external/491234@carrier.example.org")
    assert route(section, "default", Facts(destination_number="00491234", globals=everywhere)) == []
    nowhere = Facts(destination_number="00491234", variables={"toll_allow": "international"})
    assert route(shipped, "default", nowhere) == []
