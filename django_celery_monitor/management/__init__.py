"""What the monitor adds to ``manage.py``."""
