"""The line to Hex."""
