"""Tests of the store in Redis, against real servers."""
