"""An app of the project, whose tasks are tracked."""
