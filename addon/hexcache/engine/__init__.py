"""The cache itself: what is served, fetched and kept."""
