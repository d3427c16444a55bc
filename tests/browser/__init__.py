"""The admin of the demo's shop, in a real Chromium."""
