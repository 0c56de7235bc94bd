"""What operators have turned on and off in the workers: heard by each worker that takes a slot, whenever it is born."""

from __future__ import annotations

Order = tuple[str, list[str]]
"A verb of the workers, and its words."

REMEMBERED = frozenset(("siptrace", "capture", "standby", "loglevel", "tracelevel", "debug"))
"Verbs that set a state; the others do something once."
OF_PROFILES = frozenset(("siptrace", "capture", "standby"))
"Of these the words are `on` or `off`, and a profile; without one all are meant."


class Switches:
    """The last word on each subject, in the order of saying."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, str], list[str]] = {}

    def note(self, verb: str, words: list[str]) -> None:
        """An order went out to all workers; one that is about everything makes the ones before it void."""
        if verb not in REMEMBERED or not words:
            return
        subject = words[1] if verb in OF_PROFILES and words[1:] else words[0] if verb == "loglevel" else ""
        if subject in ("", "all"):
            self._said = {key: said for key, said in self._said.items() if key[0] != verb}
        self._said.pop((verb, subject), None)
        self._said[verb, subject] = list(words)

    def forget(self, profile: str) -> None:
        """The profile is stopped: when it starts again it is traced and captured as its settings say."""
        self._said.pop(("siptrace", profile), None)
        self._said.pop(("capture", profile), None)

    def orders(self) -> list[Order]:
        """What brings a new worker to this state."""
        return [(verb, list(words)) for (verb, _subject), words in self._said.items()]
