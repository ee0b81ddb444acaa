"""The commands: each function takes the settings object of its command."""
