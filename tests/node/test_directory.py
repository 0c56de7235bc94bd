from pathlib import Path
from time import perf_counter

import pytest

from node.config import load
from node.config.directory import DirectorySection, DomainSection, GroupSection, UserSection
from node.directory import Directory, Names, User
from tests.node.config.tree import plant

TREE = """\
<include>
<domain name="Example.org">
  <params><param name="dial-string" value="domain"/><param name="a" value="domain"/></params>
  <variables><variable name="v" value="domain"/><variable name="w" value="domain"/></variables>
  <groups>
    <group name="pointing"><users><user id="1000" type="pointer"/></users></group>
    <group name="sales">
      <params><param name="A" value="group"/><param name="b" value="group"/></params>
      <users>
        <user id="1000" number-alias="5550100" cacheable="60000">
          <params><param name="password" value="of-1000"/><param name="b" value="user"/></params>
          <variables><variable name="V" value="user"/><variable name="user_context" value="default"/></variables>
        </user>
      </users>
    </group>
  </groups>
  <users>
    <user id="Bob"><params><param name="a1-hash" value="00ff"/></params></user>
    <user id="door" ip="192.0.2.7"><params><param name="password" value="of-door"/></params></user>
  </users>
</domain>
</include>
"""


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    plant(tmp_path, {"directory/d.xml": TREE})
    configuration = load(tmp_path)
    assert configuration.warnings == ()
    return Directory(configuration.directory)


def known(directory: Directory, user: str, domain: str = "example.org", ip: str = "") -> User:
    found = directory.find(user, domain, ip)
    assert found is not None
    return found


def test_a_user_is_found_in_any_case(directory: Directory) -> None:
    assert known(directory, "BOB", "EXAMPLE.ORG").id == "Bob"


def test_a_user_is_found_by_its_number_alias(directory: Directory) -> None:
    assert known(directory, "5550100").id == "1000"


def test_who_is_not_there_is_not_found(directory: Directory) -> None:
    assert directory.find("1001", "example.org") is None
    assert directory.find("1000", "example.com") is None


def test_a_users_own_values_win_over_the_groups_and_those_over_the_domains(directory: Directory) -> None:
    user = known(directory, "1000")
    assert dict(user.params) == {"dial-string": "domain", "A": "group", "b": "user", "password": "of-1000"}
    assert dict(user.variables) == {"V": "user", "w": "domain", "user_context": "default"}


def test_names_are_found_in_any_case() -> None:
    names = Names({"Dial-String": "a"}, {"DIAL-STRING": "b"})
    assert (names["dial-string"], names.get("dial-STRING"), "Dial-string" in names, len(names)) == ("b", "b", True, 1)
    assert (names.get("gone"), names.get("gone", "x"), "gone" in names) == ("", "x", False)


def test_a_pointer_never_hides_the_user_it_points_to(directory: Directory) -> None:
    user = known(directory, "1000")
    assert (user.pointer, user.group, user.password) == (False, "sales", "of-1000")


def test_a_pointer_to_nobody_stays_one(tmp_path: Path) -> None:
    plant(tmp_path, {"directory/d.xml": '<domain name="d"><users><user id="1" type="pointer"/></users></domain>'})
    assert known(Directory(load(tmp_path).directory), "1", "d").pointer


def test_a_source_address_can_be_an_identity(directory: Directory) -> None:
    assert known(directory, "anybody", ip="192.0.2.7").id == "door"
    assert directory.find("anybody", "example.org", "192.0.2.8") is None


def test_what_a_user_needs_most_has_a_name_of_its_own(directory: Directory) -> None:
    alice, bob = known(directory, "1000"), known(directory, "bob")
    assert (alice.password, alice.dial_string, alice.context) == ("of-1000", "domain", "default")
    assert (bob.password, bob.a1_hash, bob.has_secret) == ("", "00ff", True)


def test_a_group_has_its_users_pointers_resolved(directory: Directory) -> None:
    assert [user.id for user in directory.users("example.org", "pointing")] == ["1000"]
    assert [user.id for user in directory.users("example.org")] == ["1000", "Bob", "door"]
    assert directory.users("example.com") == []


def test_no_secret_is_in_the_text_of_a_user(directory: Directory) -> None:
    assert "of-1000" not in repr(known(directory, "1000"))


def test_a_lookup_does_not_get_slower_with_more_users() -> None:
    def seconds(count: int) -> float:
        users = tuple(UserSection(id=str(number), params={"password": "x"}) for number in range(count))
        section = DirectorySection(domains=(DomainSection(name="d", groups=(GroupSection(users=users),)),))
        directory = Directory(section)
        started = perf_counter()
        for number in range(2000):
            directory.find(str(number % count), "d")
        return perf_counter() - started

    few, many = min(seconds(2000) for _ in range(3)), min(seconds(40000) for _ in range(3))
    assert many < few * 5
