"""``mvguide view``: cameras, points and images in the browser, with viser."""
