"""What performs actions: HTTP callbacks, commands and scripts."""
