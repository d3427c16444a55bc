"""The filters beside the lists."""

from __future__ import annotations

from typing import Any

from django.contrib.admin import AllValuesFieldListFilter
from django.utils.safestring import SafeString
from django.utils.translation import gettext


class NameFilter(AllValuesFieldListFilter):
    """The names of tasks, with the tasks whose name is unknown."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.empty_value_display = SafeString(gettext("unknown"))
