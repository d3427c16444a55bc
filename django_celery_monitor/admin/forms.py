"""The forms of actions that need to know more than which rows they are for."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.contrib.admin.widgets import AdminIntegerFieldWidget, AdminTextInputWidget
from django.core.validators import RegexValidator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _


class RateLimitForm(forms.Form):
    """The rate limit of tasks, as Celery's ``task.rate_limit`` takes it."""

    rate_limit = forms.CharField(
        label=_("Rate limit"),
        max_length=20,
        help_text=_(
            "Tasks per second, minute or hour for each worker: 5/s, 10/m or 100/h."
            " A number alone is per second, 0 means no limit."
        ),
        widget=AdminTextInputWidget(attrs={"autocomplete": "off"}),
        validators=[
            RegexValidator(
                r"^\d+(\.\d+)?(/[smh])?\Z",
                _("Enter a number, alone or with /s, /m or /h after it: 10/m."),
                flags=re.ASCII,
            )
        ],
    )


class TimeLimitForm(forms.Form):
    """The time limits of tasks in seconds, as ``task.soft_time_limit`` takes them."""

    #: Seconds: a year, which timers of the operating system can hold.
    LONGEST = 366 * 24 * 60 * 60

    soft = forms.FloatField(
        label=_("Soft limit"),
        required=False,
        min_value=1,
        max_value=LONGEST,
        help_text=_(
            "Seconds after which SoftTimeLimitExceeded is raised within the task,"
            " which may clean up. Empty for none."
        ),
    )
    hard = forms.FloatField(
        label=_("Hard limit"),
        required=False,
        min_value=1,
        max_value=LONGEST,
        help_text=_(
            "Seconds after which the process of the task is killed. Empty for none;"
            " both empty lift the limits."
        ),
    )

    def clean(self) -> dict[str, Any]:
        """Refuse a soft limit that would never be reached."""
        entered = super().clean() or {}
        soft, hard = entered.get("soft"), entered.get("hard")
        if soft is not None and hard is not None and soft >= hard:
            text = gettext("The soft limit has to be lower than the hard one.")
            self.add_error("soft", text)
        return entered


class PoolForm(forms.Form):
    """By how many processes or threads a pool grows or shrinks."""

    n = forms.IntegerField(
        label=_("Number"),
        initial=1,
        min_value=1,
        max_value=100,
        help_text=_("Processes, or threads, of the pool of each worker."),
        widget=AdminIntegerFieldWidget,
    )


class QueueForm(forms.Form):
    """The name of a queue."""

    queue = forms.CharField(
        label=_("Queue"),
        max_length=255,
        widget=AdminTextInputWidget(attrs={"autocomplete": "off"}),
        validators=[
            RegexValidator(r"^[^\x00-\x1f\x7f]+\Z", _("Enter a name without breaks."))
        ],
    )
