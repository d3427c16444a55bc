"""The Content-Security-Policy for a Django that has no middleware for it."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from tests.browser.settings import POLICY


def content_security_policy(
    get_response: Callable[[HttpRequest], HttpResponse],
) -> Callable[[HttpRequest], HttpResponse]:
    """Send the policy with each page."""
    header = "; ".join(" ".join([name, *values]) for name, values in POLICY.items())

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        response.headers["Content-Security-Policy"] = header
        return response

    return middleware
