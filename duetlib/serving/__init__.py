"""Device and cloud for real: the wire format, both ends, and what is exported for them."""
