"""The status page: what this Hexcache does, for people. It only ever reads."""
