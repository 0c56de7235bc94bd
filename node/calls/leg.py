"""One side of a call: its dialog, its INVITE transaction, its media, and what FreeSWITCH calls a channel.

Pure state with the small questions about it; the call (`call.py`) is the only one that touches it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from node.calls import causes
from node.sip.dialog import Dialog
from node.sip.flow import Flow
from store.records import EarlyRecord, LegState, MediaRecord, PendingInvite, ReferralRecord, ReliableRecord

Direction = Literal["inbound", "outbound"]


class Early:
    """An early dialog of an INVITE of ours: one for each To tag that answered reliably (RFC 3261 12.1.2)."""

    __slots__ = ("complete", "dialog", "flow", "prack", "rseq", "transaction")

    def __init__(self, dialog: Dialog, rseq: int) -> None:
        self.dialog = dialog
        self.rseq = rseq
        "The last RSeq taken."
        self.flow: Flow | None = None
        "Where its requests go; None while that is not known, and nothing of it on record."
        self.complete = False
        "Offer and answer were exchanged in it."
        self.prack = b""
        "Our PRACK as sent, while it has no answer."
        self.transaction: Any = None

    def to_record(self) -> EarlyRecord:
        return EarlyRecord(
            dialog=self.dialog.to_record(),
            flow=self.flow.to_record() if self.flow is not None else None,
            rseq=self.rseq,
            complete=self.complete,
            prack=self.prack,
        )

    @classmethod
    def from_record(cls, record: EarlyRecord) -> Early:
        early = cls(Dialog.from_record(record.dialog), record.rseq)
        early.flow = Flow.from_record(record.flow) if record.flow is not None else None
        early.complete = record.complete
        early.prack = record.prack
        return early


class Leg:
    """One side of a call. Everything that must survive a failover is in `store.records.LegRecord` too."""

    __slots__ = (
        "answered",
        "asked",
        "awaits_ack",
        "beyond",
        "bridged_at",
        "callee_id_name",
        "callee_id_number",
        "caller_id_name",
        "caller_id_number",
        "cause",
        "context",
        "created",
        "credentials",
        "delayed",
        "destination",
        "dialog",
        "dialplan",
        "direction",
        "early",
        "early_sent",
        "flow",
        "gateway",
        "hold_accumulated",
        "hung_up",
        "invite_cseq",
        "keyring",
        "last_hold",
        "media",
        "name",
        "network_addr",
        "parting",
        "pending",
        "profile",
        "progress_media",
        "progressed",
        "proven",
        "referral",
        "refresh",
        "reliable",
        "repeat",
        "session_expires",
        "session_minimum",
        "session_refreshed",
        "session_refresher",
        "state",
        "taken_from",
        "transaction",
        "user_agent",
        "username",
        "uuid",
        "variables",
        "withheld",
    )

    def __init__(self, uuid: str, direction: Direction, profile: str, *, created: float) -> None:
        self.uuid = uuid
        self.direction = direction
        self.profile = profile
        self.state: LegState = "trying"
        self.flow: Flow | None = None
        self.dialog: Dialog | None = None
        self.pending: PendingInvite | None = None
        self.transaction: Any = None
        "The INVITE transaction of `pending`, server or client."
        self.asked: Any = None
        "Who hears what comes of an INVITE of ours, until the leg is over: a 2xx may come again."
        self.media: MediaRecord | None = None
        self.variables: dict[str, str] = {}
        self.name = ""
        self.username = ""
        self.caller_id_name = ""
        self.caller_id_number = ""
        self.callee_id_name = ""
        self.callee_id_number = ""
        self.destination = ""
        self.context = ""
        self.dialplan = "XML"
        self.network_addr = ""
        self.user_agent = ""
        self.gateway = ""
        self.created = created
        self.progressed = 0.0
        self.progress_media = 0.0
        self.answered = 0.0
        self.bridged_at = 0.0
        self.hung_up = 0.0
        self.last_hold = 0.0
        self.hold_accumulated = 0.0
        self.session_expires = 0
        self.session_refresher: Literal["", "us", "them"] = ""
        self.session_minimum = 0
        self.session_refreshed = 0.0
        self.reliable: ReliableRecord | None = None
        "Of a caller that knows 100rel: what it was told reliably."
        self.withheld: Callable[[], None] | None = None
        "Its 2xx, which waits for the PRACK of what was told before."
        self.early: list[Early] = []
        "Of a callee: its early dialogs with reliable responses."
        self.cause = ""
        "Why it ended."
        self.invite_cseq = 0
        "CSeq of the last INVITE we sent on it: what a 2xx again is acknowledged by."
        self.credentials: tuple[tuple[str, str], ...] = ()
        "The credentials of that INVITE: its ACK repeats them (RFC 3261 22.1)."
        self.keyring: Any = None
        "What it answers challenges with; made at the first one."
        self.awaits_ack = False
        "Its 2xx has no ACK of ours yet."
        self.delayed = False
        "Our last INVITE on it had no offer: our ACK holds the answer."
        self.early_sent = False
        "An SDP answer went out in a 183."
        self.referral: ReferralRecord | None = None
        "What its peer asked us by REFER."
        self.taken_from = ""
        "UUID of the call it was taken from by a transfer, while that one's record may still have it."
        self.parting: tuple[str, ...] = ()
        "Extension, dialplan and context that it is to go to in a call of its own."
        self.proven = ""
        "With `auth-all-packets`: the user whose secret its INVITE proved to know, as all its requests must."
        self.beyond: dict[str, Any] | None = None
        "What a newer release has written of it."
        self.repeat: Any = None
        "The alarm that sends our 2xx again, or our reliable provisional response."
        self.refresh: Any = None
        "The alarm of the session timer."

    # ---- questions -------------------------------------------------------------------------------------------------

    @property
    def live(self) -> bool:
        return self.state != "ended"

    @property
    def confirmed(self) -> bool:
        """Answered, and not over: its end is a BYE."""
        return self.state == "answered"

    @property
    def served(self) -> bool:
        """It has sent an INVITE that is not over."""
        return self.transaction is not None and self.pending is not None and self.pending.role == "server"

    @property
    def unheard(self) -> bool:
        """The 200 to its first INVITE is being written down, and has not left: it does not know that it is answered."""
        return self.served and not self.transaction.final and not self.transaction.request.to_tag

    @property
    def held(self) -> bool:
        """The peer has put us on hold."""
        return self.media is not None and self.media.held in ("remote", "both")

    @property
    def nat(self) -> bool:
        """Answer to where packets come from, whatever the Contact says."""
        return self.variables.get("sip_nat_detected") == "true"

    @property
    def offer(self) -> str:
        """The SDP the peer sent last."""
        return self.media.remote_sdp if self.media is not None else ""

    @property
    def callstate(self) -> str:
        """`callstate` of `show channels`."""
        if self.state == "ended":
            return "HANGUP"
        if self.state == "answered":
            return "HELD" if self.held else "ACTIVE"
        return {"trying": "DOWN", "ringing": "RINGING", "early": "EARLY"}[self.state]

    def is_true(self, name: str) -> bool:
        """Whether a variable is set to what FreeSWITCH takes for true."""
        return truth(self.variables.get(name, ""))

    def refusal(self, cause: str) -> tuple[int, str]:
        """Status and phrase that end an unanswered caller (mod_sofia: the status of the failed leg wins over the table)."""
        words = self.variables.get("respond_code", "").split(None, 1)
        if words and words[0].isdecimal():
            return int(words[0]), words[1] if len(words) > 1 else ""
        protocol, _, status = self.variables.get("last_bridge_proto_specific_hangup_cause", "").partition(":")
        if (
            protocol == "sip"
            and status.isdecimal()
            and int(status) >= 300
            and int(status) not in (401, 407)  # a challenge to us is none to the caller, who could not answer it
            and not self.is_true("sip_ignore_remote_cause")
        ):
            return int(status), ""
        return causes.to_status(cause), ""

    def reason(self, cause: str) -> list[tuple[str, str]]:
        """The Reason header that says why it ends."""
        if self.is_true("disable_q850_reason"):
            return []
        return [("Reason", self.variables.get("sip_reason") or causes.reason(cause))]

    def extra_headers(self, prefix: str) -> list[tuple[str, str]]:
        """The headers that variables like `sip_h_X-Name` ask for."""
        if not mentions(self.variables, prefix):
            return []
        size = len(prefix)
        return [(name[size:], value) for name, value in self.variables.items() if name.startswith(prefix)]


def mentions(variables: Mapping[str, str], part: str) -> bool:
    """Whether any name has this in it: one look at all of them, as next to no call has such a variable."""
    return part in "\n".join(variables)


def seconds(value: str) -> float:
    """A time that somebody wrote, e.g. `2.5`; 0 for what is none."""
    return float(value) if _SECONDS.fullmatch(value.strip()) else 0.0


_SECONDS = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)


def truth(value: str) -> bool:
    """`switch_true`."""
    value = value.lower()
    return value in ("true", "yes", "on", "enabled", "active", "allow", "t") or (value.isdecimal() and int(value) != 0)
