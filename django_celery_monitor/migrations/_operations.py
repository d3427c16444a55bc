"""Operations that spare a large table what Django's own would cost it."""

from __future__ import annotations

from typing import Any, cast

from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import ProjectState


class WidenColumns(migrations.SeparateDatabaseAndState):
    """Widen ids, task ids and names with one rewrite of each table at most.

    Django alters one column at a time, and each alteration of an id copies the
    table again. SQLite needs nothing: its integers have 64 bits, its texts no
    length. Backwards nothing is done: what was narrow fits into what is wide.
    """

    SQL = {
        "postgresql": (
            "ALTER TABLE {worker} ALTER COLUMN {id} TYPE bigint",
            "ALTER SEQUENCE IF EXISTS {worker_sequence} AS bigint",
            "ALTER TABLE {task} ALTER COLUMN {id} TYPE bigint,"
            " ALTER COLUMN {worker_id} TYPE bigint,"
            " ALTER COLUMN {task_id} TYPE varchar(255),"
            " ALTER COLUMN {name} TYPE varchar(255)",
            "ALTER SEQUENCE IF EXISTS {task_sequence} AS bigint",
        ),
        "mysql": (
            # The two sides of a foreign key cannot differ in type meanwhile.
            "ALTER TABLE {task} DROP FOREIGN KEY {foreign_key}",
            "ALTER TABLE {worker} MODIFY {id} bigint NOT NULL AUTO_INCREMENT",
            # The columns to come would make a row too large for older formats.
            "ALTER TABLE {task} ROW_FORMAT={row_format},"
            " MODIFY {id} bigint NOT NULL AUTO_INCREMENT,"
            " MODIFY {worker_id} bigint NULL,"
            " MODIFY {task_id} varchar(255) NOT NULL,"
            " MODIFY {name} varchar(255) NULL,"
            " ADD CONSTRAINT {foreign_key} FOREIGN KEY ({worker_id})"
            " REFERENCES {worker} ({id})",
        ),
        "sqlite": (),
    }

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Run the statements of the database at hand."""
        connection = schema_editor.connection
        task = from_state.apps.get_model(app_label, "taskstate")
        if not self.allow_migrate_model(connection.alias, task):
            return
        worker = from_state.apps.get_model(app_label, "workerstate")
        columns = {name: name for name in ("id", "worker_id", "task_id", "name")}
        names = columns | {
            "task": task._meta.db_table,
            "worker": worker._meta.db_table,
            "task_sequence": f"{task._meta.db_table}_id_seq",
            "worker_sequence": f"{worker._meta.db_table}_id_seq",
            "foreign_key": "celery_monitor_task_worker_fk",
        }
        found = constraints(schema_editor, task, "worker_id")
        keys = {key: spec["foreign_key"] for key, spec in found.items()}
        statements = self.SQL[connection.vendor]
        row_format = "DYNAMIC"
        if connection.vendor == "mysql":
            row_format = self.row_format(schema_editor, task)
            referring = [key for key, table in keys.items() if table]
            if referring:
                names["foreign_key"] = referring[0]
            else:  # an earlier run was interrupted after the first statement
                statements = statements[1:]
        target = (worker._meta.db_table, "id")
        if connection.vendor == "sqlite" and target not in keys.values():
            wide = to_state.apps.get_model(app_label, "taskstate")
            self.mend_foreign_key(schema_editor, task, wide)
        quoted = {key: schema_editor.quote_name(name) for key, name in names.items()}
        for statement in statements:
            schema_editor.execute(statement.format(row_format=row_format, **quoted))

    def row_format(
        self, schema_editor: BaseDatabaseSchemaEditor, task: type[models.Model]
    ) -> str:
        """Return what InnoDB is to store tasks in: no format older than DYNAMIC."""
        with schema_editor.connection.cursor() as cursor:
            cursor.execute(
                "SELECT row_format FROM information_schema.tables"
                " WHERE table_schema = DATABASE() AND table_name = %s",
                [task._meta.db_table],
            )
            (used,) = cursor.fetchone()
        return "COMPRESSED" if used.upper() == "COMPRESSED" else "DYNAMIC"

    def mend_foreign_key(
        self,
        schema_editor: BaseDatabaseSchemaEditor,
        task: type[models.Model],
        wide: type[models.Model],
    ) -> None:
        """Copy the table of tasks on SQLite, so that it refers to that of workers.

        Migration 0002 copied the table of workers, under Django before 2.1.5, from a
        temporary name, to which SQLite since 3.26 points the foreign key.
        """
        old, new = (
            cast("models.Field[Any, Any]", model._meta.get_field("name"))
            for model in (task, wide)
        )
        schema_editor.alter_field(task, old, new)

    def database_backwards(self, *args: Any) -> None:
        """Leave the columns wide."""


class AddIndexOnline(migrations.AddIndex):
    """Add an index without blocking writers where the database can do that.

    The migration must not be atomic. It may be run again after an interruption.
    """

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Create the index, concurrently on PostgreSQL."""
        model = to_state.apps.get_model(app_label, self.model_name)
        if not self.allow_migrate_model(schema_editor.connection.alias, model):
            return
        online = concurrently(schema_editor)
        if online:
            # What an interrupted run leaves is invalid, yet has the name.
            schema_editor.remove_index(model, self.index, **online)
        elif self.index.name in constraints(schema_editor, model):
            return
        schema_editor.add_index(model, self.index, **online)

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Drop the index, concurrently on PostgreSQL."""
        model = from_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            schema_editor.remove_index(model, self.index, **concurrently(schema_editor))


class RemoveColumnIndex(migrations.AlterField):
    """Take ``db_index`` from a column whose work a longer index does.

    Nothing but the indexes is touched, where Django would copy the table on SQLite.
    """

    def database_forwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Drop every index of the column alone, whatever its name."""
        model = from_state.apps.get_model(app_label, self.model_name)
        if not self.allow_migrate_model(schema_editor.connection.alias, model):
            return
        field = model._meta.get_field(self.name)
        for name, spec in constraints(schema_editor, model, field.column).items():
            if spec["index"] and not spec["unique"]:
                schema_editor.remove_index(
                    model,
                    models.Index(fields=[self.name], name=name),
                    **concurrently(schema_editor),
                )

    def database_backwards(
        self,
        app_label: str,
        schema_editor: BaseDatabaseSchemaEditor,
        from_state: ProjectState,
        to_state: ProjectState,
    ) -> None:
        """Create a plain index of the column again."""
        model = to_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            name = f"celery_monitor_task_{self.name}_id"
            schema_editor.add_index(
                model,
                models.Index(fields=[self.name], name=name),
                **concurrently(schema_editor),
            )


def concurrently(schema_editor: BaseDatabaseSchemaEditor) -> dict[str, bool]:
    """Return what makes PostgreSQL's schema editor leave the table usable."""
    online = schema_editor.connection.vendor == "postgresql"
    return {"concurrently": True} if online else {}


def constraints(
    schema_editor: BaseDatabaseSchemaEditor,
    model: type[models.Model],
    column: str | None = None,
) -> dict[str, Any]:
    """Return the constraints and indexes of a table, or those of one column alone."""
    connection = schema_editor.connection
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, model._meta.db_table)
    return {
        name: spec
        for name, spec in found.items()
        if column is None or spec["columns"] == [column]
    }
