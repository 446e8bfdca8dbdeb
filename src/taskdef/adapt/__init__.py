"""Stage 3: difficulty adaptation."""
