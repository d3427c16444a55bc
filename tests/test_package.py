"""The package as a whole: its version, in each of its forms."""

import django_celery_monitor


def test_version_info_has_five_fields() -> None:
    assert django_celery_monitor.version_info._fields == (
        "major",
        "minor",
        "micro",
        "releaselevel",
        "serial",
    )


def test_every_form_of_the_version_is_the_same() -> None:
    major, minor, micro, releaselevel, serial = django_celery_monitor.version_info
    suffix = "" if releaselevel == "final" else f".{releaselevel}{serial}"
    version = f"{major}.{minor}.{micro}{suffix}"
    assert django_celery_monitor.__version__ == version
    assert django_celery_monitor.version_info == django_celery_monitor.VERSION
