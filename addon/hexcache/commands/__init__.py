"""The subcommands of `hexcache`, a file for each group of them."""
