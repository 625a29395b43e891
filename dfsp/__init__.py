"""Response rates of a handful of small single-arm studies, and how far to trust them."""
