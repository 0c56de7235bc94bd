"""How far a database has come, and bringing it as far as this release goes; see `store.sql.schema`.

Nodes of two releases may share a database. The newer one makes its steps, and writes beside each how old a release may
be that goes on all the same; the older one, when it connects anew, finds more steps than it knows, and goes by that.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from store.errors import SchemaTooNew, StoreError
from store.sql import schema
from store.sql.batch import Session

log = logging.getLogger(__name__)

TABLE = "sofia_schema"


class Tables:
    """Those of one database, over a session that is connected."""

    def __init__(self, session: Session, said: set[int]) -> None:
        """`said`: newer versions that were spoken of already. Who connects again after each failure shares one."""
        self._session = session
        self._dialect = session.dialect
        self._said = said

    @property
    def wanted(self) -> int:
        """The version that this release makes."""
        return len(self._dialect.steps)

    def version(self) -> int:
        """0: there is nothing yet. Raises `SchemaTooNew` if a newer release has left us behind."""
        if not self._exist():
            return 0
        version = int(self._session.query(schema.READ_VERSION)[0][0] or 0)
        if version > self.wanted:
            self._judge(version, self._compatible_from())
        return version

    def missing(self, version: int) -> Iterator[str]:
        """The statements that would bring it here from this version."""
        if account := self._account():
            yield account
        for step in self._dialect.steps[version:]:
            yield from map(self._filled, step.statements)

    def bring(self) -> None:
        """To the version of this release, unless it is there or beyond by now."""
        self._session.begin_schema()
        try:
            # Read again under the lock: the other node may have done it meanwhile.
            version = self.version()
            if version < self.wanted:
                self._bring(version)
            self._session.commit()
        except BaseException:
            self._session.rollback()
            raise

    # ---- below -------------------------------------------------------------------------------------------------------

    def _bring(self, version: int) -> None:
        session, dialect = self._session, self._dialect
        if version == 0 and dialect.foreign and session.query(dialect.foreign)[0][0]:
            raise StoreError(f"{session.place}: the table sip_registrations already exists, another program's")
        if account := self._account():
            session.change(account)
        for number, step in enumerate(dialect.steps[version:], version + 1):
            for statement in step.statements:
                session.change(self._filled(statement))
            session.change(schema.WRITE_VERSION, (number, step.compatible_from))

    def _account(self) -> str:
        """The statement that makes the table of steps fit for the next one; nothing where it is."""
        if not self._exist():
            return self._filled(schema.CREATE_VERSIONS)
        return "" if self._say() else self._filled(schema.ADD_COMPATIBLE_FROM)

    def _judge(self, version: int, compatible_from: int | None) -> None:
        """May this release go on with tables of a newer one? Says so once."""
        place = self._session.place
        known = f"its tables have version {version}, this release knows {self.wanted}"
        if compatible_from is None:
            raise SchemaTooNew(f"{place}: {known}")
        if compatible_from > self.wanted:
            raise SchemaTooNew(f"{place}: {known}, and they take releases from version {compatible_from} on only")
        if version not in self._said:
            self._said.add(version)
            log.warning("%s: %s and goes on, for they take releases from version %d on", place, known, compatible_from)

    def _compatible_from(self) -> int | None:
        """The oldest version that all the steps beyond ours take; None if one of them does not say."""
        if not self._say():
            return None
        steps, that_say, oldest = self._session.query(schema.READ_COMPATIBLE_FROM, (self.wanted,))[0]
        return int(oldest) if steps and steps == that_say else None

    def _exist(self) -> bool:
        return bool(self._session.query(self._dialect.has_table, (TABLE,))[0][0])

    def _say(self) -> bool:
        """Is there a column for it?"""
        return bool(self._session.query(self._dialect.has_column, (TABLE, "compatible_from"))[0][0])

    def _filled(self, statement: str) -> str:
        return statement.format_map(self._dialect.types)
