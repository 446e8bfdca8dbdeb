"""A handful of samples through every stage, shown, and what the full run will take."""
