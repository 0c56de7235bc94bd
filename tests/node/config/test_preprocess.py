from collections.abc import Mapping
from pathlib import Path

import pytest

from node.config.complaints import Complaints
from node.config.preprocess import Preprocessed, Preprocessor


def unreachable(text: str) -> str:
    raise OSError("nobody answers")


class Pass:
    """One pass over `root.xml` of a folder."""

    def __init__(self, folder: Path, overrides: Mapping[str, str] | None = None, *, allow_exec: bool = False) -> None:
        self.complaints = Complaints()
        self.variables: dict[str, str] = {"conf_dir": str(folder)}
        preprocessor = Preprocessor(
            self.complaints,
            self.variables,
            overrides=overrides or {},
            resolve=unreachable,
            allow_exec=allow_exec,
        )
        self.result: Preprocessed = preprocessor.read(folder / "root.xml")

    @property
    def said(self) -> list[str]:
        return [f"{complaint.file.name}:{complaint.line}: {complaint.text}" for complaint in self.complaints.sorted()]


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.xml").write_text(text)
    return folder


def test_a_variable_is_known_from_the_line_after_the_one_that_sets_it(tmp_path: Path) -> None:
    write(tmp_path, root='a $${x}\n<X-PRE-PROCESS cmd="set" data="x = 1 "/>\nb $${x}')
    assert Pass(tmp_path).result.lines == ["a ", "", "b 1"]


def test_a_value_may_be_made_of_other_variables(tmp_path: Path) -> None:
    write(
        tmp_path,
        root='<X-PRE-PROCESS cmd="set" data="ip=10.0.0.1"/>\n<X-PRE-PROCESS cmd="set" data="d=sip.$${ip}"/>\n$${d}',
    )
    assert Pass(tmp_path).result.lines[2] == "sip.10.0.0.1"


def test_what_is_set_from_outside_wins_over_every_line(tmp_path: Path) -> None:
    write(tmp_path, root='$${x}\n<X-PRE-PROCESS cmd="set" data="x=inside"/>\n$${x}')
    assert Pass(tmp_path, {"x": "outside"}).result.lines == ["outside", "", "outside"]


@pytest.mark.parametrize("name", ["sip_ip", "domain", "x", "a-b"])
def test_any_variable_can_be_set_from_outside(tmp_path: Path, name: str) -> None:
    write(
        tmp_path, root=f'<X-PRE-PROCESS cmd="set" data="{name}=1"/>\n<X-PRE-PROCESS cmd="set" data="y=$${{{name}}}"/>'
    )
    assert Pass(tmp_path, {name: "2"}).variables["y"] == "2"


def test_a_global_cannot_smuggle_in_what_is_expanded_at_run_time(tmp_path: Path) -> None:
    write(tmp_path, root='<X-PRE-PROCESS cmd="set" data="x=${system(ls)}"/>\n$${x}')
    assert Pass(tmp_path).result.lines[1] == "%{system(ls)}"


def test_what_is_expanded_at_run_time_is_left_alone(tmp_path: Path) -> None:
    write(tmp_path, root="${caller_id_number} $1 $$ {x}")
    assert Pass(tmp_path).result.lines == ["${caller_id_number} $1 $$ {x}"]


def test_each_line_of_an_include_remembers_its_own_file_and_number(tmp_path: Path) -> None:
    write(tmp_path, root='one\n<X-PRE-PROCESS cmd="include" data="b.xml"/>\nthree', b="first\nsecond")
    result = Pass(tmp_path).result
    places = [(line, place.file.name, place.line) for line, place in zip(result.lines, result.places, strict=True)]
    assert places == [
        ("one", "root.xml", 1),
        ("first", "b.xml", 1),
        ("second", "b.xml", 2),
        ("", "root.xml", 2),
        ("three", "root.xml", 3),
    ]


def test_a_glob_includes_in_order_and_relative_to_the_file_that_asks(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    write(tmp_path, root='<X-PRE-PROCESS cmd="include" data="a/list.xml"/>')
    write(tmp_path / "a", list='<X-PRE-PROCESS cmd="include" data="../b/*.xml"/>')
    write(tmp_path / "b", two="2", one="1")
    assert [line for line in Pass(tmp_path).result.lines if line] == ["1", "2"]


def test_a_glob_that_matches_nothing_is_fine(tmp_path: Path) -> None:
    write(tmp_path, root='<X-PRE-PROCESS cmd="include" data="gone/*.xml"/>')
    assert Pass(tmp_path).said == []


def test_a_file_that_includes_itself_is_refused(tmp_path: Path) -> None:
    write(tmp_path, root='<X-PRE-PROCESS cmd="include" data="root.xml"/>')
    assert Pass(tmp_path).said == ["root.xml:1: include: 'root.xml' leads back to a file that is still being read"]


def test_a_command_inside_a_comment_is_carried_out_as_freeswitch_does(tmp_path: Path) -> None:
    write(tmp_path, root='<!-- <X-PRE-PROCESS cmd="set" data="x=1"/> -->\n$${x}')
    assert Pass(tmp_path).result.lines[1] == "1"


@pytest.mark.parametrize("tag", ["X-NO-PRE-PROCESS", "XX-PRE-PROCESS"])
def test_a_renamed_command_is_not_carried_out(tmp_path: Path, tag: str) -> None:
    write(tmp_path, root=f'<{tag} cmd="set" data="x=1"/>\n[$${{x}}]')
    one = Pass(tmp_path)
    assert (one.result.lines[1], one.said) == ("[]", [])


def test_the_tag_may_be_written_about_in_a_comment(tmp_path: Path) -> None:
    write(tmp_path, root="<!--\nuse the <X-PRE-PROCESS> tag, where 'cmd' and 'data' are given\n-->")
    assert Pass(tmp_path).said == []


def test_a_value_may_hold_a_closing_bracket(tmp_path: Path) -> None:
    write(tmp_path, root='<X-PRE-PROCESS cmd="set" data="ring=v=-7;>=2;%(100,0)"/>')
    assert Pass(tmp_path).variables["ring"] == "v=-7;>=2;%(100,0)"


def test_what_shares_a_line_with_a_command_is_lost_and_said(tmp_path: Path) -> None:
    write(tmp_path, root='<a/> <X-PRE-PROCESS cmd="set" data="x=1"/> <b/>')
    one = Pass(tmp_path)
    assert one.result.lines == [""]
    assert one.said == ["root.xml:1: what stands on the same line as X-PRE-PROCESS is dropped"]


@pytest.mark.parametrize("line", ["<include>", "</include>", '<?xml version="1.0"?>'])
def test_include_tags_and_declarations_are_dropped(tmp_path: Path, line: str) -> None:
    write(tmp_path, root=line)
    assert Pass(tmp_path).result.lines == [""]


def test_the_old_form_in_comments_still_works(tmp_path: Path) -> None:
    write(tmp_path, root='<!--#set "x=7"-->\n<!--#include "b.xml"-->', b="$${x}")
    assert Pass(tmp_path).result.lines == ["", "7", ""]


def test_a_tag_in_small_letters_is_obeyed_too(tmp_path: Path) -> None:
    write(tmp_path, root='<x-pre-process CMD="SET" DATA="x=1"/>\n$${x}')
    assert Pass(tmp_path).result.lines[1] == "1"


def test_env_set_takes_the_environment_when_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFIA_TEST", "v")
    monkeypatch.delenv("SOFIA_GONE", raising=False)
    write(
        tmp_path,
        root='<X-PRE-PROCESS cmd="env-set" data="x=$SOFIA_TEST"/>\n<X-PRE-PROCESS cmd="env-set" data="y=$SOFIA_GONE"/>',
    )
    variables = Pass(tmp_path).variables
    assert (variables["x"], "y" in variables) == ("v", False)


def test_stun_without_an_answer_leaves_the_variable_unset_and_says_so(tmp_path: Path) -> None:
    write(tmp_path, root='\n<X-PRE-PROCESS cmd="stun-set" data="ip=stun:stun.example.org"/>')
    one = Pass(tmp_path)
    assert "ip" not in one.variables
    assert one.said == ["root.xml:2: ip is left unset, 'stun:stun.example.org' gives no address: nobody answers"]


def test_commands_run_only_where_that_is_allowed(tmp_path: Path) -> None:
    write(
        tmp_path, root='<X-PRE-PROCESS cmd="exec-set" data="x=echo hello"/>\n<X-PRE-PROCESS cmd="exec" data="echo a"/>'
    )
    allowed, refused = Pass(tmp_path, allow_exec=True), Pass(tmp_path)
    assert (allowed.variables["x"], allowed.result.lines) == ("hello", ["", "a", "", ""])
    assert ("x" in refused.variables, len(refused.said)) == (False, 2)
