"""Names of header fields: one key for every spelling, compact form and case (RFC 3261 7.3.1, 7.3.3)."""

from __future__ import annotations

from node.sip.grammar import METHOD

COMPACT = {
    "a": "accept-contact",
    "b": "referred-by",
    "c": "content-type",
    "d": "request-disposition",
    "e": "content-encoding",
    "f": "from",
    "i": "call-id",
    "j": "reject-contact",
    "k": "supported",
    "l": "content-length",
    "m": "contact",
    "n": "identity-info",
    "o": "event",
    "r": "refer-to",
    "s": "subject",
    "t": "to",
    "u": "allow-events",
    "v": "via",
    "x": "session-expires",
    "y": "identity",
}

_KNOWN = [
    "Accept",
    "Accept-Contact",
    "Accept-Encoding",
    "Accept-Language",
    "Alert-Info",
    "Allow",
    "Allow-Events",
    "Authentication-Info",
    "Authorization",
    "Call-ID",
    "Call-Info",
    "Contact",
    "Content-Disposition",
    "Content-Encoding",
    "Content-Language",
    "Content-Length",
    "Content-Type",
    "CSeq",
    "Date",
    "Diversion",
    "Error-Info",
    "Event",
    "Expires",
    "From",
    "History-Info",
    "Identity",
    "In-Reply-To",
    "Join",
    "Max-Breadth",
    "Max-Forwards",
    "MIME-Version",
    "Min-Expires",
    "Min-SE",
    "Organization",
    "P-Access-Network-Info",
    "P-Asserted-Identity",
    "P-Charging-Vector",
    "P-Preferred-Identity",
    "Path",
    "Priority",
    "Privacy",
    "Proxy-Authenticate",
    "Proxy-Authorization",
    "Proxy-Require",
    "RAck",
    "Reason",
    "Record-Route",
    "Refer-Sub",
    "Refer-To",
    "Referred-By",
    "Reject-Contact",
    "Remote-Party-ID",
    "Replaces",
    "Reply-To",
    "Request-Disposition",
    "Require",
    "Retry-After",
    "Route",
    "RSeq",
    "Server",
    "Service-Route",
    "Session-Expires",
    "SIP-ETag",
    "SIP-If-Match",
    "Subject",
    "Subscription-State",
    "Supported",
    "Timestamp",
    "To",
    "Unsupported",
    "User-Agent",
    "Via",
    "Warning",
    "WWW-Authenticate",
]


class Keys(dict[str, str]):
    """Every spelling of a name to its key; of what is no name of a header field to ``. The odd ones are found on the way."""

    def __missing__(self, name: str) -> str:
        key = key_of(name)
        if len(self) < MOST_SPELLINGS and len(name) <= LONGEST:
            self[name] = key
        return key


def key_of(name: str) -> str:
    """The key of an unusual spelling; `` if it is no name of a header field."""
    name = name.rstrip().lower()  # white space in front would be a folded line
    if METHOD.fullmatch(name) is None:
        return ""
    return COMPACT.get(name, name)


MOST_SPELLINGS, LONGEST = 2000, 64
"So many spellings are remembered, if they are no longer than this: nobody can fill the memory by making names up."

KEYS = Keys(
    {spelling: name.lower() for name in _KNOWN for spelling in (name, name.lower(), name.title(), name.upper())}
)
"The key of a name: the full one in lower case."
for _short, _long in COMPACT.items():
    KEYS[_short] = KEYS[_short.upper()] = _long

LISTS = frozenset(
    {
        "accept",
        "accept-encoding",
        "accept-language",
        "alert-info",
        "allow",
        "allow-events",
        "call-info",
        "contact",
        "content-encoding",
        "content-language",
        "diversion",
        "error-info",
        "history-info",
        "in-reply-to",
        "p-asserted-identity",
        "p-preferred-identity",
        "path",
        "proxy-require",
        "record-route",
        "require",
        "route",
        "service-route",
        "supported",
        "unsupported",
        "via",
        "warning",
    }
)
"Fields whose values are comma separated lists: one field with two values is two fields with one (RFC 3261 7.3.1)."

SINGLE = {
    "from": "From",
    "to": "To",
    "call-id": "Call-ID",
    "cseq": "CSeq",
    "max-forwards": "Max-Forwards",
    "content-length": "Content-Length",
    "content-type": "Content-Type",
}
"Fields that may stand in a message once only; key to name."
