"""The configuration of the node whose outputs were captured: two profiles, two gateways, users 1000 to 1003."""

from __future__ import annotations

from pathlib import Path

PASSWORD = "console-for-tests"

PROFILE = """
<profile name="{name}">
  <gateways>{gateways}</gateways>
  <aliases>{aliases}</aliases>
  <settings>
    <param name="sip-ip" value="127.0.0.1"/><param name="ext-sip-ip" value="127.0.0.1"/>
    <param name="rtp-ip" value="127.0.0.1"/><param name="ext-rtp-ip" value="127.0.0.1"/>
    <param name="sip-port" value="{port}"/><param name="context" value="public"/>
    <param name="hold-music" value="local_stream://moh"/><param name="inbound-late-negotiation" value="true"/>
    <param name="inbound-codec-prefs" value="PCMU,PCMA"/><param name="outbound-codec-prefs" value="PCMU,PCMA"/>
    <param name="max-recv-requests-per-second" value="0"/>
    <param name="multiple-registrations" value="contact"/>
    {more}
  </settings>
</profile>
"""
INTERNAL = """
<param name="auth-calls" value="true"/><param name="challenge-realm" value="auto_from"/>
<param name="presence-hosts" value="pbx.test,127.0.0.1"/><param name="ws-binding" value="127.0.0.1:5066"/>
"""
GATEWAYS = """
<gateway name="carrier1">
  <param name="username" value="acct1"/><param name="password" value="secret"/>
  <param name="proxy" value="127.0.0.4:5090"/><param name="realm" value="carrier.test"/>
  <param name="from-domain" value="carrier.test"/>
  <param name="expire-seconds" value="60"/><param name="ping" value="10"/>
  <variables>
    <variable name="gwcolor" value="blue" direction="inbound"/>
    <variable name="gwout" value="out1" direction="outbound"/>
  </variables>
</gateway>
<gateway name="noreg1">
  <param name="username" value="none"/><param name="password" value="none"/>
  <param name="proxy" value="127.0.0.3:5070"/><param name="realm" value="127.0.0.3"/>
  <param name="register" value="false"/>
</gateway>
"""
USER = """
<user id="{id}"><params><param name="password" value="pw{id}"/>{more}</params></user>
"""
OPERATOR = """
<param name="esl-password" value="limited-secret"/><param name="esl-allowed-api" value="status version"/>
"""


def write(folder: Path, *, port: int, acl: str = "") -> Path:
    """The tree, with the event socket on a port. Gives back its folder."""
    profiles = PROFILE.format(name="external", port=5080, gateways=GATEWAYS, aliases="", more="") + PROFILE.format(
        name="internal", port=5060, gateways="", aliases='<alias name="pbx.test"/>', more=INTERNAL
    )
    users = "".join(USER.format(id=number, more=OPERATOR if number == 1000 else "") for number in range(1000, 1004))
    list_param = f'<param name="apply-inbound-acl" value="{acl}"/>' if acl else ""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "freeswitch.xml").write_text(
        f"""<?xml version="1.0"?>
<document type="freeswitch/xml">
  <X-PRE-PROCESS cmd="set" data="domain=pbx.test"/>
  <section name="configuration">
    <configuration name="switch.conf"><settings>
      <param name="switchname" value="fsanchor"/><param name="max-sessions" value="20000"/>
      <param name="sessions-per-second" value="2000"/>
    </settings></configuration>
    <configuration name="event_socket.conf"><settings>
      <param name="listen-ip" value="127.0.0.1"/><param name="listen-port" value="{port}"/>
      <param name="password" value="{PASSWORD}"/>{list_param}
    </settings></configuration>
    <configuration name="sofia.conf"><profiles>{profiles}</profiles></configuration>
  </section>
  <section name="directory"><domain name="pbx.test"><groups><group name="default"><users>{users}</users></group></groups>
  </domain></section>
</document>
"""
    )
    return folder
