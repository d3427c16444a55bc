"""Event streams of real workers, and the rows in which they must end.

Each JSON file is a stream: what it is ``about``, what it was ``recorded with``, its
``events`` in the order in which they happened, as they came over the wire but for
``local_received``, the time of arrival, and columns of the ``row`` that they make.
Times in the row are whole microseconds since the epoch; ``attempts`` are the times of
the retries. ``outcome`` and ``columns`` are what the row is made of.

``record`` records them, with the workers of ``project``; ``derive`` makes those that
only move clocks or leave events out, and says so in ``recorded with``; ``expected``
reads the row off the true order. Host names, paths and process ids are replaced.
"""
