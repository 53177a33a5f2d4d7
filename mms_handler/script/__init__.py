"""The user's script: where it is, how it is imported, and what its functions are passed."""
