"""The limits of a profile, as the parser wants them."""

from __future__ import annotations

from node.config.profile import ProfileSettings
from node.sip.message import Limits


def limits_of(settings: ProfileSettings) -> Limits:
    """How much of a message is read."""
    return Limits(
        message=settings.max_message_size,
        fields=settings.max_header_fields,
        line=settings.max_header_length,
        uri=settings.max_uri_length,
        uri_params=settings.max_uri_params,
    )
