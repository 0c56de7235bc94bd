"""The tables, as numbered steps: each database remembers in `sofia_schema` how far it has come.

A step is never changed once released; what comes later is a new step. It says how old a release may be that goes on with
the tables after it, and so does the database then: nodes of two releases share one. The types in braces are the dialect's.
`sip_registrations` and `recovery` have mod_sofia's columns under mod_sofia's names, so that an operator's queries go on
working; the record itself is the blob. Of indexes there are only those that a question of ours needs.
"""

from __future__ import annotations

from typing import NamedTuple


class Step(NamedTuple):
    """What brings a database from one version to the next."""

    statements: tuple[str, ...]
    compatible_from: int
    """The oldest version whose releases read what is written after this step, and write what can be read.

    A column that may be NULL or has a default, a table that only who knows it needs, an index: the version before. What an
    older release would have to write too, or would misread: the step's own number, and all nodes are upgraded at once.
    """


FIRST = (
    """
    CREATE TABLE sip_registrations (
        call_id {text}, sip_user {text} NOT NULL, sip_host {text} NOT NULL, presence_hosts {text},
        contact {longtext} NOT NULL, status {text}, ping_status {text}, ping_count {integer}, ping_time {bigint},
        force_ping {integer}, rpid {text}, expires {bigint}, ping_expires {bigint} NOT NULL DEFAULT 0,
        user_agent {text}, server_user {text}, server_host {text}, profile_name {text} NOT NULL, hostname {text},
        network_ip {text}, network_port {text}, sip_username {text}, sip_realm {text}, mwi_user {text},
        mwi_host {text}, orig_server_host {text}, orig_hostname {text}, sub_host {text},
        slot {text} NOT NULL, epoch {bigint} NOT NULL, version {bigint} NOT NULL, record {blob} NOT NULL
    )
    """,
    "CREATE UNIQUE INDEX sip_registrations_key ON sip_registrations (sip_user, sip_host, profile_name, contact)",
    """
    CREATE TABLE recovery (
        runtime_uuid {text}, technology {text}, profile_name {text}, hostname {text}, uuid {text} NOT NULL PRIMARY KEY,
        slot {text} NOT NULL, epoch {bigint} NOT NULL, version {bigint} NOT NULL, state {text} NOT NULL,
        expires {double} NOT NULL, call_ids {longtext}, metadata {longtext}, record {blob} NOT NULL
    )
    """,
    "CREATE INDEX recovery_owner ON recovery (slot, epoch)",
    "CREATE TABLE sofia_call_ids (uuid {text} NOT NULL, call_id {text} NOT NULL, PRIMARY KEY (uuid, call_id)){clustered}",
    "CREATE INDEX sofia_call_ids_call_id ON sofia_call_ids (call_id)",
    "CREATE TABLE sofia_fences (slot {text} NOT NULL PRIMARY KEY, epoch {bigint} NOT NULL)",
    # The row `#` counts the epochs; a slot is never named so.
    "INSERT INTO sofia_fences (slot, epoch) VALUES ('#', 0)",
    """
    CREATE TABLE sofia_lease (
        name {text} NOT NULL PRIMARY KEY, holder {text} NOT NULL, epoch {bigint} NOT NULL, until {double} NOT NULL
    )
    """,
    "INSERT INTO sofia_lease (name, holder, epoch, until) VALUES ('active', '', 0, 0)",
    "CREATE TABLE sofia_secrets (name {text} NOT NULL PRIMARY KEY, secret {blob} NOT NULL)",
)

# On a server what changes with each refresh stands at the end of the row and under no index: a write then costs log for
# what lies between the first and the last byte that changed, and no more. A long key is found by its digest.
SERVER_FIRST = (
    """
    CREATE {table} sip_registrations (
        binding {digest} NOT NULL PRIMARY KEY, call_id {longtext}, sip_user {longtext} NOT NULL,
        sip_host {longtext} NOT NULL, presence_hosts {longtext}, contact {longtext} NOT NULL, status {longtext},
        ping_status {longtext}, ping_count {integer}, ping_time {bigint}, force_ping {integer}, rpid {longtext},
        ping_expires {bigint} NOT NULL DEFAULT 0, user_agent {longtext}, server_user {longtext}, server_host {longtext},
        profile_name {longtext} NOT NULL, hostname {longtext}, network_ip {longtext}, network_port {longtext},
        sip_username {longtext}, sip_realm {longtext}, mwi_user {longtext}, mwi_host {longtext},
        orig_server_host {longtext}, orig_hostname {longtext}, sub_host {longtext}, likeness {bigint} NOT NULL,
        slot {text} NOT NULL, epoch {bigint} NOT NULL, expires {bigint}, version {bigint} NOT NULL, record {blob} NOT NULL{user_key}
    ){often_changed}
    """,
    """
    CREATE {table} recovery (
        runtime_uuid {longtext}, technology {longtext}, profile_name {longtext}, hostname {longtext},
        uuid {text} NOT NULL PRIMARY KEY, slot {text} NOT NULL, epoch {bigint} NOT NULL, version {bigint} NOT NULL,
        state {text} NOT NULL, expires {double} NOT NULL, call_ids {longtext}, metadata {longtext}, record {blob} NOT NULL{owner_key}
    ){often_changed}
    """,
    """
    CREATE {table} sofia_call_ids (
        uuid {text} NOT NULL, call_id {digest} NOT NULL, PRIMARY KEY (uuid, call_id){call_id_key}
    ){plain}
    """,
    "CREATE {table} sofia_fences (slot {text} NOT NULL PRIMARY KEY, epoch {bigint} NOT NULL){plain}",
    "{add} sofia_fences (slot, epoch) VALUES ('#', 0)",
    """
    CREATE {table} sofia_lease (
        name {text} NOT NULL PRIMARY KEY, holder {text} NOT NULL, epoch {bigint} NOT NULL, until {double} NOT NULL
    ){plain}
    """,
    "{add} sofia_lease (name, holder, epoch, until) VALUES ('active', '', 0, 0)",
    "CREATE {table} sofia_secrets (name {text} NOT NULL PRIMARY KEY, secret {blob} NOT NULL){plain}",
)

SERVER_KEYS = (
    "CREATE INDEX sip_registrations_user ON sip_registrations (sip_user, sip_host)",
    "CREATE INDEX recovery_owner ON recovery (slot, epoch)",
    "CREATE INDEX sofia_call_ids_call_id ON sofia_call_ids (call_id)",
)
"For who cannot name them with the table."

# What has become of registrations: see `store.sql.feed`.
FEED = (
    """
    CREATE {table} sofia_feed (
        writer {text} NOT NULL, number {bigint} NOT NULL, moment {double} NOT NULL, changed {blob} NOT NULL,
        PRIMARY KEY (writer, number)
    ){plain}
    """,
    """
    CREATE {table} sofia_feed_heads (
        writer {text} NOT NULL PRIMARY KEY, number {bigint} NOT NULL, moment {double} NOT NULL
    ){often_changed}
    """,
    "{add} sofia_feed_heads (writer, number, moment) VALUES ('#', 0, 0)",
    "{add} sofia_fences (slot, epoch) VALUES ('#followed', 0)",
)

# Who follows the account of changes would miss those of a writer that does not keep it.
FILE_STEPS: tuple[Step, ...] = (Step(FIRST, 1), Step(FEED, 2))
POSTGRESQL_STEPS: tuple[Step, ...] = (Step((*SERVER_FIRST, *SERVER_KEYS), 1), Step(FEED, 2))
MARIADB_STEPS: tuple[Step, ...] = (Step(SERVER_FIRST, 1), Step(FEED, 2))
"Step number n brings a database from version n to n + 1."

CREATE_VERSIONS = "CREATE TABLE sofia_schema (version {bigint} NOT NULL, compatible_from {bigint})"
ADD_COMPATIBLE_FROM = "ALTER TABLE sofia_schema ADD COLUMN compatible_from {bigint}"
"Where version 2 was made by a release that did not record it yet."
READ_VERSION = "SELECT max(version) FROM sofia_schema"
READ_COMPATIBLE_FROM = (
    "SELECT count(*), count(compatible_from), max(compatible_from) FROM sofia_schema WHERE version > ?"
)
WRITE_VERSION = "INSERT INTO sofia_schema (version, compatible_from) VALUES (?, ?)"
