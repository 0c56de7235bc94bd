"""The api commands, one file a family: `sofia_*` (mod_sofia's), `show`, `channel`, `core`."""
