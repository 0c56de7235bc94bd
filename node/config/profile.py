"""What a profile is told: every param of mod_sofia's profiles that this node acts on, typed, with FreeSWITCH's defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from node.config.gateway import GatewaySettings
from node.config.streams import StreamLimits

USER_AGENT = "FreeSWITCH-mod_sofia/1.11.3+sofia-node"


def _nothing() -> Mapping[str, str]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class InboundAcl:
    """One `apply-inbound-acl`: `list[:pass-context[:fail-context]]`."""

    name: str
    pass_context: str = ""
    fail_context: str = ""


@dataclass(frozen=True, slots=True)
class DomainTag:
    """One `<domain>` of a profile: whose names become aliases of it, and whose users' gateways it loads."""

    name: str
    "A domain of the directory, or `all`."
    alias: bool = False
    parse: bool = False


@dataclass(frozen=True, slots=True)
class Binding:
    """Where a WebSocket listener binds."""

    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileSettings:
    """One listening personality. Times are in the unit of their param: seconds, or milliseconds where it says so."""

    name: str
    domain: str = ""
    "The attribute `domain`: default host for `sofia/<profile>/<user>`."
    aliases: tuple[str, ...] = ()
    "Other names of this profile: its `<aliases>`, and the domains with alias=true."
    domains: tuple[DomainTag, ...] = ()
    gateways: tuple[GatewaySettings, ...] = ()
    workers: int = 1
    "Processes that serve this profile; they share its UDP port."
    params: Mapping[str, str] = field(default_factory=_nothing)
    "All params as written, by lower-case name; the last one of a name."

    # ---- addresses, ports, identity

    sip_ip: str = "127.0.0.1"
    sip_port: int = 5060
    "0: chosen by the kernel (`auto`)."
    ext_sip_ip: str = ""
    "Public address for Contact and Via, or the `stun:` or `host:` form to ask for it; empty where `sip_ip` is public."
    ext_sip_address: str = ""
    "What such a form stands for, as far as that is known."
    auto_nat: bool = False
    "Public addresses are for those only who are not of our network (`autonat:`)."
    ext_sip_port: int = 0
    "0: the same as `sip_port`."
    rtp_ip: str = "127.0.0.1"
    "The first of `rtp_ips`."
    rtp_ips: tuple[str, ...] = ()
    "All media addresses, one call after the other."
    ext_rtp_ip: str = ""
    "Public media address for the SDP, or such a form."
    ext_rtp_address: str = ""
    rtp_start_port: int = 16384
    rtp_end_port: int = 32768
    media_engine: Literal["builtin", "rtpengine"] = "builtin"
    "Ours. Who relays the audio: our own media process, or an rtpengine, whose addresses and ports then count."
    rtpengine_ng: tuple[str, ...] = ("127.0.0.1:2223",)
    "Ours. The ng sockets of the rtpengines, best first: a new call goes to the first that answers."
    transports: tuple[str, ...] = ("udp", "tcp")
    "What is listened and called on: the plain ones are the `transport=` of bind-params, none with `tls-only`."
    bind_params: str = ""
    bind_attempts: int = 3
    bind_attempt_interval: int = 5
    listen_urls: tuple[str, ...] = ()
    "The params `alias`: further urls to listen on."
    contact_user: str = "mod_sofia"
    username: str = "FreeSWITCH"
    "User of the SDP `o=` line."
    user_agent: str = USER_AGENT
    "Param `user-agent-string`; empty: no User-Agent is sent (`_undef_`)."
    outbound_proxy: str = ""
    context: str = "default"
    "Dialplan context; `_domain_`: the host of From."
    dialplan: str = "XML"

    # ---- transports, TLS, DNS

    tls: bool = False
    tls_only: bool = False
    tls_bind_params: str = ""
    tls_sip_port: int = 5061
    "0: chosen by the kernel (`auto`)."
    tls_cert_dir: str = ""
    "See `node/config/certificates.py`."
    tls_passphrase: str = field(default="", repr=False)
    tls_verify_policy: tuple[str, ...] = ()
    tls_verify_depth: int = 2
    tls_verify_date: bool = True
    tls_verify_in_subjects: tuple[str, ...] = ()
    tls_version: tuple[str, ...] = ("tlsv1", "tlsv1.1", "tlsv1.2", "tlsv1.3")
    tls_ciphers: str = "ALL:!ADH:!LOW:!EXP:!MD5:@STRENGTH"
    tls_timeout: int = 300
    "Seconds of silence after which a TLS connection is closed that no phone is registered by."
    streams: StreamLimits = field(default_factory=StreamLimits)
    "Ours."
    ws_binding: Binding | None = None
    wss_binding: Binding | None = None
    tcp_keepalive: int = 0
    "Milliseconds between CRLF pings; 0: off."
    tcp_pingpong: int = 0
    "Milliseconds within which something must come after such a ping; 0: nothing need come."
    tcp_ping2pong: int = 0
    tcp_unreg_on_socket_close: bool = False
    tcp_always_nat: bool = False
    tls_always_nat: bool = False
    reuse_connections: bool = True
    disable_srv: bool = False
    disable_naptr: bool = False
    disable_srv503: bool = False
    next_target_timeout: int = 4000
    "Ours. Milliseconds that one of several targets may be silent before the next is tried."
    dead_target_time: int = 30
    "Ours. Seconds for which a target that failed is tried last; 0: not at all."
    udp_mtu: int = 1300
    "Ours. Requests of more bytes go by TCP where the peer takes it (RFC 3261 18.1.1); 0: never."
    sip_dscp: int = 0
    "Ours. DSCP of all SIP sockets, 0 to 63."
    rtp_dscp: int = 46
    "Ours. DSCP of the media sockets: EF (RFC 4594)."
    enable_compact_headers: bool = False
    keepalive_method: Literal["INFO", "MESSAGE"] = "MESSAGE"

    # ---- registration

    disable_register: bool = False
    multiple_registrations: Literal["", "contact", "call-id"] = ""
    max_registrations_per_extension: int = 0
    force_register_domain: str = ""
    force_register_db_domain: str = ""
    force_subscription_domain: str = ""
    registration_thread_frequency: int = 30
    sip_force_expires: int = 0
    sip_force_expires_min: int = 0
    sip_force_expires_max: int = 0
    sip_expires_max_deviation: int = 0
    sip_expires_late_margin: int = 60
    send_message_query_on_register: Literal["true", "first-only", "false"] = "first-only"
    send_presence_on_register: Literal["true", "first-only", "false"] = "false"
    presence_probe_on_register: bool = False
    ndlb_expires_in_register_response: bool = False
    ndlb_received_in_nat_reg_contact: bool = False
    enable_rfc_5626: bool = False
    flow_timer: int = 0
    "Ours: seconds within which a phone with a flow (RFC 5626) shall send keepalives; 0: as it likes."
    service_route: tuple[str, ...] = ()
    "Ours: the Service-Route (RFC 3608) that registering phones are told, each as name-addr."

    # ---- authentication

    auth_calls: bool = False
    auth_calls_acl_only: bool = False
    auth_all_packets: bool = False
    auth_messages: bool = True
    auth_subscriptions: bool = True
    auth_require_user: bool = False
    accept_blind_reg: bool = False
    accept_blind_auth: bool = False
    enforce_blind_auth_result: bool = False
    blind_auth_reply_403: bool = False
    challenge_realm: str = "auto_to"
    nonce_ttl: int = 60
    max_auth_validity: int = 0
    auth_algorithms: tuple[str, ...] = ("MD5",)
    "Params `rfc8760-auth-algorithms` (strongest first) and, ours, `auth-algorithms` (as written): in the order they are offered."
    auth_qop: str = "auth"
    "Ours: the qop of challenges. With `auth-int` alone no other is taken."
    auth_userhash: bool = False
    "Ours: say in challenges that user names may come hashed (RFC 7616 3.4.4). They are understood in any case."
    auth_check_uri: bool = False
    "Ours: refuse credentials whose uri is not the Request-URI. mod_sofia, and so the default, does not look."
    replayed_nonce_count: Literal["challenge", "forbid"] = "challenge"
    "Ours: what becomes of credentials whose nonce count was used before."
    inbound_reg_force_matching_username: bool = False
    user_agent_filter: str = ""
    ndlb_broken_auth_hash: bool = False
    log_auth_failures: bool = False
    log_auth_challenges: bool = True
    "Ours: with `log-auth-failures`, also a line for each challenge, as mod_sofia writes; every phone that registers is one."

    # ---- access lists (names of lists, or CIDRs)

    apply_inbound_acl: tuple[InboundAcl, ...] = ()
    apply_register_acl: tuple[str, ...] = ()
    apply_proxy_acl: tuple[str, ...] = ()
    apply_nat_acl: tuple[str, ...] = ()
    apply_candidate_acl: tuple[str, ...] = ()
    local_network_acl: str = "localnet.auto"
    "Empty: none."
    apply_inbound_acl_x_token: str = ""
    apply_proxy_acl_x_token: str = ""
    use_port_for_acl_check: bool = False

    # ---- NAT

    aggressive_nat_detection: bool = False
    ndlb_force_rport: Literal["default", "true", "safe", "disabled", "client-only", "server-only"] = "default"
    nat_options_ping: Literal["true", "udp-only", "false"] = "false"
    all_reg_options_ping: bool = False
    ping_mean_interval: int = 30
    ping_thread_frequency: int = 1
    sip_user_ping_max: int = 3
    sip_user_ping_min: int = 1
    unregister_on_options_fail: bool = False
    disable_rtp_auto_adjust: bool = False

    # ---- media and codecs

    inbound_codec_prefs: tuple[str, ...] = ("PCMU", "PCMA")
    "As written: `NAME[@rateh][@ptimei]`."
    outbound_codec_prefs: tuple[str, ...] = ("PCMU", "PCMA")
    inbound_codec_negotiation: Literal["generous", "greedy", "scrooge"] = "generous"
    inbound_late_negotiation: bool = False
    inbound_bypass_media: bool = False
    inbound_proxy_media: bool = False
    media_options: tuple[str, ...] = ()
    disable_transcoding: bool = False
    disable_hold: bool = False
    proxy_hold: bool = False
    hold_music: str = ""
    rtp_timer_name: str = ""
    rtp_timeout_sec: int = 0
    rtp_hold_timeout_sec: int = 0
    rtp_rewrite_timestamps: bool = False
    auto_jitterbuffer_msec: int = 0
    rtcp_audio_interval_msec: int = 0
    suppress_cng: bool = False
    cng_pt: int = 13
    t38_passthru: bool = False
    record_path: str = ""
    record_template: str = ""

    # ---- DTMF

    dtmf_type: Literal["rfc2833", "info", "none"] = "rfc2833"
    rfc2833_pt: int = 101
    dtmf_duration: int = 100
    "In timestamp units."
    rtp_digit_delay: int = 40
    liberal_dtmf: bool = False

    # ---- timers and limits

    timer_t1: int = 500
    "Milliseconds, as the three below."
    timer_t1x64: int = 32000
    timer_t2: int = 4000
    timer_t4: int = 5000
    enable_timer: bool = True
    session_timeout: int = 0
    minimum_session_expires: int = 0
    update_refresher: bool = False
    max_proceeding: int = 0
    "INVITEs that are not answered yet, then 503; 0: no limit."
    max_recv_requests_per_second: int = 1000
    "Of all together; 0: no limit."
    max_source_requests_per_second: int | None = None
    "Ours, as all below: of one address (an IPv6 /64). None: half of all; 0: no limit."
    max_source_auth_failures: int = 30
    "Wrong passwords a minute of one address; 0: no limit."
    auth_failure_penalty: int = 60
    "Seconds that an address is not heard after more than those."
    limits_exempt_acl: tuple[str, ...] = ()
    "Who is passed by all of these limits."
    max_transactions: int = 200_000
    "Of one worker, both ways; then new requests get 503."
    max_profile_sessions: int = 0
    "Legs of one worker; 0: only the switch's max-sessions counts."
    max_message_size: int = 65535
    max_header_fields: int = 256
    max_header_length: int = 8192
    max_uri_length: int = 2048
    "Of a Request-URI."
    max_uri_params: int = 64
    "Parameters and headers of a Request-URI."

    # ---- presence, subscriptions, messages

    manage_presence: Literal["true", "passive", "pnp", "false"] = "false"
    manage_shared_appearance: bool = False
    presence_hosts: str = ""
    presence_privacy: bool = False
    presence_hold_state: str = ""
    force_subscription_expires: int = 0
    force_publish_expires: int = 0
    sip_subscription_max_deviation: int = 0
    forward_unsolicited_mwi_notify: bool = False
    mwi_use_reg_callid: bool = False
    enable_chat: bool = True
    in_dialog_chat: bool = False
    fire_message_events: bool = False
    sip_messages_respond_200_ok: bool = False
    sip_subscribe_respond_200_ok: bool = False

    # ---- high availability and database

    track_calls: bool = False
    recovery_reinvite: Literal["auto", "always", "never"] | None = None
    "Ours. None: as ha.conf says."
    recovery_rate: int | None = None
    "Ours: re-INVITEs a second of a recovery. None: as ha.conf says."
    emergency_numbers: tuple[str, ...] | None = None
    "Ours: whose calls are recovered before others. None: as ha.conf says."
    odbc_dsn: str = field(default="", repr=False)
    dbname: str = ""
    watchdog_enabled: bool = False
    watchdog_step_timeout: int = 0
    "Milliseconds, 0: off."
    watchdog_event_timeout: int = 0
    "Milliseconds, 0: off."
    profile_standby: bool = False
    shutdown_on_fail: str = ""
    auto_restart: bool = True

    # ---- calls

    disable_transfer: bool = False
    manual_redirect: bool = False
    proxy_refer: bool = False
    confirm_blind_transfer: bool = False
    fire_transfer_events: bool = False
    enable_3pcc: Literal["", "true", "proxy"] = ""
    enable_100rel: bool = False
    allow_update: bool = True
    send_display_update: bool = True
    pass_callee_id: bool = True
    cid_in_1xx: bool = True
    caller_id_type: Literal["rpid", "pid", "none"] = "rpid"
    p_asserted_id_parse: Literal["default", "user-only", "user-domain", "verbatim"] = "default"
    ignore_183nosdp: bool = False
    auto_invite_100: bool = True
    full_id_in_dialplan: bool = False
    parse_all_invite_headers: bool = False
    extended_info_parsing: bool = False
    inbound_use_callid_as_uuid: bool = False
    outbound_use_uuid_as_callid: bool = False
    proxy_info: bool = False
    proxy_message: bool = False
    sip_options_respond_503_on_busy: bool = False

    # ---- debugging

    debug: int = 0
    sip_trace: bool = False
    sip_capture: bool = False

    @property
    def external_ip(self) -> str:
        """`ext-sip-ip` as an address; empty if there is none, or it is not known yet."""
        return self.ext_sip_address if is_form(self.ext_sip_ip) else self.ext_sip_ip

    @property
    def public_ip(self) -> str:
        """The address others should use: `ext-sip-ip`, else `sip-ip`."""
        return self.external_ip or self.sip_ip

    @property
    def public_port(self) -> int:
        return self.ext_sip_port or self.sip_port

    @property
    def public_rtp_ip(self) -> str:
        return (self.ext_rtp_address if is_form(self.ext_rtp_ip) else self.ext_rtp_ip) or self.rtp_ip

    @property
    def url(self) -> str:
        """`sip:mod_sofia@192.0.2.1:5060`, as `sofia status` prints it."""
        return f"sip:{self.contact_user}@{bracketed(self._named)}:{self.public_port}"

    @property
    def _named(self) -> str:
        """What the urls name: with `autonat:` the address inside."""
        return self.sip_ip if self.auto_nat else self.public_ip

    @property
    def bind_url(self) -> str:
        """The url that mod_sofia would bind: with `;maddr=` when a public address is set, and the transports."""
        parts = [self.url]
        if self.external_ip:
            parts.append(f"maddr={bracketed(self.sip_ip)}")
        if self.bind_params:
            parts.append(self.bind_params)
        if "transport=" not in self.bind_params:
            parts.append("transport=udp,tcp")
        return ";".join(parts)

    @property
    def tls_url(self) -> str:
        return f"sip:{self.contact_user}@{bracketed(self._named)}:{self.tls_sip_port}"

    @property
    def tls_bind_url(self) -> str:
        parts = [f"sips:{self.contact_user}@{bracketed(self._named)}:{self.tls_sip_port}"]
        if self.external_ip:
            parts.append(f"maddr={bracketed(self.sip_ip)}")
        if self.tls_bind_params:
            parts.append(self.tls_bind_params)
        if "transport=" not in self.tls_bind_params:
            parts.append("transport=tls")
        return ";".join(parts)

    def param(self, name: str, default: str = "") -> str:
        """A param as written, by its name in any case."""
        return self.params.get(name.lower(), default)


def is_form(address: str) -> bool:
    """Must somebody be asked what this stands for?"""
    return address.startswith(("stun:", "host:"))


def bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
