"""The task tracker in the admin."""
