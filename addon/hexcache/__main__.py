"""`python -m hexcache`."""

from hexcache.cli import main

main(prog_name="hexcache")
