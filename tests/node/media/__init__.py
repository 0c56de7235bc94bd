"""The media process with real sockets, and the pure parts beside it."""
