"""The task definition: load it, lint it, packs of known tasks."""
