"""What travels on each topic: fields, types, versions; encode, decode, validate."""
