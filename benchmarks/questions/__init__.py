"""One module a question; each measures it once when asked."""
