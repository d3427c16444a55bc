"""The translations: complete, true to the source, compiled, and in use."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import polib
import pytest
from django.test import Client
from django.utils import translation
from django.utils.translation.template import templatize

import django_celery_monitor
from django_celery_monitor.humanize import pluralize_day, pluralize_month
from tests.factories import TaskStateFactory, UserFactory

PACKAGE = Path(django_celery_monitor.__file__).parent
CATALOGS = sorted(PACKAGE.glob("locale/*/LC_MESSAGES/django.po"))

#: The functions that mark a text: a plural and a context are one text more each.
MARKER = re.compile(r"_|(n?)(p?)gettext(?:_lazy|_noop)?")
STRING = r"""u?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
TEMPLATE_CALL = re.compile(rf"\b(?:_|n?p?gettext)\({STRING}(?:, ?{STRING})*")
PLACEHOLDER = re.compile(r"%(?:\(\w+\))?[#0+-]*[\d.]*[a-zA-Z]|\{\w*\}")

#: Context, text and plural, without those that it has not.
Text = tuple[str, ...]


def marked(code: str) -> Iterator[Text]:
    """Yield the texts that Python code marks for translation."""
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if marker := MARKER.fullmatch(name):
            count = 1 + len("".join(group or "" for group in marker.groups()))
            yield tuple(ast.literal_eval(text) for text in node.args[:count])


def source_texts() -> set[Text]:
    """Return every text that the package marks for translation."""
    code = [path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")]
    for path in PACKAGE.rglob("*.html"):
        calls = TEMPLATE_CALL.findall(templatize(path.read_text(encoding="utf-8")))
        code += [f"{call})" for call in calls]
    return {text for part in code for text in marked(part)}


def key(entry: polib.POEntry | polib.MOEntry) -> Text:
    """Return the text that ``entry`` translates."""
    parts = (entry.msgctxt, entry.msgid, entry.msgid_plural)
    return tuple(part for part in parts if part)


def translations(entry: polib.POEntry | polib.MOEntry) -> list[str]:
    """Return the translation, or the one of each plural form."""
    if entry.msgid_plural:
        return [entry.msgstr_plural[n] for n in sorted(entry.msgstr_plural)]
    return [entry.msgstr]


@pytest.fixture(params=CATALOGS, ids=lambda path: path.parts[-3])
def path(request: pytest.FixtureRequest) -> Path:
    """Return the path of the catalog of a language that ships."""
    catalog: Path = request.param
    return catalog


@pytest.fixture
def catalog(path: Path) -> polib.POFile:
    """Return the catalog of a language that ships."""
    return polib.pofile(str(path))


def test_a_catalog_has_the_texts_of_the_source_and_no_other(
    catalog: polib.POFile,
) -> None:
    assert {key(entry) for entry in catalog} == source_texts()


def test_every_text_is_translated(catalog: polib.POFile) -> None:
    forms = re.search(r"nplurals=(\d+)", catalog.metadata["Plural-Forms"])
    assert forms
    for entry in catalog:
        expected = int(forms[1]) if entry.msgid_plural else 1
        assert len(translations(entry)) == expected, entry.msgid
        assert all(translations(entry)), entry.msgid


def test_no_translation_is_a_guess(catalog: polib.POFile) -> None:
    assert not catalog.metadata_is_fuzzy
    assert [entry.msgid for entry in catalog if entry.fuzzy] == []


def test_placeholders_are_those_of_the_source(catalog: polib.POFile) -> None:
    for entry in catalog:
        expected = set(PLACEHOLDER.findall(entry.msgid_plural or entry.msgid))
        for text in (entry.msgid, *translations(entry)):
            assert set(PLACEHOLDER.findall(text)) == expected, entry.msgid


def test_what_is_compiled_is_the_catalog(path: Path, catalog: polib.POFile) -> None:
    compiled = polib.mofile(str(path.with_suffix(".mo")))
    assert compiled.metadata["Plural-Forms"] == catalog.metadata["Plural-Forms"]
    assert {key(entry): translations(entry) for entry in compiled} == {
        key(entry): translations(entry) for entry in catalog
    }


@pytest.mark.django_db
def test_the_pages_speak_the_language(client: Client, path: Path) -> None:
    language = translation.to_language(path.parts[-3])
    client.force_login(UserFactory.create(is_staff=True, is_superuser=True))
    task = TaskStateFactory.create()
    titles = {"": "Tasks", f"{task.pk}/change/": "Task detail"}
    titles[f"{task.pk}/run/"] = "Run again"
    for page, title in titles.items():
        url = f"/admin/celery_monitor/taskstate/{page}"
        response = client.get(url, headers={"accept-language": language})
        with translation.override(language):
            translated = translation.gettext(title)
        assert f"<h1>{translated}</h1>" in response.content.decode()


class TestGerman:
    @pytest.fixture
    def german(self, client: Client) -> Iterator[Client]:
        """Return the client of a superuser whose browser asks for German."""
        client.force_login(UserFactory.create(is_staff=True, is_superuser=True))
        client.defaults["HTTP_ACCEPT_LANGUAGE"] = "de"
        yield client
        # The language of a request stays active in the thread.
        translation.deactivate()

    @pytest.mark.django_db
    def test_tasks(self, german: Client) -> None:
        task = TaskStateFactory.create(name=None)
        html = german.get("/admin/celery_monitor/taskstate/").content.decode()
        assert '<html lang="de"' in html
        for text in ("Status", "Laufzeit", "unbekannt", "gerade eben"):
            assert text in html
        assert ">Ausgewählte Tasks beenden (SIGTERM)</option>" in html
        page = german.get(f"/admin/celery_monitor/taskstate/{task.pk}/change/")
        assert "<h1>Task-Details</h1>" in page.content.decode()

    @pytest.mark.django_db
    def test_workers(self, german: Client) -> None:
        TaskStateFactory.create()
        html = german.get("/admin/celery_monitor/workerstate/").content.decode()
        assert ">Ausgewählte Worker herunterfahren</option>" in html
        assert ">Letzter Heartbeat<" in html

    @pytest.mark.django_db
    def test_confirmation(self, german: Client) -> None:
        tasks = TaskStateFactory.create_batch(2)
        page = german.post(
            "/admin/celery_monitor/taskstate/",
            {
                "action": "revoke_tasks",
                "_selected_action": [task.pk for task in tasks],
                "index": "0",
            },
        ).content.decode()
        assert "<h1>Tasks widerrufen</h1>" in page
        assert "<h2>2 Tasks</h2>" in page

    @pytest.mark.parametrize(
        ("n", "days", "months"),
        [
            (0, "vor 0 Tagen", "vor 0 Monaten"),
            (1, "vor 1 Tag", "vor 1 Monat"),
            (2, "vor 2 Tagen", "vor 2 Monaten"),
        ],
    )
    def test_plural_forms(self, n: int, days: str, months: str) -> None:
        with translation.override("de"):
            assert pluralize_day(n) == days
            assert pluralize_month(n) == months
