"""A file-system broker that lets no reader see half a message."""

import uuid
from pathlib import Path
from time import time_ns
from typing import Any

from kombu.transport import filesystem
from kombu.utils.json import dumps


class Channel(filesystem.Channel):
    """Kombu's channel, except that a message gets its name once it is complete.

    Kombu's own opens the file under its final name and then writes; a reader that
    comes in between takes an empty message, which ends a worker or a camera.
    """

    def _put(self, queue: str, payload: Any, **_: Any) -> None:  # type: ignore[override]
        """Write ``payload`` as the newest message of ``queue``."""
        folder = Path(self.data_folder_out)
        name = f"{time_ns():020}_{uuid.uuid4()}"
        draft = folder / f"{name}.draft"
        draft.write_text(dumps(payload))
        draft.replace(folder / f"{name}.{queue}.msg")


class Transport(filesystem.Transport):
    """The transport to name in the setting ``broker_transport``."""

    Channel = Channel
