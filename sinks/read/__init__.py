"""The read side: one interface to the stores, whichever they are."""
