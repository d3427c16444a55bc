"""Django settings of the demo's shop, under a strict Content-Security-Policy.

Environment: what ``example/README.rst`` names.
"""

from importlib.util import find_spec

from shop.settings import *  # noqa: F403
from shop.settings import MIDDLEWARE

#: Nothing may come from elsewhere, or stand in the page itself.
POLICY = {"default-src": ["'self'"]}

if find_spec("django.middleware.csp"):
    SECURE_CSP = POLICY
    MIDDLEWARE = ["django.middleware.csp.ContentSecurityPolicyMiddleware", *MIDDLEWARE]
else:
    MIDDLEWARE = ["tests.browser.policy.content_security_policy", *MIDDLEWARE]

# Nobody wants to wait.
CELERY_MONITOR_REFRESH_INTERVAL = 1
