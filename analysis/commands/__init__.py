"""`python -m analysis`, a file a command."""
