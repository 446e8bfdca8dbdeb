"""Stage 1: from keywords to passages."""
