"""Pictures for people: sheets, plots, error maps."""
