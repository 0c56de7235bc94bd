"""The configuration: a FreeSWITCH-shaped tree of XML, read into typed, frozen sections.

Reading order: complaints, preprocess, document, values, profile, sections, then the readers, and load last.
"""

from node.config.complaints import Complaint, ConfigurationError
from node.config.identity import Identity
from node.config.load import check, load
from node.config.profile import ProfileSettings
from node.config.sections import Configuration, EventSocketSettings, GlobalSettings, HaSection, SwitchSettings

__all__ = [
    "Complaint",
    "Configuration",
    "ConfigurationError",
    "EventSocketSettings",
    "GlobalSettings",
    "HaSection",
    "Identity",
    "ProfileSettings",
    "SwitchSettings",
    "check",
    "load",
]
