"""The user's script: find it, install its requirements, import it, and bind its functions."""
