"""The documentation site: its pages are docs/*.md, and what is generated comes from the code."""
