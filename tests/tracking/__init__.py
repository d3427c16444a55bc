"""Tests of the task tracker."""
