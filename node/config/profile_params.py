"""The params of a profile: how each is read, and which field of `ProfileSettings` it fills.

Names are matched in any case. Most fields are called as their param; the few exceptions are spelled out.
"""

from __future__ import annotations

from dataclasses import fields
from ipaddress import ip_address

from node.config.database import profile_dsn
from node.config.dscp import dscp
from node.config.profile import Binding, InboundAcl
from node.config.streams import StreamLimits
from node.config.values import (
    Parameter,
    Reader,
    boolean,
    choice,
    codecs,
    endpoint,
    lenient,
    local_address,
    numbers,
    port,
    public_address,
    regex,
    string,
    whole,
    words,
)

TRANSPORTS = ("udp", "tcp", "tls", "ws", "wss", "sctp")
MEDIA_OPTIONS = ("resume-media-on-hold", "bypass-media-after-att-xfer", "bypass-media-after-hold")
ALGORITHMS = {
    "md5": "MD5",
    "md-5": "MD5",
    "sha-256": "SHA-256",
    "sha256": "SHA-256",
    "sha-512-256": "SHA-512-256",
    "sha512": "SHA-512-256",
    "sha512-256": "SHA-512-256",
    "sha-512": "SHA-512-256",
}
STRONGEST_FIRST = ("SHA-512-256", "SHA-256", "MD5")
POLICIES = ("none", "in", "out", "all", "subjects_in", "subjects_out", "subjects_all")
VERSIONS = ("sslv2", "sslv3", "sslv23", "tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3")


def bind_params(text: str) -> str:
    for part in text.split(";"):
        name, _equals, value = part.strip().partition("=")
        if name.lower() == "transport":
            words(*TRANSPORTS)(value)
    return text.strip(";")


def tls_bind_params(text: str) -> str:
    if any(
        part.strip().lower().startswith("transport=") and part.strip()[10:].lower() != "tls" for part in text.split(";")
    ):
        raise ValueError(f"cannot name another transport than tls: {text!r}")
    return text.strip(";")


def transports(bind: str) -> tuple[str, ...]:
    """The plain transports that bind-params ask for."""
    for part in bind.split(";"):
        name, _equals, value = part.strip().partition("=")
        if name.lower() == "transport":
            return tuple(word.strip().lower() for word in value.split(",") if word.strip())
    return ("udp", "tcp")


def binding(text: str) -> Binding | None:
    """`[ip]:port`; without an address the profile's own."""
    if not text:
        return None
    checked = endpoint(text if not text.startswith(":") else f"*{text}")
    name, _colon, number = checked.rpartition(":")
    return Binding("" if name == "*" else name.strip("[]"), int(number))


def inbound_acl(text: str) -> InboundAcl:
    name, *contexts = text.split(":")
    if "/" in text and len(contexts) > 2:
        # An IPv6 CIDR in place of a name: its colons part nothing.
        return InboundAcl(text)
    return InboundAcl(name, *contexts[:2])


def algorithms(text: str) -> tuple[str, ...]:
    found = set()
    for part in text.split(","):
        name = ALGORITHMS.get(part.strip().lower())
        if name is None:
            raise ValueError(f"does not know {part.strip()!r}: it takes MD5, SHA-256, SHA-512-256")
        found.add(name)
    return tuple(name for name in STRONGEST_FIRST if name in found)


def algorithms_as_written(text: str) -> tuple[str, ...]:
    """Ours: in the operator's order, and with the `-sess` forms."""
    found: dict[str, None] = {}
    for part in text.split(","):
        name, dash, session = part.strip().lower().partition("-sess")
        known = ALGORITHMS.get(name)
        if known is None or session:
            raise ValueError(
                f"does not know {part.strip()!r}: it takes MD5, SHA-256, SHA-512-256, each also with -sess"
            )
        found[known + dash] = None
    return tuple(found)


def service_route(text: str) -> str:
    """A URI, or a name-addr, of a proxy that routes loosely."""
    uri = text.strip().removeprefix("<").removesuffix(">")
    if not uri.lower().startswith(("sip:", "sips:")) or any(mark in uri for mark in ' <>"\r\n'):
        raise ValueError(f"must be a SIP URI, not {text!r}")
    if "lr" not in (param.partition("=")[0].lower() for param in uri.split(";")[1:]):
        raise ValueError(f"must be the URI of a loose router (;lr), not {text!r}")
    return f"<{uri}>"


def ng_socket(text: str) -> str:
    """Ours: where an rtpengine is asked; no name, for nothing waits for a resolver in the middle of a call."""
    host, colon, number = text.rpartition(":")
    try:
        address = ip_address(host.removeprefix("[").removesuffix("]"))
        if not colon or not 1 <= int(number) <= 65535 or (address.version == 6) != host.startswith("["):
            raise ValueError
    except ValueError:
        raise ValueError(f"must be address:port, or [address]:port for IPv6, not {text!r}") from None
    return f"{address}:{int(number)}" if address.version == 4 else f"[{address}]:{int(number)}"


def user_agent(text: str) -> str:
    return "" if text == "_undef_" else text


def keepalive_method(text: str) -> str:
    return "INFO" if text.lower() == "info" else "MESSAGE"


def dtmf_duration(text: str) -> int:
    number = int(whole()(text) or 0)
    return number if 400 <= number <= 192000 else 2000


def nonce_ttl(text: str) -> int:
    return max(60, int(whole()(text) or 0))


def no_list(text: str) -> str:
    return "" if text.lower() == "none" else text


def _table() -> dict[str, Parameter]:
    number: Reader = whole()
    first_only = choice("first-only", "all", true="true", false="false")
    table = {
        "timer-t1": Parameter("timer_t1", whole(1)),
        "timer-t1x64": Parameter("timer_t1x64", whole(1)),
        "timer-t2": Parameter("timer_t2", whole(1)),
        "timer-t4": Parameter("timer_t4", whole(1)),
        "user-agent-string": Parameter("user_agent", user_agent),
        "alias": Parameter("listen_urls", string, gathers=True),
        "rtp-ip": Parameter("rtp_ips", local_address, gathers=True),
        "rtpengine-ng": Parameter("rtpengine_ng", ng_socket, gathers=True),
        "media-option": Parameter("media_options", choice(*MEDIA_OPTIONS), gathers=True),
        "rfc8760-auth-algorithms": Parameter("auth_algorithms", algorithms),
        "auth-algorithms": Parameter("auth_algorithms", algorithms_as_written),
        "service-route": Parameter("service_route", service_route, gathers=True),
        "disable-auth-messages": Parameter("disable_auth_messages", boolean),
        "disable-auth-subscriptions": Parameter("disable_auth_subscriptions", boolean),
        "inbound-no-media": Parameter("inbound_bypass_media", boolean),
        "supress-cng": Parameter("suppress_cng", boolean),
        "socket-tcp-keepalive": Parameter("tcp_keepalive", lambda text: (number(text) or 0) * 1000),
        "proxy-refer-replaces": Parameter("proxy_refer", boolean),
        "codec-prefs": Parameter("codec_prefs", codecs),
        "max-registrations": Parameter("max_registrations_per_extension", number),
    }
    for name in (
        "apply-register-acl",
        "apply-proxy-acl",
        "apply-nat-acl",
        "apply-candidate-acl",
        "limits-exempt-acl",
    ):
        table[name] = Parameter(field(name), string, gathers=True)
    table["apply-inbound-acl"] = Parameter("apply_inbound_acl", inbound_acl, gathers=True)
    for each in fields(StreamLimits):
        most = 65535 if each.name == "max_unsent" else None
        table[f"stream-{each.name.replace('_', '-')}"] = Parameter(
            f"stream_{each.name}", whole(1) if most is None else whole(most)
        )
    for read, names in _plain(number, first_only).items():
        for name in names.split():
            table[name] = Parameter(field(name), read)
    return table


def _plain(number: Reader, first_only: Reader) -> dict[Reader, str]:
    """Params whose field is called as they are, by the way they are read."""
    return {
        boolean: """tls tls-only tls-verify-date tcp-unreg-on-socket-close tcp-always-nat tls-always-nat
            reuse-connections disable-srv disable-naptr disable-srv503 enable-compact-headers disable-register
            presence-probe-on-register ndlb-expires-in-register-response ndlb-received-in-nat-reg-contact
            enable-rfc-5626 auth-calls auth-check-uri auth-userhash auth-calls-acl-only auth-all-packets auth-messages
            auth-subscriptions
            auth-require-user accept-blind-reg accept-blind-auth enforce-blind-auth-result blind-auth-reply-403
            inbound-reg-force-matching-username ndlb-broken-auth-hash log-auth-failures log-auth-challenges use-port-for-acl-check
            aggressive-nat-detection all-reg-options-ping unregister-on-options-fail disable-rtp-auto-adjust
            inbound-late-negotiation inbound-bypass-media inbound-proxy-media disable-transcoding disable-hold
            proxy-hold rtp-rewrite-timestamps suppress-cng t38-passthru liberal-dtmf enable-timer update-refresher
            manage-shared-appearance presence-privacy forward-unsolicited-mwi-notify mwi-use-reg-callid enable-chat
            in-dialog-chat fire-message-events sip-messages-respond-200-ok sip-subscribe-respond-200-ok track-calls
            watchdog-enabled profile-standby auto-restart disable-transfer manual-redirect proxy-refer
            confirm-blind-transfer fire-transfer-events enable-100rel allow-update send-display-update pass-callee-id
            cid-in-1xx ignore-183nosdp auto-invite-100 full-id-in-dialplan parse-all-invite-headers
            extended-info-parsing inbound-use-callid-as-uuid outbound-use-uuid-as-callid proxy-info proxy-message
            sip-options-respond-503-on-busy sip-trace sip-capture""",
        string: """contact-user username outbound-proxy context dialplan tls-cert-dir tls-passphrase tls-ciphers
            force-register-domain force-register-db-domain force-subscription-domain challenge-realm hold-music
            rtp-timer-name record-path record-template presence-hosts presence-hold-state dbname
            shutdown-on-fail apply-inbound-acl-x-token apply-proxy-acl-x-token""",
        number: """ext-sip-port bind-attempt-interval tls-verify-depth tls-timeout tcp-keepalive tcp-pingpong
            tcp-ping2pong max-registrations-per-extension registration-thread-frequency sip-force-expires
            sip-force-expires-min sip-force-expires-max sip-expires-max-deviation sip-expires-late-margin
            max-auth-validity flow-timer ping-mean-interval ping-thread-frequency sip-user-ping-max sip-user-ping-min
            rtp-timeout-sec rtp-hold-timeout-sec rtp-digit-delay session-timeout max-proceeding
            max-recv-requests-per-second max-source-requests-per-second max-source-auth-failures
            max-profile-sessions force-subscription-expires force-publish-expires
            sip-subscription-max-deviation watchdog-step-timeout watchdog-event-timeout debug""",
        profile_dsn: "odbc-dsn",
        whole(1): "bind-attempts auth-failure-penalty",
        whole(1000): "max-transactions",
        whole(1400, 65535): "max-message-size",
        whole(16, 65535): "max-header-fields max-header-length max-uri-length max-uri-params",
        whole(500, 32000): "next-target-timeout",
        whole(0, 300): "dead-target-time",
        whole(0, 65535): "udp-mtu",
        dscp: "sip-dscp rtp-dscp",
        whole(0, 127): "cng-pt",
        whole(90): "minimum-session-expires",
        whole(20): "auto-jitterbuffer-msec",
        whole(1, 64): "workers",
        whole(1, 100000): "recovery-rate",
        whole(96, 127): "rfc2833-pt",
        whole(1024, 65535): "rtp-start-port rtp-end-port",
        port: "sip-port tls-sip-port",
        lenient(number, "passthru", -1): "rtcp-audio-interval-msec",
        local_address: "sip-ip",
        public_address: "ext-sip-ip ext-rtp-ip",
        bind_params: "bind-params",
        tls_bind_params: "tls-bind-params",
        binding: "ws-binding wss-binding",
        no_list: "local-network-acl",
        codecs: "inbound-codec-prefs outbound-codec-prefs",
        regex: "user-agent-filter",
        nonce_ttl: "nonce-ttl",
        dtmf_duration: "dtmf-duration",
        keepalive_method: "keepalive-method",
        first_only: "send-message-query-on-register send-presence-on-register",
        choice("contact", "call-id", true="contact", false=""): "multiple-registrations",
        choice("auth", "auth-int", "auth,auth-int", "auth-int,auth"): "auth-qop",
        choice("challenge", "forbid"): "replayed-nonce-count",
        choice("safe", "disabled", "client-only", "server-only", true="true", false="default"): "ndlb-force-rport",
        choice("udp-only", true="true", false="false"): "nat-options-ping",
        choice("generous", "greedy", "scrooge"): "inbound-codec-negotiation",
        choice("rfc2833", "info", "none"): "dtmf-type",
        choice("passive", "pnp", true="true", false="false"): "manage-presence",
        choice("auto", "always", "never"): "recovery-reinvite",
        choice("builtin", "rtpengine"): "media-engine",
        choice("proxy", true="true", false=""): "enable-3pcc",
        choice("rpid", "pid", "none"): "caller-id-type",
        choice("default", "user-only", "user-domain", "verbatim"): "p-asserted-id-parse",
        words(*POLICIES, separator="|"): "tls-verify-policy",
        words(separator="|"): "tls-verify-in-subjects",
        numbers: "emergency-numbers",
        words(*VERSIONS): "tls-version",
    }


def field(name: str) -> str:
    return name.replace("-", "_")


PARAMETERS = _table()

INERT = frozenset(
    """delete-subs-on-register renegotiate-codec-on-hold rtp-autoflush-during-bridge use-rtp-timer stun-enabled
    stun-auto-disable cid-type max-calls sip-domain require-secure-rtp pass-rfc2833 ndlb-allow-bad-iananame
    inbound-reg-in-new-thread auto-rtp-bugs manual-rtp-bugs manual-video-rtp-bugs rtp-autofix-timing
    rtp-notimer-during-bridge rtcp-video-interval-msec vad bitpacking enable-soa ndlb-sendrecv-in-session
    ndlb-allow-crypto-in-avp ndlb-support-asterisk-missing-srtp-auth ndlb-proxy-never-patch-reinvites
    ndlb-allow-nondup-sdp tls-orq-connect-timeout presence-proto-lookup presence-disable-early
    pnp-provision-url db-spin-up-wait-ms db-pre-trans-execute db-post-trans-execute db-inner-pre-trans-execute
    db-inner-post-trans-execute make-every-transfer-a-nightmare channel-xml-fetch-on-nightmare-transfer
    fire-bye-response-events 3pcc-reinvite-bridged-on-ack parse-invite-tel-params proxy-info-content-types
    proxy-notify-events rfc-7989 rfc-7989-force-old rfc-7989-filter max-video-media video-mute-exit-canvas""".split()  # noqa: SIM905
)
"Accepted without a word: inert in FreeSWITCH too, or about what this node leaves to the endpoints."
