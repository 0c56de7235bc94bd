"""A running node whose store is taken away under load."""
