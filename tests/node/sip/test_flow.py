from __future__ import annotations

from node.sip.flow import Flow, endpoint_text


def test_a_flow_comes_back_from_its_record():
    flow = Flow("internal", "TLS", ("192.0.2.1", 5061), ("2001:db8::1", 40000), "c7")
    assert Flow.from_record(flow.to_record()) == flow
    assert (flow.reliable, flow.secure) == (True, True)


def test_a_flow_in_words():
    flow = Flow("internal", "UDP", ("192.0.2.1", 5060), ("2001:db8::1", 40000))
    assert str(flow) == "internal/udp 192.0.2.1:5060 [2001:db8::1]:40000"
    assert (flow.reliable, flow.secure) == (False, False)
    assert endpoint_text(("::1", 1)) == "[::1]:1"
