"""What it does, for people and for Prometheus."""
