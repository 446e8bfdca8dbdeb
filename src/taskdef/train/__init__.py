"""Stage 5: reinforcement learning on the selected samples."""
