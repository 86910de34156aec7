"""The numpy core of the streams: pure functions over columns."""
