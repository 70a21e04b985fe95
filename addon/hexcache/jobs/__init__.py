"""What changes the store by itself or for a command, in the server or without one."""
