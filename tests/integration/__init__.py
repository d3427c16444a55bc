"""Tests with real processes, brokers, databases and browsers."""
