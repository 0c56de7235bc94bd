"""The productions of RFC 3261 25.1 that the parsers are made of, compiled once.

Every pattern runs in linear time: alternatives differ in their first character, and nothing that repeats stands inside
a repetition that can match the same text. They are wider than the RFC where robust stacks are (RFC 4475 3.1).
"""

from __future__ import annotations

import re

TOKEN = r"[A-Za-z0-9\-.!%*_+`'~]+"
QUOTED = r'"[^"\\]*(?:\\.[^"\\]*)*"'
IPV6_REFERENCE = r"\[[0-9A-Fa-f:.]+(?:%[0-9A-Za-z._~-]+)?\]"
HOST = rf"(?:{IPV6_REFERENCE}|[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_.])?)"
"Hostname or IPv4 address; the underscore is against RFC 1123 and in use."
PORT = r"[0-9]{1,5}"
LWS = r"[ \t\r\n]*"

SIP_URI = re.compile(
    rf"""(?P<scheme>[Ss][Ii][Pp][Ss]?):
    (?:(?P<user>[^@:\s<>"]+)(?::(?P<password>[^@\s<>"]*))?@)?
    (?P<host>{HOST})(?::(?P<port>{PORT}))?
    (?P<params>(?:;[^;?\s<>]*)*)
    (?:\?(?P<headers>[^\s<>]*))?""".replace("\n", "").replace("    ", "")
)
OTHER_URI = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*):(?P<rest>[^;\s<>\"]+)(?P<params>(?:;[^;\s<>]*)*)")

# These three are matched against stripped text.
NAME_ADDR = re.compile(rf'(?P<display>{QUOTED}{LWS}|[^<";]*)<(?P<uri>[^>]*)>(?:{LWS}(?P<params>;.*))?', re.DOTALL)
ADDR_SPEC = re.compile(rf'(?P<uri>[^;<>,?"\s]+)(?:{LWS}(?P<params>;[^<>]*))?', re.DOTALL)
"A comma, a question mark or a semicolon of the URI itself would need the brackets (RFC 3261 20)."
VIA = re.compile(
    rf"[Ss][Ii][Pp]{LWS}/{LWS}(?P<version>{TOKEN}){LWS}/{LWS}(?P<transport>{TOKEN})[ \t\r\n]+"
    rf"(?P<host>{HOST})(?:{LWS}:{LWS}(?P<port>{PORT}))?"
)
"Without the parameters. Of any version: that of a message from the future is answered too, 505 (RFC 4475 3.1.2.16)."
CSEQ = re.compile(rf"(?P<number>[0-9]{{1,10}})[ \t\r\n]+(?P<method>{TOKEN})")
PARAMETER = re.compile(
    rf"{LWS};{LWS}(?P<name>[^\s=;\",]+)(?:{LWS}={LWS}(?P<value>{QUOTED}|[^;\s\"]*))?{LWS}", re.DOTALL
)
TAG = re.compile(r";\s*tag\s*=\s*([^;\s][^;]*)", re.IGNORECASE)
"Whatever it is made of, as the whole field would be read; one without a value is none."
LIST_MARK = re.compile(r'\\.|[",<>]', re.DOTALL)
"What decides whether a comma separates."
AUTH_PARAM = re.compile(
    rf'(?<![A-Za-z0-9\-.!%*_+`\'~])({TOKEN}){LWS}={LWS}(?:"([^"\\]*(?:\\.[^"\\]*)*)"|([^\s,"]*))', re.DOTALL
)

REQUEST_LINE = re.compile(rf"(?P<method>{TOKEN}) +(?P<uri>\S+) +SIP/(?P<version>\S+) *", re.IGNORECASE)
STATUS_LINE = re.compile(r"SIP/(?P<version>[0-9.]+) +(?P<status>[1-6][0-9][0-9])(?: (?P<reason>.*))?", re.IGNORECASE)
FOLD = re.compile(r"\r\n[ \t]+")
BLANK_LINE = re.compile(rb"\r?\n\r?\n")
NO_BODY = re.compile(rb"\n(?:content-length|l)[ \t]*:[ \t]*0+[ \t]*\r?\n\Z", re.IGNORECASE)
"How a head ends that says itself that nothing is missing."
LINE_END = re.compile(r"\r\n|\n|\r")
METHOD = re.compile(TOKEN)
