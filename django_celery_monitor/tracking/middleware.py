"""Middleware that tells the tracker which request sends a task."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from .provenance import of_request


class ProvenanceMiddleware:
    """Has each tracked task know the request that sent it: its path and its user."""

    async_capable = True
    sync_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        """Wrap ``get_response``, synchronous or not."""
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(
        self, request: HttpRequest
    ) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Return the response."""
        if self.is_async:
            return self._answer(request)
        with of_request(request):
            response: HttpResponseBase = self.get_response(request)
        return response

    async def _answer(self, request: HttpRequest) -> HttpResponseBase:
        with of_request(request):
            response: HttpResponseBase = await self.get_response(request)
        return response
