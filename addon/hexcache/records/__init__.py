"""What is counted and remembered of what was done."""
