"""Images for people: sheets, plots, error maps."""
