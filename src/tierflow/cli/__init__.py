"""The command line: one entry point, one module a command."""
