"""Stores and nodes in containers: the shipped image, and what can befall a host by the engine's own means."""
