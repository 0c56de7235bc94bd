"""Session descriptions (RFC 8866): a tolerant parser that keeps the order and what it does not know, and its inverse."""
