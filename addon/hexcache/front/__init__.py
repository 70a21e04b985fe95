"""Where clients come in: mitmproxy, and what only it needs."""
