"""The base model, and every model made from it, as something that can be sampled."""
