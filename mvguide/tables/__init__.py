"""The lambda table, and how it is found."""
