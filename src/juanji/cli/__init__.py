"""The `juanji` program: one thin file for each command."""
