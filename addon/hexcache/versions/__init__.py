"""Elixir's version requirements, and the choice of releases."""
