"""Images, videos and camera files: reading what people have, writing so that nothing is left half-written."""
