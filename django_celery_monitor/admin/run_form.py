"""The form that shows what a task was called with, and takes what it is to be."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.admin.widgets import AdminTextareaWidget
from django.core.exceptions import ValidationError
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from .calls import STARS, Arguments, Call, read
from .forms import QueueForm
from .literals import LONGEST


class CallForm(forms.Form):
    """The arguments of a call to send, at first those that are known."""

    args = forms.CharField(
        label=_("Arguments"),
        widget=AdminTextareaWidget({"rows": 3}),
    )
    kwargs = forms.CharField(
        label=_("Keyword arguments"),
        widget=AdminTextareaWidget({"rows": 3}),
    )

    def __init__(self, call: Call, entered: Any = None, **initial: Any) -> None:
        self.call = call
        super().__init__(
            entered,
            initial={
                "args": "" if call.args.problem else call.args.text,
                "kwargs": "" if call.kwargs.problem else call.kwargs.text,
                **initial,
            },
        )
        self._help("args", call.args, gettext("A list or a tuple: (1, 'two')."))
        self._help("kwargs", call.kwargs, gettext("A dictionary: {'key': 'value'}."))

    def _help(self, name: str, known: Arguments, example: str) -> None:
        """Say what to enter, and what is known where that is not all."""
        help_text = format_html(
            "{} {}", example, gettext("As Python or JSON writes plain values.")
        )
        if known.problem:
            why = gettext("Not known in full: %(why)s.") % {"why": known.problem}
            help_text = format_html("{} {}", help_text, why)
        if known.problem and known.text:
            help_text = format_html(
                '{}<pre class="celery-monitor-text">{}</pre>',
                help_text,
                Truncator(known.text).chars(LONGEST),
            )
        self.fields[name].help_text = help_text

    def clean_args(self) -> Any:
        """Return the arguments themselves."""
        return self._read("args", self.call.args, (list, tuple))

    def clean_kwargs(self) -> Any:
        """Return the keyword arguments themselves."""
        return self._read("kwargs", self.call.kwargs, (dict,))

    def _read(self, name: str, known: Arguments, types: tuple[type, ...]) -> Any:
        text = self.cleaned_data[name].replace("\r\n", "\n")
        if not known.problem and text == known.text.strip():
            # The text may have masks where the value has secrets.
            return known.value
        if STARS in text:
            raise ValidationError(gettext("Enter what is masked."))
        try:
            return read(text, types)
        except ValueError as exc:
            why = gettext("These arguments cannot be used: %(why)s.")
            raise ValidationError(why % {"why": exc}) from exc


class RunForm(CallForm, QueueForm):
    """A call to send and where to, at first the one that a task was."""

    field_order = ("args", "kwargs", "queue")

    def __init__(self, call: Call, queue: str | None, entered: Any = None) -> None:
        super().__init__(call, entered, queue=queue)
        self.fields["queue"].required = False
        self.fields["queue"].help_text = gettext(
            "Empty for where the project's routes lead."
        )
