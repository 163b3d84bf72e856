"""The values and errors that users meet."""
