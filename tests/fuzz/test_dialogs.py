"""Valid dialogs with a running node, on every transport, and mutants at each step. The long run is `make fuzz`."""

from __future__ import annotations

import pytest

from tests.fuzz import dialogs
from tests.fuzz.agent import Dialogue, Tally
from tests.fuzz.wires import UdpAgent
from tests.support.open_node import open_node, trouble_of, wait_settled

pytestmark = pytest.mark.real


@pytest.mark.timeout(600)
def test_mutants_at_each_step_of_a_dialog_disturb_nobody_else(tmp_path, capsys):
    figures = dialogs.run(tmp_path, seed=5118, mutants=4000)
    with capsys.disabled():
        print(f"\n  {figures}")
    assert figures.mutants >= 4000
    assert figures.streams >= 300
    assert figures.failed == []
    assert figures.unanswered == []
    assert figures.trouble == []
    assert not figures.replaced
    assert figures.prompt
    assert figures.bounded
    assert figures.through > figures.dialogs / 4, "too few dialogs were ones"


def test_the_tag_of_one_dialog_and_the_call_id_of_another_are_no_dialog(tmp_path):
    """Such a request was once looked up again and again, and never answered."""
    node = open_node(tmp_path)
    with node.serving():
        wait_settled(node)
        agent = UdpAgent(node.sip, Tally(), 0)
        one, other = (agent.establish() for _ in range(2))
        mixed = Dialogue(one.call_id, one.tag, one.user, other.target, other.to, one.cseq)
        for method in ("INFO", "BYE"):
            assert agent.ask(agent.request(method, mixed)).startswith("SIP/2.0 481")
        for dialog in (one, other):
            assert agent.ask(agent.request("BYE", dialog)).startswith("SIP/2.0 200")
        agent.close()
        assert trouble_of(node) == []
