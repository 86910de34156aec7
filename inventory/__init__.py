"""Who held which address when, and which policies were in force."""
