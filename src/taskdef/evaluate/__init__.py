"""Stage 6: held-out accuracy and its statistics."""
