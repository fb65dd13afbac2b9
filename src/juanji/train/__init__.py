"""Training: the loop, pictures in memory, and recipes."""
