"""Tests of the admin, through its URLs."""
