"""Stage 4: pass rates and selection."""
