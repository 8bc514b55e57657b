"""Pictures, all by matplotlib and all as SVG: the same figures give the same bytes."""
