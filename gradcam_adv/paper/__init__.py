"""What the paper says, what a run measured, and what of it holds; by reading and by seed."""
