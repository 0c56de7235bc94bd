import pytest

from node.config.regex import BadExpression, Expression, compiled

CASES = [
    (r"^(10[01][0-9])$", "1007", True),
    (r"^(10[01][0-9])$", "1020", False),
    (r"/^sip$/i", "SIP", True),
    (r"/^sip$/", "SIP", False),
    (r"^/a$", "/a", True),
    (r"^\+?1?(\d{10})\z", "+12125551212", True),
    (r"^a\Z", "a\n", True),
    (r"^a\z", "a\n", False),
    (r"^[[:digit:]]+$", "123", True),
    (r"^[[:alpha:]_]+$", "ab_c", True),
    (r"^(?<area>\d)(?P=area)$", "11", True),
    (r"^a\hb$", "a\tb", True),
    (r"^[^]]+$", "a]", False),
    (r"^[]a]+$", "]a", True),
    (r"^\Qa.b*\E$", "a.b*", True),
    (r"^\Qa.b*\E$", "axb*", False),
    (r"^\x{41}$", "A", True),
    (r"^\d$", "٣", False),
    (r"^a\.b\-c\_d$", "a.b-c_d", True),
    (r"^a++b$", "aab", True),
    (r"^(?>a|ab)c$", "abc", False),
    ("_NXXXXXX", "5551212", True),
    ("_NXXXXXX", "1551212", False),
    ("_9[12]X.", "92345", True),
    ("_9[12]X.", "93345", False),
    ("", "anything", True),
]


@pytest.mark.parametrize(("expression", "text", "matches"), CASES)
def test_pcre_means_what_it_means_in_freeswitch(expression: str, text: str, matches: bool) -> None:
    assert (compiled(expression).search(text) is not None) is matches


@pytest.mark.parametrize("expression", ["(", "[a", "a{2,1}", r"\Kx", r"\p{L}", "(?|a|b)", "(?R)", "*"])
def test_what_cannot_be_had_is_refused_with_a_reason(expression: str) -> None:
    with pytest.raises(BadExpression, match=r"\S"):
        compiled(expression)


def test_an_expression_with_a_variable_waits_for_the_call() -> None:
    assert Expression.parse("^${prefix}(").pattern is None
    assert Expression.parse("^1$").pattern is not None
