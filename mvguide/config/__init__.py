"""Settings of the command line: one dataclass is options, YAML file and documentation at once."""
