"""Fuzzing: every reader of bytes from outside, and the server's sockets; ``python -m benchmarks.fuzz``."""
