"""The forms of actions that need to know more than which rows they are for."""

from __future__ import annotations

import re

from django import forms
from django.contrib.admin.widgets import AdminTextInputWidget
from django.core.validators import RegexValidator
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
