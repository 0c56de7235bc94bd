import pytest

from node.dialplan.expand import array, expand, items

VARIABLES = {
    "caller_id_number": "1000",
    "destination_number": "004930123456",
    "domain_name": "example.org",
    "name": "caller_id_number",
    "which": "name",
    "list": "ARRAY::a|:b|:c",
    "chain": "${caller_id_number}@${domain_name}",
    "loop": "${loop}",
    "evil": "${system(reboot)}",
    "empty": "",
}

CASES = [
    ("plain text", "plain text"),
    ("${caller_id_number}", "1000"),
    ("<${caller_id_number}>", "<1000>"),
    ("${unknown}", ""),
    ("a${empty}b", "ab"),
    ("${destination_number:2}", "4930123456"),
    ("${destination_number:-4}", "3456"),
    ("${destination_number:2:2}", "49"),
    ("${destination_number:-6:3}", "123"),
    ("${destination_number:0:0}", "004930123456"),
    ("${caller_id_number:0:99}", "1000"),
    ("${caller_id_number:99}", ""),
    ("${caller_id_number:-99}", "1000"),
    ("${list[0]}", "a"),
    ("${list[2]}", "c"),
    ("${list[3]}", ""),
    ("${caller_id_number[0]}", ""),
    ("${${name}}", "1000"),
    ("${${${which}}}", "1000"),
    ("${chain}", "1000@example.org"),
    ("${loop}", ""),
    ("$${domain_name}", "example.org"),
    (r"\${caller_id_number}", "${caller_id_number}"),
    (r"\$1", "$1"),
    (r"a\\b", r"a\b"),
    (r"it\'s", "it's"),
    (r"\d+\.", r"\d+\."),
    ("$1 and $", "$1 and $"),
    ("${caller_id_number", "${caller_id_number"),
    ("${upper(abc)}", "UPPER<abc>"),
    ("${upper abc def}", "UPPER<abc def>"),
    ("${upper(${caller_id_number})}", "UPPER<1000>"),
    ("${upper(*/${caller_id_number}@${domain_name})}", "UPPER<*/1000@example.org>"),
    ("${upper()}", "UPPER<>"),
    ("{a=b}[c=d]sofia/${domain_name}/x", "{a=b}[c=d]sofia/example.org/x"),
]


def api(name: str, arguments: str) -> str:
    return f"{name.upper()}<{arguments}>"


@pytest.mark.parametrize(("text", "expanded"), CASES)
def test_an_expansion(text: str, expanded: str) -> None:
    assert expand(text, VARIABLES.get, api) == expanded


def test_a_value_from_the_network_cannot_run_a_command() -> None:
    assert expand("${evil}", VARIABLES.get, api) == ""


def test_without_an_api_such_an_expansion_gives_nothing() -> None:
    assert expand("a${upper(b)}c", VARIABLES.get) == "ac"


def test_a_global_is_looked_for_among_globals_only() -> None:
    assert expand("$${domain_name}${domain_name}", VARIABLES.get, globals_only={}.get) == "example.org"


def test_what_an_api_says_is_not_expanded_again() -> None:
    assert expand("${echo(x)}", VARIABLES.get, lambda _name, _words: "${caller_id_number}") == "${caller_id_number}"


def test_deep_nesting_ends() -> None:
    text = "${" * 500 + "name" + "}" * 500
    assert isinstance(expand(text, VARIABLES.get), str)


@pytest.mark.parametrize("values", [["a"], ["a", "b"], ["", "x"]])
def test_array_and_items_are_inverse(values: list[str]) -> None:
    assert items(array(values)) == values


def test_a_plain_value_is_its_only_item() -> None:
    assert items("a") == ["a"]
