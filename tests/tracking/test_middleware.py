"""The middleware serves as well with requests that are answered on an event loop."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from django_celery_monitor.tracking import provenance
from django_celery_monitor.tracking.middleware import ProvenanceMiddleware


def test_synchronous(rf: RequestFactory) -> None:
    def answer(request: HttpRequest) -> HttpResponse:
        assert provenance._request.get() is request
        return HttpResponse("done")

    response = ProvenanceMiddleware(answer)(rf.get("/"))
    assert isinstance(response, HttpResponse)
    assert response.content == b"done"
    assert provenance._request.get() is None


def test_asynchronous(rf: RequestFactory) -> None:
    async def answer(request: HttpRequest) -> HttpResponse:
        await asyncio.sleep(0)
        assert provenance._request.get() is request
        return HttpResponse(request.path)

    middleware = ProvenanceMiddleware(answer)
    assert asyncio.iscoroutinefunction(middleware)

    async def main() -> list[Any]:
        requests = [rf.get(f"/{number}/") for number in range(3)]
        answers: list[Any] = [middleware(request) for request in requests]
        return list(await asyncio.gather(*answers))

    responses = asyncio.run(main())
    assert [response.content for response in responses] == [
        b"/0/",
        b"/1/",
        b"/2/",
    ]


def test_request_is_over_when_the_view_fails(rf: RequestFactory) -> None:
    def answer(request: HttpRequest) -> HttpResponse:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        ProvenanceMiddleware(answer)(rf.get("/"))
    assert provenance._request.get() is None
