"""An app of a project that has its tasks tracked."""
